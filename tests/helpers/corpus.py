"""Malformed input by seed: images (AVIF and PDF hold the time as well), tables, folders, JSON."""

import functools
import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from painterjax.data import synthetic

SIDE = 64
ABSURD = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
CLOSED = {"BLP": "P", "SPIDER": "F"} | dict.fromkeys(
    ("DDS", "DIB", "EPS", "ICNS", "ICO", "PCX", "PDF", "QOI", "SGI", "TGA"), "RGB"
)
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a picture"

# A name, the kind of image, Pillow's name of the format, and options for saving.
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpeg": ("RGB", "JPEG", {"exif": EXIF, "comment": b"c"}),
    "jpeg progressive": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "jpeg gray": ("L", "JPEG", {"optimize": True}),
    "jpeg cmyk": ("CMYK", "JPEG", {}),
    "mpo": ("RGB", "MPO", {"save_all": True}),
    "png": ("RGB", "PNG", {"exif": EXIF}),
    "png alpha": ("alpha", "PNG", {}),
    "png palette": ("palette", "PNG", {"transparency": 3}),
    "png 16 bits": ("16 bits", "PNG", {}),
    "png 1 bit": ("1", "PNG", {}),
    "png animated": ("RGB", "PNG", {"save_all": True}),
    "gif": ("palette", "GIF", {"transparency": 3}),
    "gif animated": ("RGB", "GIF", {"save_all": True, "disposal": 2}),
    "bmp": ("RGB", "BMP", {}),
    "bmp palette": ("palette", "BMP", {}),
    "bmp alpha": ("alpha", "BMP", {}),
    "tiff": ("RGB", "TIFF", {"exif": EXIF}),
    "tiff float": ("gray float", "TIFF", {}),
    "tiff 16 bits": ("16 bits", "TIFF", {}),
    "tiff pages": ("RGB", "TIFF", {"save_all": True}),
    "tiff group4": ("1", "TIFF", {"compression": "group4"}),
    "tiff cmyk": ("CMYK", "TIFF", {"compression": "packbits"}),
    "webp": ("RGB", "WEBP", {"exif": EXIF}),
    "webp lossless": ("alpha", "WEBP", {"lossless": True}),
    "webp animated": ("RGB", "WEBP", {"save_all": True}),
    "jpeg 2000": ("RGB", "JPEG2000", {}),
    "jpeg 2000 stream": ("L", "JPEG2000", {"no_jp2": True, "tile_size": (32, 32)}),
    "avif": ("RGB", "AVIF", {"exif": EXIF}),
    "avif animated": ("RGB", "AVIF", {"save_all": True}),
    "ppm": ("RGB", "PPM", {}),
    "pgm": ("16 bits", "PPM", {}),
    "pbm": ("1", "PPM", {}),
    "pfm": ("gray float", "PPM", {}),
    **{f"tiff {c}": ("RGB", "TIFF", {"compression": c})
       for c in ("jpeg", "tiff_adobe_deflate", "tiff_lzw", "lzma", "zstd")},
    **{f"closed {f}": (mode, f, {}) for f, mode in CLOSED.items()},
}  # fmt: skip


@functools.cache
def pictures() -> dict[str, bytes]:
    """A picture in every format that Pillow writes, in the kinds that its reader tells apart."""
    image = Image.fromarray(synthetic.paint(seed=0, artist=0, painting=0, size=SIDE))
    gray, alpha = image.convert("L"), image.convert("RGBA")
    alpha.putalpha(gray)
    kinds = {mode: image.convert(mode) for mode in ("RGB", "CMYK", "P", "F", "L", "1")}
    kinds |= {"alpha": alpha, "palette": image.quantize(16), "gray float": gray.convert("F")}
    kinds["16 bits"] = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    frames = {"append_images": [image.rotate(90), image.rotate(180)]}
    return {
        name: saved(kinds[kind], format_, **options, **(frames if "save_all" in options else {}))
        for name, (kind, format_, options) in KINDS.items()
    }


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of a format of Pillow's."""
    file = io.BytesIO()
    if "append_images" in options:
        options["append_images"] = [frame.copy() for frame in options["append_images"]]
    image.copy().save(file, kind, **options)  # Saving as JPEG leaves its options in an image.
    return file.getvalue()


def mutated(whole: dict[str, bytes], *, seed: int, index: int) -> tuple[str, bytes]:
    """Returns mutation `index` of the pictures."""
    rng = np.random.default_rng((seed, index))
    names = list(whole)
    name = names[index % len(names)]
    how = list(MUTATIONS)[index // len(names) % len(MUTATIONS)]
    data = bytearray(whole[name])
    if how == "spliced":
        data = data[: len(data) // 2] + whole[names[rng.integers(len(names))]]
    else:
        MUTATIONS[how](data, rng)
    return f"{name}, {how} {index}", bytes(data)


def _flip(data: bytearray, rng: np.random.Generator, *, count: int, end: int | None = None) -> None:
    for place in rng.integers(min(len(data), end or len(data)), size=count):
        data[place] ^= 1 << rng.integers(8)


def _stomp(data: bytearray, rng: np.random.Generator) -> None:
    """Absurd numbers where a header may have sizes, counts and offsets."""
    for place in rng.integers(max(1, min(len(data), 512) - 4), size=2):
        order, width = rng.choice((">", "<")), rng.choice(("H", "I"))
        value = int(rng.choice(ABSURD)) % 2 ** (16 if width == "H" else 32)
        struct.pack_into(order + width, data, place, value)


def _overwrite(data: bytearray, rng: np.random.Generator, value: int | None) -> None:
    start = int(rng.integers(len(data)))
    end = min(len(data), start + int(rng.integers(1, 200)))
    noise = rng.bytes(end - start)
    data[start:end] = noise if value is None else bytes([value]) * (end - start)


def _move(data: bytearray, rng: np.random.Generator, copies: int) -> None:
    start = int(rng.integers(len(data)))
    end = min(len(data), start + int(rng.integers(1, 200)))
    data[start:end] = data[start:end] * copies


MUTATIONS: dict[str, Callable[[bytearray, np.random.Generator], None]] = {
    "one bit": functools.partial(_flip, count=1),
    "bits": functools.partial(_flip, count=16),
    "header bits": functools.partial(_flip, count=3, end=64),
    "absurd numbers": _stomp,
    "zeros": lambda data, rng: _overwrite(data, rng, 0),
    "ones": lambda data, rng: _overwrite(data, rng, 255),
    "noise": lambda data, rng: _overwrite(data, rng, None),
    "removed": lambda data, rng: _move(data, rng, 0),
    "repeated": lambda data, rng: _move(data, rng, 50),
    "spliced": lambda data, rng: None,
}


def png(width: int, height: int, body: bytes, *extra: bytes, kind: int = 0, bits: int = 8) -> bytes:
    """A PNG with a header that may be a lie; kind 0 is gray, 2 is RGB."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(value: int, bits: int, *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A gray TIFF of one value, by the specification TIFF 6.0.

    In the photometric interpretation 0 white is 0; in the sample format 2 numbers are signed.
    """
    pixels = (value % 2**bits).to_bytes(bits // 8, "little") * SIDE**2
    tags = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: SIDE,
            279: len(pixels), 339: sample_format}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, word) for tag, word in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    assert len(head) == tags[273]
    return head + pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that refines nothing, again and again."""
    data = saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")  # The last scan, which refines what is zero.
    return data[:start] + data[start:-2] * scans + data[-2:]


def tables() -> dict[str, bytes]:
    """CSV files for `prepare csv` beside a folder with the pictures 0.png to 3.png."""
    head = b"file,artist\n"
    rows = b"0.png,a\n1.png,a\n2.png,b\n3.png,b\n"
    climbing = ("../outside.png", "../../outside.png", "x/../../outside.png", "/etc/passwd",
                "//0.png", ".", "..", "", " ", "~/0.png", "C:\\0.png", "fifo", "link", "circle",
                "x" * 5000, "a\0b", "0.png/1.png")  # fmt: skip
    return {
        "good": head + rows,
        **{f"climbing {file[:20]!r}": head + rows + f'"{file}",c\n'.encode() for file in climbing},
        "latin-1": "file,artist\n0.png,Cézanne\n".encode("latin-1"),
        "utf-16": (head + rows).decode().encode("utf-16"),
        "utf-8 mark": b"\xef\xbb\xbf" + head + rows,
        "overlong utf-8": head + b"\xc0\xaf,a\n",
        "surrogates": head + b"\xed\xa0\x80,a\n",
        "open quote": head + rows + b'"never closed,a\n',
        "quotes": head + b'"a"b"c","d""\n',
        "NULs": head + rows + b"\0\0\0,\0\n",
        "all NULs": bytes(10_000),
        "huge field": head + b"x" * 200_000 + b",a\n",
        "huge header": b"c" * 200_000 + b",file,artist\n",
        "huge artist": head + rows.replace(b"a\n", b"a" * 100_000 + b"\n"),
        "many columns": b",".join([b"file", b"artist", *[b"c"] * 50_000]) + b"\n",
        "duplicate columns": b"file,artist,artist\n0.png,a,b\n1.png,a,b\n",
        "duplicate rows": head + rows * 3,
        "no rows": head,
        "no header": b"",
        "blank lines": b"\n\n\n" + head + rows,
        "only newlines": b"\n" * 10_000,
        "carriage returns": (head + rows).replace(b"\n", b"\r"),
        "short row": head + b"0.png\n",
        "long row": head + b"0.png,a,b,c\n",
        "controls": head + rows + b"\x1b[2J\x07,a\n",
        "lines in names": head + b'"0.png\n1.png","a\r\nb"\n' + rows,
        "no artist": head + b"0.png,\n1.png,\n",
        "a picture": saved(Image.new("RGB", (SIDE, SIDE)), "PNG"),
        "html": b"<!DOCTYPE html><html>404</html>",
        "semicolons": (head + rows).replace(b",", b";"),
        "formulas": head + rows + b"=HYPERLINK(1),+1\n",
    }


def fill(folder: Path, data: dict[str, bytes]) -> None:
    """Makes artists' folders of a few good pictures, files of `data`, and all that is no file.

    There are links in circles and out of the folder, a pipe, a sparse file of a terabyte, deep and
    long names, and names that are no text.
    """
    for artist, painting in np.ndindex(3, 3):
        path = folder / f"artist {artist}" / f"{painting}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = synthetic.paint(seed=0, artist=artist, painting=painting, size=SIDE)
        Image.fromarray(pixels).save(path)
    bad = folder / "bad"
    bad.mkdir()
    for i, content in enumerate(data.values()):
        (bad / f"{i:05}.jpg").write_bytes(content)
    (bad / "circle").symlink_to(folder)
    (bad / "itself.jpg").symlink_to("itself.jpg")
    (bad / "nowhere.jpg").symlink_to("nowhere/at/all.jpg")
    (folder / "circle").symlink_to(folder)
    os.mkfifo(bad / "pipe.jpg")
    (bad / "link to a pipe.jpg").symlink_to("pipe.jpg")
    with open(bad / "huge.jpg", "wb") as file:
        file.truncate(2**40)
    (folder / Path(*["deep"] * 200)).mkdir(parents=True)
    for name in ("\x1b[2J\n.jpg", "x" * 250 + ".jpg", "..jpg", "‮gpj.exe.jpg", "=1+1,\";'.jpg"):
        (bad / name).write_bytes(b"no picture")
    with open(os.fsencode(bad) + b"/\xff\xfe.jpg", "wb") as file:
        file.write(b"no picture")


WRONG = (None, True, False, -1, 0, 1.5, -0.5, float("nan"), float("inf"), 10**30, "", "x", "\0",
         b"x", [], (), (1, 2, 3), ("a",), (0.5, "b"), {}, {"x": 1}, [[1]])  # fmt: skip


def json_damages(text: str, count: int, *, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yields `count` damages of a JSON object's text: of its bytes, and of its values' types."""
    yield from ((f"is {data[:20]!r}", data) for data in (
        b"", b"null", b"[]", b"3", b'"x"', b"{}", b"NaN", b"\xff\xfe", b"{" * 10, bytes(100),
        b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, text.encode("utf-16"),
    ))  # fmt: skip
    value, wrong = json.loads(text), [w for w in WRONG if not isinstance(w, bytes)]
    for path in _paths(value):
        yield f"without {'.'.join(path)}", json.dumps(_with(value, path)).encode()
        for each in wrong:
            yield f"{'.'.join(path)} is {each!r}", json.dumps(_with(value, path, each)).encode()
    for i in range(count):
        data, rng = bytearray(text.encode()), np.random.default_rng((seed, i))
        how = list(MUTATIONS)[i % (len(MUTATIONS) - 1)]
        MUTATIONS[how](data, rng)
        yield f"{how} {i}", bytes(data)


def _paths(value: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, inner in value.items():
        yield (key,)
        if isinstance(inner, dict):
            yield from ((key, *rest) for rest in _paths(inner))


def _with(value: dict[str, Any], path: tuple[str, ...], *new: Any) -> dict[str, Any]:
    """A copy with another value at a path; without a new value, without the key."""
    first, *rest = path
    if rest:
        return {**value, first: _with(value[first], tuple(rest), *new)}
    others = {key: inner for key, inner in value.items() if key != first}
    return {**others, first: new[0]} if new else others
