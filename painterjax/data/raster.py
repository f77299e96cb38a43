"""Pixels to what people look at: thumbnails, sheets of them, and JPEG."""

import base64
import io

import numpy as np
from PIL import Image, ImageDraw, ImageOps


def reduced(picture: bytes, size: int) -> np.ndarray:
    """Returns a JPEG file of ours as uint8 H x W x 3, of at most `size` pixels."""
    image = Image.open(io.BytesIO(picture))
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def center_square(height: int, width: int) -> tuple[int, int, int]:
    """Returns the left, the top and the side of what the network sees of a picture, in pixels.

    >>> center_square(100, 160)
    (30, 0, 100)
    """
    side = min(height, width)
    return (width - side) // 2, (height - side) // 2, side


def framed(picture: bytes, size: int) -> np.ndarray:
    """Returns a whole painting in the middle of a white square: uint8 `size` x `size` x 3.

    Where it is not square, a white line marks the center square that the network sees.
    """
    image = Image.fromarray(reduced(picture, size))
    left, top, side = center_square(image.height, image.width)
    if image.width != image.height:
        box = (left, top, left + side - 1, top + side - 1)
        ImageDraw.Draw(image).rectangle(box, outline="white")
    return np.asarray(ImageOps.pad(image, (size, size), color="white"))


def thumbnail(image_SxSxC: np.ndarray, size: int) -> np.ndarray:
    """Returns the image with a side of at most `size` pixels."""
    if len(image_SxSxC) <= size:
        return image_SxSxC
    image = Image.fromarray(image_SxSxC)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def sheet(image_NxSxSxC: np.ndarray, *, columns: int, gap: int = 0) -> np.ndarray:
    """Returns images row by row on one white sheet, with a gap below and to the right of each."""
    missing = -len(image_NxSxSxC) % columns
    padding = ((0, missing), (0, gap), (0, gap), (0, 0))
    image_NxSxSxC = np.pad(image_NxSxSxC, padding, constant_values=255)
    side = image_NxSxSxC.shape[1]
    image_RxKxSxSxC = image_NxSxSxC.reshape(-1, columns, side, side, 3)
    return image_RxKxSxSxC.swapaxes(1, 2).reshape(-1, columns * side, 3)


def jpeg(image_HxWxC: np.ndarray) -> bytes:
    """Returns the image as a JPEG file."""
    data = io.BytesIO()
    Image.fromarray(image_HxWxC).save(data, "JPEG", quality=85)
    return data.getvalue()


def jpeg_url(image_HxWxC: np.ndarray) -> str:
    """Returns the image as a data: URL."""
    return url_of_jpeg(jpeg(image_HxWxC))


def url_of_jpeg(data: bytes) -> str:
    """Returns a JPEG file as a data: URL."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
