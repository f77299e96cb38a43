"""Parquet files of images as a source, written as Hugging Face writes them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from painterjax import prepare
from painterjax.common.errors import InputError
from painterjax.data import parquet, store, synthetic

SIZE = 32
ARTISTS = ["Unknown Artist", "claude-monet", "paul-c\u00e9zanne", "edgar-degas"]
STYLES = ["Impressionism", "Cubism"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {
    "image": {"_type": "Image"},
    "artist": {"names": ARTISTS, "_type": "ClassLabel"},
    "style": {"names": STYLES, "_type": "ClassLabel"},
}
SCHEMA = pa.schema([("image", IMAGE), ("artist", pa.int64()), ("style", pa.int64())]).with_metadata(
    {"huggingface": json.dumps({"info": {"features": FEATURES}})}
)
FLAGS = ["--image-size", str(SIZE), "--workers", "1"]


def _png(artist: int, painting: int) -> bytes:
    pixels = synthetic.paint(seed=0, artist=artist, painting=painting, size=SIZE)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def _row(artist: int | None, painting: int, **other: Any) -> dict[str, Any]:
    of = artist or 0
    image = {"bytes": _png(max(of, 0), painting), "path": f"{painting}.png"}
    return {"image": image, "artist": artist, "style": of % 2, **other}


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=3)


@pytest.fixture
def parts(tmp_path) -> str:
    """Four paintings by each of three artists in two files, and rows that cannot be used."""
    rows = [_row(artist, painting) for artist in (1, 2, 3) for painting in range(4)]
    _write(tmp_path / "in" / "part-0.parquet", rows[:7])
    bad = [
        _row(1, 9, image=None), _row(1, 9, image={"bytes": None, "path": "elsewhere.png"}),
        _row(1, 9, image={"bytes": b"GIF89a", "path": None}),
        _row(None, 9), _row(-1, 9), _row(0, 9),
    ]  # fmt: skip
    _write(tmp_path / "in" / "part-1.parquet", [*bad, *rows[7:]])
    return str(tmp_path / "in" / "part-*.parquet")


def _prepare(*argv: str) -> store.Store:
    prepare.main(["parquet", *argv, *FLAGS])
    return store.open_store(argv[argv.index("--output") + 1])


def _files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.usefixtures("no_workers")
def test_hugging_face_s_files_become_a_store(parts, tmp_path):
    made = _prepare("--input", parts, "--output", str(tmp_path / "store"))
    with open(made.path / "rejected.csv", newline="", encoding="utf-8") as file:
        rejected = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    no_bytes, no_artist = "the row has no bytes of an image", "no artist in the table"
    reasons = [no_bytes, no_bytes, "not an image that can be read", *[no_artist] * 3]
    names = [f"part-1.parquet/{row:08}" for row in range(len(reasons))]
    assert rejected == dict(zip(names, reasons, strict=True))
    shown = set()
    for split in made.splits.values():
        for image_SxSxC, painting in zip(split.image_NxSxSxC, split.paintings, strict=True):
            part, row = int(painting.file[5]), int(painting.file[-8:])
            artist, number = divmod(row + part, 4)  # part-1 has six rows more before its seventh.
            shown.add((artist + 1, number))
            expected = synthetic.paint(seed=0, artist=artist + 1, painting=number, size=SIZE)
            np.testing.assert_array_equal(image_SxSxC, expected)
            assert painting.artist == ARTISTS[artist + 1]
            assert painting.style == STYLES[(artist + 1) % 2]
    assert len(shown) == sum(map(len, made.splits.values())) == 12
    assert made.splits["train"].picture(0)[:2] == b"\xff\xd8"  # The whole painting, as JPEG.


@pytest.mark.usefixtures("no_workers")
def test_bytes_alone_and_names_as_text_are_read_as_well(parts, tmp_path):
    """The same store as of structs and labels, but for how its table was called."""
    for path in (tmp_path / "in").iterdir():
        table = pq.read_table(path)
        names = {"artist": ["", *ARTISTS[1:]], "style": STYLES}
        text = {
            name: [None if i in (None, -1) else listed[i] for i in table[name].to_pylist()]
            for name, listed in names.items()
        }
        image = pa.array([image and image["bytes"] for image in table["image"].to_pylist()])
        plain = pa.table({"jpg": image, "painter": text["artist"], "style": text["style"]})
        (tmp_path / "plain").mkdir(exist_ok=True)
        pq.write_table(plain, tmp_path / "plain" / path.name)
    flags = ["--image-column", "jpg", "--artist-column", "painter"]
    plain = str(tmp_path / "plain" / "*.parquet")
    _prepare("--input", parts, "--output", str(tmp_path / "store"))
    _prepare("--input", plain, "--output", str(tmp_path / "other"), *flags)
    one, other = _files(tmp_path / "store"), _files(tmp_path / "other")
    assert one.pop("dataset.json") != other.pop("dataset.json")  # Of files of other sizes.
    assert one == other


@pytest.mark.usefixtures("no_workers")
def test_interrupted_and_in_shards_it_ends_with_the_same_bytes(parts, tmp_path, monkeypatch):
    _prepare("--input", parts, "--output", str(tmp_path / "store"))
    expected = _files(tmp_path / "store")
    argv = ["parquet", "--input", parts, *FLAGS, "--output"]
    for number in (2, 3, 1):
        prepare.main([*argv, str(tmp_path / "shards"), "--shard", f"{number}/3"])
    prepare.main([*argv, str(tmp_path / "shards")])
    assert _files(tmp_path / "shards") == expected

    opened = parquet.load_image

    def interrupted(painting, *rest, **more):
        if painting.file.endswith("part-1.parquet/00000006"):
            raise KeyboardInterrupt
        return opened(painting, *rest, **more)

    monkeypatch.setattr(parquet, "load_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.main([*argv, str(tmp_path / "again")])
    monkeypatch.undo()
    lines = (tmp_path / "again.partial" / "decoded.jsonl").read_text().splitlines()
    assert len(lines) == 8
    monkeypatch.setattr(prepare.store_builder.records.process_pool, "ordered_map",
                        lambda function, items, _: map(function, items))  # fmt: skip
    prepare.main([*argv, str(tmp_path / "again")])
    assert _files(tmp_path / "again") == expected


@pytest.mark.usefixtures("no_workers")
def test_the_table_s_split_and_choice_are_heeded(tmp_path):
    schema = SCHEMA.append(pa.field("split", pa.string())).append(pa.field("keep", pa.string()))
    rows = [
        _row(artist, painting, split="test" if painting < 2 else "train", keep="")
        for artist in (1, 2, 3)
        for painting in range(4)
    ]
    copy = {**rows[0], "artist": 2, "keep": "yes"}
    _write(tmp_path / "all.parquet", [*rows, copy], schema)
    argv = ["--input", str(tmp_path / "all.parquet"), "--output", str(tmp_path / "store")]
    made = _prepare(*argv, "--split-by", "column")
    rows_of = {name: [p.file[-8:] for p in split.paintings] for name, split in made.splits.items()}
    assert sorted(rows_of["test"]) == [f"{i:08}" for i in (1, 4, 5, 8, 9, 12)]
    assert made.splits["test"].paintings[-2].artist == ARTISTS[2]


def test_images_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    """Of 4,000 images of 10 kB in one row group Arrow never holds a tenth at once."""
    monkeypatch.setattr(parquet, "BATCH", 8)
    random = np.random.default_rng(0)
    data = [{"bytes": random.bytes(10_000), "path": None} for _ in range(4000)]
    table = pa.table({"image": pa.array(data, IMAGE), "artist": ["a"] * 4000})
    pq.write_table(table, tmp_path / "one.parquet", write_batch_size=16)  # Pages of a megabyte.
    assert pq.read_metadata(tmp_path / "one.parquet").num_row_groups == 1
    source = parquet.image_tables(str(tmp_path / "*.parquet"), image="image", artist="artist")
    before, most = pa.total_allocated_bytes(), 0
    read = parquet.read_images(tmp_path, "image", source.paintings)
    for expected, found in zip(data, read, strict=True):
        assert found == expected["bytes"]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 4_000_000


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)


REFUSALS = {
    "no match": (lambda path: path.unlink(), [], r"\*\.parquet matches no file: .*quotation"),
    "no image": (None, ["--image-column", "img"], "no column img but image, artist, style: name"),
    "no artist": (None, ["--artist-column", "x"], "no column x but image, .*--artist-column"),
    "a number as image": (None, ["--image-column", "style"], "column style of type int64, not bin"),
    "an image as artist": (None, ["--artist-column", "image"], "column image of type struct.*text"),
    "a cut file": (_cut, [], r"0\.parquet cannot be read .*copy it again"),
    "a damaged page": (_flipped, [], r"0\.parquet cannot be read .*copy it again"),
    "not Parquet": (lambda path: path.write_text("x" * 99), [], r"0\.parquet cannot be read"),
    "no names": (
        lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata(), path), [],
        "column (artist|style) of type int64, not text or integers with names",
    ),
    "another label": (
        lambda path: _write(path, [_row(99, 1)]), [],
        r"0\.parquet has the label 99 in column artist, which has 4 names",
    ),
    "no rows": (lambda path: _write(path, []), [], "no rows"),
}  # fmt: skip


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_read_is_refused_in_one_line(name, tmp_path):
    change, flags, message = REFUSALS[name]
    _write(path := tmp_path / "in" / "0.parquet", [_row(1, number) for number in range(3)])
    if change is not None:
        change(path)
    with pytest.raises(InputError, match=message) as refusal:
        argv = ["--input", str(tmp_path / "in" / "*.parquet"), "--output", str(tmp_path / "store")]
        _prepare(*argv, *flags)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "store").exists()
