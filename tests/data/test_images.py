"""Decoding: every kind of file becomes the right pixels, every broken one a named reason."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from painterjax.data import images
from tests.helpers import corpus
from tests.helpers.corpus import saved as _saved

SIDE = 64
RED, GREEN, BLUE, WHITE = (220, 30, 40), (20, 160, 60), (30, 50, 200), (255, 255, 255)
CORNERS = (RED, GREEN, BLUE, WHITE)  # upper left, upper right, lower left, lower right


def _picture(side: int = SIDE) -> Image.Image:
    """Four squares of different colors."""
    image = Image.new("RGB", (side, side))
    half = side // 2
    for i, color in enumerate(CORNERS):
        image.paste(color, (i % 2 * half, i // 2 * half, (i % 2 + 1) * half, (i // 2 + 1) * half))
    return image


def _corners(image_SxSxC: np.ndarray) -> np.ndarray:
    """The pixels in the middle of the four squares: 4 x 3."""
    near, far = len(image_SxSxC) // 4, 3 * len(image_SxSxC) // 4
    return image_SxSxC[[near, near, far, far], [near, far, near, far]].astype(int)


def _gray(colors) -> np.ndarray:
    """ITU-R 601-2 luma, as Pillow and JPEG define it."""
    return np.repeat(np.asarray(colors) @ (0.299, 0.587, 0.114), 3).reshape(-1, 3)


def _transparent_picture() -> Image.Image:
    """The picture with its upper left square wholly transparent."""
    image = _picture().convert("RGBA")
    image.paste((*RED, 0), (0, 0, SIDE // 2, SIDE // 2))
    return image


def _png_of_16_bits(color: tuple[int, int, int]) -> bytes:
    """A PNG with 16 bits for each of RGB, which Pillow reads but does not write."""

    row = b"\0" + struct.pack(">HHH", *(257 * value for value in color)) * SIDE
    return corpus.png(SIDE, SIDE, zlib.compress(row * SIDE), kind=2, bits=16)


def _rotated(orientation: int) -> bytes:
    """A JPEG whose stored pixels lie on their side, with the EXIF tag that puts them upright."""
    turned = {3: 180, 6: 90, 8: 270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _saved(_picture().rotate(turned), "JPEG", quality=95, exif=exif)


def _with_damaged_exif() -> bytes:
    """A JPEG with a density, so that Pillow leaves its damaged EXIF alone until it is asked."""
    data = b"Exif\0\0II*\0\xff\xff\xff\x7f"
    return _saved(_picture(), "JPEG", quality=95, exif=data, dpi=(72, 72))


def _with_swapped_colorants(image: Image.Image) -> bytes:
    """A PNG whose profile takes the first channel for green and the second for red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = {bytes(profile[i : i + 4]): i for i in range(132, 132 + 12 * profile[131], 12)}
    red, green = at[b"rXYZ"], at[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return _saved(image, "PNG", icc_profile=bytes(profile))


def _lab(lightness: float, a: float, b: float) -> bytes:
    """A TIFF of one color; Pillow has a and b with 128 added."""
    levels = [round(255 / 100 * lightness), round(a) + 128, round(b) + 128]
    return _saved(Image.merge("LAB", [Image.new("L", (SIDE, SIDE), v) for v in levels]), "TIFF")


PICTURE, TRANSPARENT, CMYK = _picture(), _transparent_picture(), _picture().convert("CMYK")
GRAY, DEEP = PICTURE.convert("L"), Image.fromarray(np.full((SIDE, SIDE), 257 * 99, np.uint16))
GREEN_PAGE, BLUE_PAGE = (Image.new("RGB", (SIDE, SIDE), color) for color in (GREEN, BLUE))
PAGES = {"save_all": True, "append_images": [BLUE_PAGE]}
ON_WHITE = (WHITE, *CORNERS[1:])
GOOD = {
    "jpeg": (_saved(PICTURE, "JPEG", quality=95), CORNERS),
    "progressive jpeg": (_saved(PICTURE, "JPEG", quality=95, progressive=True), CORNERS),
    "png": (_saved(PICTURE, "PNG"), CORNERS),
    "bmp": (_saved(PICTURE, "BMP"), CORNERS),
    "webp": (_saved(PICTURE, "WEBP", lossless=True), CORNERS),
    "tiff": (_saved(PICTURE, "TIFF", compression="tiff_lzw"), CORNERS),
    "jpeg 2000": (_saved(PICTURE, "JPEG2000"), CORNERS),
    "avif": (_saved(PICTURE, "AVIF", quality=95), CORNERS),
    "palette": (_saved(PICTURE.quantize(8), "PNG"), CORNERS),
    "gif": (_saved(PICTURE.quantize(8), "GIF"), CORNERS),
    "cmyk jpeg": (_saved(CMYK, "JPEG", quality=95), CORNERS),
    "cmyk tiff": (_saved(CMYK, "TIFF"), CORNERS),
    "gray": (_saved(GRAY, "PNG"), _gray(CORNERS)),
    "gray jpeg": (_saved(GRAY, "JPEG", quality=95), _gray(CORNERS)),
    "rgba": (_saved(TRANSPARENT, "PNG"), ON_WHITE),
    "gray and alpha": (_saved(TRANSPARENT.convert("LA"), "PNG"), _gray(ON_WHITE)),
    "transparent gif": (_saved(TRANSPARENT, "GIF"), ON_WHITE),
    "16-bit png": (_png_of_16_bits(RED), [RED] * 4),
    "16-bit gray png": (_saved(DEEP, "PNG"), [(99, 99, 99)] * 4),
    "16-bit gray tiff": (_saved(DEEP, "TIFF"), [(99, 99, 99)] * 4),
    "32-bit gray tiff": (corpus.tiff(0x63636363, 32), [(99, 99, 99)] * 4),
    "32-bit gray tiff, nearly white": (corpus.tiff(0xFEFEFEFE, 32), [(254, 254, 254)] * 4),
    "with a profile": (_with_swapped_colorants(PICTURE), [c[1::-1] + c[2:] for c in CORNERS]),
    "with a profile and alpha": (
        _with_swapped_colorants(TRANSPARENT),
        [WHITE, *(c[1::-1] + c[2:] for c in CORNERS[1:])],
    ),
    "a profile of another kind": (_with_swapped_colorants(GRAY), _gray(CORNERS)),
    "a damaged profile": (_saved(PICTURE, "PNG", icc_profile=b"no profile"), CORNERS),
    # The red and the gray of sRGB in CIELAB with D50, by Bruce Lindbloom's calculator.
    "lab, red": (_lab(54.29, 80.81, 69.89), [(255, 0, 0)] * 4),
    "lab, gray": (_lab(53.59, 0, 0), [(128, 128, 128)] * 4),
    "1-bit": (_saved(Image.new("1", (SIDE, SIDE), 1), "PNG"), [WHITE] * 4),
    "animated gif": (_saved(GREEN_PAGE, "GIF", **PAGES), [GREEN] * 4),
    "animated webp": (_saved(GREEN_PAGE, "WEBP", lossless=True, **PAGES), [GREEN] * 4),
    "several photographs": (_saved(PICTURE, "MPO", quality=95, **PAGES), CORNERS),
    "damaged exif": (_with_damaged_exif(), CORNERS),
    "rotated by 180": (_rotated(3), CORNERS),
    "rotated to the left": (_rotated(6), CORNERS),
    "rotated to the right": (_rotated(8), CORNERS),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("size", [32, 128])
def test_every_kind_of_file_becomes_the_right_pixels(kind, size):
    data, expected = GOOD[kind]
    image_SxSxC = images.decode(data, size=size)
    assert image_SxSxC.shape == (size, size, 3)
    assert image_SxSxC.dtype == np.uint8
    # JPEG, AVIF and the way through CMYK move a saturated color by some levels.
    np.testing.assert_allclose(_corners(image_SxSxC), expected, atol=9)


@pytest.mark.parametrize("shape", [(96, 64), (64, 96)])
def test_the_center_is_cropped(shape):
    image = Image.new("RGB", shape, RED)
    left, top = (shape[0] - 64) // 2, (shape[1] - 64) // 2
    image.paste(_picture(64), (left, top))
    np.testing.assert_array_equal(
        images.decode(_saved(image, "PNG"), size=64), np.asarray(_picture(64))
    )


@pytest.mark.parametrize("is_tall", [False, True])
@pytest.mark.parametrize(
    ("length", "most", "starts"),
    [
        (64, 9, [0]),
        (96, 9, [16]),  # 3 : 2
        (100, 9, [0, 18, 36]),
        (128, 9, [0, 32, 64]),
        (160, 9, [0, 24, 48, 72, 96]),
        (64 * 9, 9, [64 * i for i in range(9)]),
        (128, 1, [32]),
    ],
)
def test_a_long_picture_becomes_squares_all_along_it(length, most, starts, is_tall):
    pixels = np.random.default_rng(0).integers(0, 256, (64, length, 3), dtype=np.uint8)
    image = Image.fromarray(pixels.swapaxes(0, 1) if is_tall else pixels)
    expected = [pixels[:, start : start + 64] for start in starts]
    if is_tall:
        expected = [square.swapaxes(0, 1) for square in expected]
    square_KxSxSxC = images.to_squares(image, size=64, most=most)
    np.testing.assert_array_equal(square_KxSxSxC, np.stack(expected))
    center_SxSxC = images.to_square(image, size=64)
    np.testing.assert_array_equal(square_KxSxSxC[len(starts) // 2], center_SxSxC)


def test_large_jpegs_decode_at_a_reduced_size_to_the_same_picture():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
    image = noise.resize((1536, 1536), Image.Resampling.BICUBIC)
    reduced = images.decode(_saved(image, "JPEG", quality=95), size=64).astype(int)
    whole = images.decode(_saved(image, "PNG"), size=64)
    assert np.abs(reduced - whole).mean() < 2
    assert whole.std() > 30


BOMB = _saved(Image.new("1", (20_000, 20_000)), "PNG")
HUGE_HEADER = _png_of_16_bits(RED)[:16] + struct.pack(">II", 10**6, 10**6) + b"\x08\x02\0\0\0"
BAD = {
    "empty": (b"", "empty file"),
    "text": (b"This is a note about a painting.", "not an image that can be read"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>" * 20, "not an image that can be read"),
    "closed format": (_saved(_picture(), "EPS"), "not an image that can be read"),
    "truncated jpeg": (GOOD["jpeg"][0][:700], "damaged image"),
    "truncated png": (GOOD["png"][0][:150], "damaged image"),
    "truncated header": (GOOD["jpeg"][0][:12], "not an image that can be read"),
    "bomb": (BOMB, "more than 89478485 pixels"),
    "absurd header": (HUGE_HEADER, "not an image that can be read|more than"),
    "narrow": (_saved(Image.new("RGB", (31, 400)), "PNG"), "31 x 400 pixels: a side is below 32"),
    "floating point": (
        _saved(Image.fromarray(np.ones((SIDE, SIDE), np.float32)), "TIFF"),
        "floating-point pixels have no agreed white",
    ),
    "8 bits, signed": (corpus.tiff(-100, 8, sample_format=2), "signed pixels have no agreed"),
    "16 bits, signed": (corpus.tiff(-10_000, 16, sample_format=2), "signed pixels have no agreed"),
    "32 bits, signed": (corpus.tiff(-(10**9), 32, sample_format=2), "signed pixels have no agreed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_picture_is_refused_with_the_reason(kind):
    data, reason = BAD[kind]
    with pytest.raises(images.ImageError, match=reason):
        images.decode(data, size=64)


def test_a_full_memory_is_not_the_file_s_fault(monkeypatch):
    """While an image is turned, as while it is decoded."""

    def full(_image):
        raise MemoryError

    monkeypatch.setattr(ImageOps, "exif_transpose", full)
    with pytest.raises(MemoryError):
        images.decode(GOOD["rotated by 180"][0], size=32)


def _icc(space: bytes, connection: bytes, **tags: bytes) -> bytes:
    """A color profile of version 2 for printers, by the ICC's specification."""
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = b"\0\0\0\0\x02\x40\0\0prtr" + space + connection + bytes(12) + b"acsp" + bytes(28)
    white = _xyz(0.9642, 1, 0.8249)[8:]
    rest = head + white + bytes(48) + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", 4 + len(rest)) + rest


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * value))


def _inks() -> bytes:
    """The table of a CMYK profile that lies in CIELAB between the 16 full overprints of inks."""
    lab_16x3 = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lab_3 = np.array([242 - 76 * c - 102 * m - 20 * y, 70 * m - 30 * c, 85 * y - 45 * c])
        lab_16x3 += [*(lab_3 * (1 - k) + (0, 128, 128))]
    table = bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    return b"mft1\0\0\0\0" + table + bytes(range(256)) * 4 + bytes(lab_16x3) + bytes(range(256)) * 3


def _one_color(mode: str, values, kind: str = "TIFF", **options) -> bytes:
    return _saved(Image.new(mode, (SIDE, SIDE), values), kind, **options)


ADOBE_RGB = _icc(
    b"RGB ", b"XYZ ", wtpt=_xyz(0.9505, 1, 1.0891), rXYZ=_xyz(0.60974, 0.31111, 0.01947),
    gXYZ=_xyz(0.20528, 0.62567, 0.06087), bXYZ=_xyz(0.14919, 0.06322, 0.74457),
    rTRC=_gamma(2.2), gTRC=_gamma(2.2), bTRC=_gamma(2.2),
)  # fmt: skip
DARK_GRAY = _icc(b"GRAY", b"XYZ ", wtpt=_xyz(0.9642, 1, 0.8249), kTRC=_gamma(1.8))
PRINTED = _icc(b"CMYK", b"Lab ", wtpt=_xyz(0.9642, 1, 0.8249), A2B0=_inks())
PALETTE = Image.new("P", (SIDE, SIDE), 1)
PALETTE.putpalette([0, 0, 0, 90, 140, 200])
DEEP_GRAY = Image.fromarray(np.full((SIDE, SIDE), 40_000, np.uint16))
# The color by ImageMagick 6.9.11:
#   convert FILE -profile srgb.icc -background white -flatten \
#     -format '%[fx:255*u.r] %[fx:255*u.g] %[fx:255*u.b]' info:
# where srgb.icc is ImageCms.createProfile("sRGB"), with -colorspace sRGB in the place of -profile
# for CMYK without one. ImageMagick takes CIELAB's white for D65; Pillow's TIFFs have D50, as ICC
# has it, so LAB is by the formulas of CIELAB and IEC 61966-2-1 instead.
REFERENCE = {
    "RGB": (_one_color("RGB", (90, 140, 200)), (90, 140, 200)),
    "RGB, profile": (
        _one_color("RGB", (90, 140, 200), icc_profile=ADOBE_RGB),
        (52.5, 141.3, 203.4),
    ),
    "RGBA": (_one_color("RGBA", (90, 140, 200, 100), "PNG"), (190.3, 209.9, 233.4)),
    "RGBA, profile": (
        _one_color("RGBA", (90, 140, 200, 100), "PNG", icc_profile=ADOBE_RGB),
        (175.6, 210.4, 234.8),
    ),
    "L": (_one_color("L", 100), (100, 100, 100)),
    "L, profile": (_one_color("L", 100, icc_profile=DARK_GRAY), (119.25, 119.25, 119.25)),
    "LA": (_one_color("LA", (100, 50), "PNG"), (224.6, 224.6, 224.6)),
    "P": (_saved(PALETTE, "PNG"), (90, 140, 200)),
    "P, profile": (_saved(PALETTE, "PNG", icc_profile=ADOBE_RGB), (52.5, 141.3, 203.4)),
    "CMYK": (_one_color("CMYK", (200, 100, 50, 30)), (48.5, 136.8, 180.9)),
    "CMYK, dark": (_one_color("CMYK", (20, 220, 120, 130)), (115.2, 17.2, 66.2)),
    "CMYK, JPEG": (
        _one_color("CMYK", (20, 220, 120, 130), "JPEG", quality=100),
        (115.2, 17.2, 66.2),
    ),
    "CMYK, profile": (
        _one_color("CMYK", (200, 100, 50, 30), icc_profile=PRINTED),
        (99.5, 124.8, 164.5),
    ),
    "CMYK, profile, JPEG": (
        _one_color("CMYK", (200, 100, 50, 30), "JPEG", quality=100, icc_profile=PRINTED),
        (99.5, 124.8, 164.5),
    ),
    "LAB": (_lab(60, 30, -40), (169.1, 126.6, 215.9)),
    "I;16": (_saved(DEEP_GRAY, "TIFF"), (155.6, 155.6, 155.6)),
    "I;16, profile": (
        _saved(DEEP_GRAY, "TIFF", icc_profile=DARK_GRAY),
        (171.7, 171.7, 171.7),
    ),
    "I;16, white is 0": (corpus.tiff(10_000, 16, photometric=0), (216.1, 216.1, 216.1)),
    "I": (corpus.tiff(2_600_000_000, 32), (154.4, 154.4, 154.4)),
    "L, white is 0": (corpus.tiff(100, 8, photometric=0), (155, 155, 155)),
    "16-bit RGB": (_png_of_16_bits((90, 140, 200)), (90, 140, 200)),
}


@pytest.mark.parametrize("mode", REFERENCE)
def test_colors_are_those_of_a_reference(mode):
    data, expected = REFERENCE[mode]
    image_SxSxC = images.decode(data, size=32)
    # Levels are rounded once by the profile and once over white, by half a level at most each.
    np.testing.assert_allclose(image_SxSxC[16, 16], expected, atol=1)


def _heic() -> bytes:
    """The head of such a file, which is all that is read without pillow-heif."""
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_a_heic_image_is_read():
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs pip install -e '.[heif]'")
    data = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(data, quality=95)
    found_SxSxC = images.decode(data.getvalue(), size=32).astype(int)
    assert np.abs(found_SxSxC - images.to_square(PICTURE, size=32)).mean() < 8


def test_without_the_extra_a_heic_image_says_what_reads_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(
        images, "_reads_heif", images._reads_heif.__wrapped__
    )  # Nothing is remembered.
    with pytest.raises(images.ImageError, match=r"HEIC image.*pip install 'painterjax\[heif\]'"):
        images.decode(_heic(), size=32)
