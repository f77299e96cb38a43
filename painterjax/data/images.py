"""Image files to uint8 pixels, or to the reason why not."""

import functools
import hashlib
import io
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import imagehash
import numpy as np
from PIL import Image, ImageOps

from painterjax.common.errors import InputError
from painterjax.data import colors, raster

# What museums and web collections use. Other formats are refused: some of Pillow's readers start
# other programs (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM", "AVIF")
# With pillow-heif; the brands of such files, as their bytes 8 to 12 have them.
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
NEEDS_HEIF = "a HEIC image, which pip install 'painterjax[heif]' lets this program read"
# Another number for other pixels of the same file, so that vectors of both are not mixed.
# 2: gray TIFFs of more than 8 bits may have white as 0; signed integers are refused.
DECODING = 2
MIN_SIDE = 32
MAX_SIZE = 4096  # of a decoded square
# Pillow's own limit, about 9,459 x 9,459 pixels: a quarter of a gigabyte once decoded.
MAX_PIXELS = 89_478_485
# Above the 0.7 GB of a file with MAX_PIXELS of four 16-bit channels.
MAX_BYTES = 2**30
# A progressive JPEG has some 10 scans. Each takes 0.1 s to decode at 9,400 x 9,400 pixels.
MAX_SCANS = 100
PICTURE_SIDE = 512  # of a picture for people, at most
HASH_SIDE = 16
# Standard deviation in gray levels. JPEG moves pixels by as much, so a flatter image has a hash of
# noise.
MIN_CONTRAST = 2
WIDE = 1.5  # times as long as high, or as high as long: beyond, the center square is too little
MOST_SQUARES = 9  # of one image


T = TypeVar("T")


class ImageError(ValueError):
    """The file cannot be decoded; the message is the reason."""


class FormatError(ImageError):
    """The file is not an image, or its format is not one of FORMATS."""


def decoding_of(info: Mapping[str, Any]) -> int:
    """Returns DECODING as a store or an export recorded it; those of earlier versions have 1."""
    return info.get("decoding", 1)


def check_decoding(what: Path, decoding: int) -> None:
    """Raises InputError where a store or a network is of pixels that new images would not get."""
    if decoding != DECODING:
        raise InputError(
            f"{what} is of decoding {decoding}, this version decodes images as {DECODING}: prepare"
            " the store again, and train on that"
        )


def read(path: Path) -> bytes:
    """Reads a file; raises ImageError where it is missing, not a regular file or too large."""
    try:
        if path.exists() and not path.is_file():
            raise ImageError("not a file")  # Reading a pipe may never end.
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"{size} bytes: more than {MAX_BYTES}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("file is missing") from error
    except OSError as error:
        raise ImageError(f"file cannot be read: {error.strerror}") from error


def decode(data: bytes, *, size: int) -> np.ndarray:
    """Decodes an image file, crops its center to a square and resizes it.

    Args:
      data: the whole file; its contents tell the format, not its name.
      size: the side S of the result in pixels.

    Returns:
      uint8 array of shape (S, S, 3): sRGB by the file's color profile, turned upright by EXIF, the
      first frame of an animation, 16-bit and 32-bit unsigned integers scaled to 8 bits,
      transparency over white. CMYK without a profile becomes (1 - C)(1 - K) and so on, as in
      ImageMagick: which inks they are is not known, and a guessed profile would be as arbitrary and
      depend on the system.

    Raises:
      ImageError: the file is empty, not an image, damaged, too small, too large or too slow.
    """
    return to_square(open_image(data), size=size)


def open_image(data: bytes) -> Image.Image:
    """Opens an image file without decoding its pixels; raises ImageError as `decode` does."""
    if not data:
        raise ImageError("empty file")
    is_heif = data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS
    reads_heif = is_heif and _reads_heif()
    formats = (*FORMATS, "HEIF") if reads_heif else FORMATS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about harmless damage in metadata.
        try:
            image = Image.open(io.BytesIO(data), formats=formats)
        except Image.DecompressionBombError as error:
            raise ImageError(f"more than {MAX_PIXELS} pixels") from error
        except MemoryError:
            raise  # Not the file's fault.
        except Exception as error:
            needs_heif = is_heif and not reads_heif
            reason = NEEDS_HEIF if needs_heif else "not an image that can be read"
            raise FormatError(reason) from error
        if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
            raise ImageError(f"more than {MAX_SCANS} scans")
        return image


@functools.cache
def _reads_heif() -> bool:
    """Whether pillow-heif is installed, which is loaded for HEIC images alone."""
    try:
        import pillow_heif  # type: ignore[import-not-found]
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def to_square(image: Image.Image, *, size: int) -> np.ndarray:
    """Crops and resizes an opened image as `decode` does; may reduce a JPEG not yet loaded.

    Raises:
      ImageError: the image is damaged, too small or too large.
    """
    return _loaded(image, lambda: _square(*_upright(image, (2 * size, 2 * size)), size))


def to_squares(image: Image.Image, *, size: int, most: int = MOST_SQUARES) -> np.ndarray:
    """Crops and resizes an opened image to squares all along it: uint8 K x S x S x 3.

    K is 1, and the square is that of `to_square`, unless the image is WIDE. Then K is odd, the
    square in the middle is that of `to_square`, and each overlaps the next by half at least, as far
    as `most` allow, which is odd.

    Raises:
      ImageError: the image is damaged, too small or too large.
    """
    side, longest = min(image.size), max(image.size)
    # Of the whole image, as a JPEG that is reduced has other sides.
    count = min(most, 2 * math.ceil(longest / side) - 1) if longest > WIDE * side else 1
    return _loaded(image, lambda: _squares(*_upright(image, (2 * size, 2 * size)), size, count))


def to_square_and_picture(
    data: bytes, image: Image.Image, *, size: int
) -> tuple[np.ndarray, bytes]:
    """Returns what `to_square` does, and the whole painting as people look at it.

    Args:
      data: the whole file.
      image: what `open_image` returned for it.
      size: the side of the square.

    Returns:
      The square, and a JPEG file of at most PICTURE_SIDE pixels, which is never enlarged.

    Raises:
      ImageError: as `to_square` does.
    """
    width, height = image.size
    square_SxSxC = to_square(image, size=size)
    scale = min(1, PICTURE_SIDE / max(width, height))
    least = (math.ceil(scale * width), math.ceil(scale * height))
    if max(image.size) < max(least):  # Reduced for a small square; its pixels must stay the same.
        image = open_image(data)
    return square_SxSxC, _loaded(image, lambda: _picture(*_upright(image, least)))


def to_picture(data: bytes) -> bytes:
    """Returns the picture of `to_square_and_picture`; raises ImageError as that does."""
    return to_square_and_picture(data, open_image(data), size=PICTURE_SIDE // 2)[1]


def _loaded(image: Image.Image, read: Callable[[], T]) -> T:
    """What `read` makes of an opened image; raises ImageError as `to_square` does."""
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} pixels: a side is below {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels: more than {MAX_PIXELS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of Pillow, about harmless damage.
            return read()
    except MemoryError:
        raise  # Not the file's fault.
    except Exception as error:  # Pillow's readers raise almost any type on damaged data.
        raise ImageError(f"damaged image: {error}") from error


def _upright(image: Image.Image, least: tuple[int, int]) -> tuple[Image.Image, bytes | None]:
    """The decoded image with 8 bits a channel, and its color profile."""
    # A JPEG decodes faster at 1/2, 1/4 or 1/8 of its size, of which `least` is kept.
    image.draft(None, least)
    image.load()
    profile, (black, white) = image.info.get("icc_profile"), colors.black_and_white(image)
    try:
        image = ImageOps.exif_transpose(image)
    except MemoryError:
        raise  # Not the file's fault.
    except Exception:
        pass  # Damaged metadata does not matter for the pixels.
    return colors.resizable(image, black, white), profile


def _square(image: Image.Image, profile: bytes | None, size: int) -> np.ndarray:
    # Profiles are slow, so they convert the small image.
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(colors.to_srgb(image, profile))


def _squares(image: Image.Image, profile: bytes | None, size: int, count: int) -> np.ndarray:
    if count == 1:
        return _square(image, profile, size)[None]
    (width, height), squares = image.size, []
    side = min(width, height)
    for number in range(count):
        start = number / (count - 1) * (max(width, height) - side)
        left, top = (start, 0.0) if width > height else (0.0, start)
        box = (left, top, left + side, top + side)
        square = image.resize((size, size), Image.Resampling.BICUBIC, box)
        squares.append(np.asarray(colors.to_srgb(square, profile)))
    return np.stack(squares)


def _picture(image: Image.Image, profile: bytes | None) -> bytes:
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC)
    return raster.jpeg(np.asarray(colors.to_srgb(image, profile)))


def fingerprint(image_SxSxC: np.ndarray) -> dict[str, str]:
    """Returns the SHA-256 of a decoded image's pixels and, unless it is flat, its perceptual hash.

    The hash (`imagehash.phash`) has 16 x 16 bits, in hexadecimal digits: which of the lowest
    frequencies of the gray image's cosine transform are above their median.
    """
    found = {"pixels_sha256": hashlib.sha256(image_SxSxC.tobytes()).hexdigest()}
    side = 4 * HASH_SIDE  # As imagehash would resize it.
    gray = Image.fromarray(image_SxSxC).convert("L").resize((side, side), Image.Resampling.LANCZOS)
    if np.asarray(gray).std() >= MIN_CONTRAST:
        found["phash"] = str(imagehash.phash(gray, HASH_SIDE))
    return found
