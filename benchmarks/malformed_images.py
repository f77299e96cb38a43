"""Malformed image files, beside those of tests/helpers/corpus.py: crafted and truncated ones."""

import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from painterjax.data import synthetic
from tests.helpers.corpus import SIDE, chunk, many_scans, mutated, pictures, png, saved

LENGTHS = (1, 2, 3, 4, 8, 12, 16, 24, 32, 64, 128, 256, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, -2, -1)
MAGIC = (b"8BPS\0\1", b"/* XPM */", b"#define im_width 64\n", b"\xd7\xcd\xc6\x9a", b"SIMPLE  =   T",
         b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n", b"PK\3\4", b"\x7fELF",
         b"\x80\4\x95cposix\nsystem\n", b"GRIB", b"\x89HDF\r\n\x1a\n", b"\0\0\1\xba")  # fmt: skip


def images(count: int, *, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yields `count` files with their names: whole ones, crafted ones, truncations, mutations."""
    whole = pictures()
    cases = itertools.chain(whole.items(), crafted(), truncated(whole))
    yield from itertools.islice(
        itertools.chain(cases, (mutated(whole, seed=seed, index=i) for i in itertools.count())),
        count,
    )


def truncated(whole: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yields every picture at every class of lengths."""
    for (name, data), length in itertools.product(whole.items(), LENGTHS):
        end = int(length * len(data)) if isinstance(length, float) else length
        if abs(end) < len(data):
            yield f"{name}, cut at {length}", data[:end]


def crafted() -> Iterator[tuple[str, bytes]]:
    """Yields what no accident makes: bombs, absurd headers, deep metadata, and no images."""
    yield "empty", b""
    yield "noise", np.random.default_rng(0).bytes(4096)
    yield "zeros", bytes(4096)
    for magic in MAGIC:
        yield f"begins {magic[:8]!r}", magic + bytes(500)
    for width, height in ((0, 0), (0, 64), (31, 31), (1, 10**6), (20_000, 20_000), (10**9, 10**9)):
        yield from _sized(width, height)
    side = 9_400  # Just within the limit of pixels, and as little data as there can be.
    yield "bomb png", png(side, side, zlib.compress(bytes((1 + 3 * side) * side), 9), kind=2)
    yield "bomb 1 bit", saved(Image.new("1", (side, side)), "PNG")
    yield "bomb gif", saved(Image.new("P", (side, side)), "GIF")
    yield "bomb jpeg", saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    yield "bomb tiff", saved(Image.new("RGBA", (side, side)), "TIFF", compression="zstd")
    yield "bomb webp", saved(Image.new("RGB", (8000, 8000)), "WEBP", method=0)
    yield "bomb jpeg 2000", saved(Image.new("L", (4000, 4000)), "JPEG2000")
    yield "many scans", many_scans(4000, 20_000)
    yield from _deep_metadata()


def _sized(width: int, height: int) -> Iterator[tuple[str, bytes]]:
    """Headers alone that say a size, with some data."""
    size, body = f"{width} x {height}", zlib.compress(bytes(1000))
    yield f"png {size}", png(width, height, body)
    yield f"ppm {size}", f"P6 {width} {height} 255\n".encode() + bytes(1000)
    yield f"plain ppm {size}", f"P3 {width} {height} 255\n".encode() + b"1 " * 1000
    bmp = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, 0, 1, 1, 0, 0)
    yield f"bmp {size}", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + bmp + bytes(1000)
    narrow = struct.pack("<HH", width % 2**16, height % 2**16)
    yield f"gif {size}", b"GIF89a" + narrow + bytes(3) + b"," + bytes(4) + narrow + bytes(200)
    yield f"tiff {size}", _tiff([(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8),
                                 (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
                                 (278, 4, 1, height), (279, 4, 1, 2**31)])  # fmt: skip


def _tiff(tags: list[tuple[int, int, int, int]], *, next_ifd: int = 0, tags_said: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    count = struct.pack("<H", tags_said or len(tags))
    return b"II*\0" + struct.pack("<I", 8) + count + entries + struct.pack("<I", next_ifd)


def _deep_metadata() -> Iterator[tuple[str, bytes]]:
    body = zlib.compress(bytes(65 * SIDE))
    text = b"note\0\0" + zlib.compress(bytes(2**26), 9)
    yield "png text bomb", png(SIDE, SIDE, body, chunk(b"zTXt", text))
    yield "png texts", png(SIDE, SIDE, body, *[chunk(b"tEXt", b"k\0v")] * 50_000)
    profile = b"icc\0\0" + zlib.compress(bytes(2**26), 9)
    yield "png profile bomb", png(SIDE, SIDE, body, chunk(b"iCCP", profile))
    deep_xml = b"<x>" * 20_000
    image = Image.fromarray(synthetic.paint(seed=0, artist=0, painting=0, size=SIDE))
    yield "deep xmp", saved(image, "PNG", pnginfo=None, exif=b"Exif\0\0" + deep_xml)
    jpeg = saved(image, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 65_535) + b"http://ns.adobe.com/xap/1.0/\0"
    yield "xmp segments", jpeg[:2] + (segment + deep_xml[: 65_533 - 29]) * 300 + jpeg[2:]
    yield "comments", jpeg[:2] + b"\xff\xfe\0\2" * 200_000 + jpeg[2:]
    circle = _tiff([(0x8769, 4, 1, 8), (0x0112, 3, 1, 6)], next_ifd=8)
    exif = b"\xff\xe1" + struct.pack(">H", len(circle) + 8) + b"Exif\0\0" + circle
    yield "exif in a circle", jpeg[:2] + exif + jpeg[2:]
    tags = [(256, 3, 1, SIDE), (257, 3, 1, SIDE), (259, 3, 1, 1), (273, 4, 1, 8)]
    yield "tiff in a circle", _tiff(tags, next_ifd=8)
    yield "tiff of many tags", _tiff(tags, tags_said=65_535) + bytes(12 * 65_535)
    yield "tiff of long tags", _tiff([*tags, *((t, 5, 2**32 - 1, 8) for t in range(300, 400))])
    boxes = b"\0\0\0\0meta\0\0\0\0" * 20_000
    yield "avif of boxes", b"\0\0\0\x14ftypavif\0\0\0\0avif" + boxes
    jp2 = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 "
    yield "jpeg 2000 of boxes", jp2 + b"\0\0\0\0jp2h" * 20_000
    yield "webp of chunks", b"RIFF\xff\xff\xff\xffWEBP" + b"EXIF\xff\xff\xff\xff" * 20_000
    frame = b"!\xf9\4\0\0\0\0\0," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\2\0"
    head = b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0x80, 0, 0) + bytes(6)
    yield "gif of large frames", head + frame * 1000 + b";"
