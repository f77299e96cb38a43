"""Any pixels to sRGB: color profiles, integers of more than 8 bits, palettes, transparency."""

import contextlib
import functools
import io
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms


def black_and_white(image: Image.Image) -> tuple[int, int]:
    """Returns the values of black and white where pixels are integers of more than 8 bits.

    Only TIFF has other ones than 0 and 2^16 - 1.
    """
    tags = getattr(image, "tag_v2", {})
    if 2 in tags.get(ExifTags.Base.SampleFormat, ()):
        raise ValueError("signed pixels have no agreed black and white")
    most = 2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1
    white_is_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return (most, 0) if white_is_zero else (0, most)


def resizable(image: Image.Image, black: int, white: int) -> Image.Image:
    """Returns it with 8 bits a channel and without a palette; integers by black_and_white."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed white")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow reads 32 bits as signed.
        value_HxW = np.asarray(image).astype(np.uint32).astype(np.int64)
        if value_HxW.max() > max(black, white):
            raise ValueError(f"pixels beyond {max(black, white)}: their white is unknown")
        level_HxW = np.rint(255 / (white - black) * (value_HxW - black))
        return Image.fromarray(level_HxW.astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
    return image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode))


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Returns it as RGB by its profile, or if that does not fit as sRGB, over white."""
    has_alpha = image.mode in ("LA", "RGBA")
    color = image.convert(image.mode.removesuffix("A")) if has_alpha else image
    with contextlib.suppress(ImageCms.PyCMSError):  # A damaged profile, or that of another mode.
        if profile or color.mode == "LAB":
            transform = _transform(profile, color.mode)
            color = ImageCms.applyTransform(color, transform) or color
    color = color.convert("RGB")
    if not has_alpha:
        return color
    return Image.composite(color, Image.new("RGB", image.size, "white"), image.getchannel("A"))


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes | None, mode: str) -> Any:
    """What maps colors of a profile, or without one of CIELAB, to sRGB."""
    source = ImageCms.createProfile("LAB") if profile is None else io.BytesIO(profile)
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
