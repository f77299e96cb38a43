"""Images that training has used: copies of its paintings under any name, and no others."""

import numpy as np
import pytest
from PIL import Image

from painterjax import prepare
from painterjax.data import records, sources, store, synthetic
from painterjax.run.trained_on import images_used

SIZE = 48  # twice, so that a file has more pixels than a stored image
FLAT = Image.new("RGB", (2 * SIZE, 2 * SIZE), "navy")


def _painting(artist: int, number: int) -> Image.Image:
    return Image.fromarray(synthetic.paint(seed=0, artist=artist, painting=number, size=2 * SIZE))


@pytest.fixture
def made(tmp_path) -> store.Store:
    """Four artists' eight paintings; one is flat, and one has a copy that prepare left out."""
    for artist, number in np.ndindex(4, 8):
        path = tmp_path / "paintings" / f"{artist}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (FLAT if (artist, number) == (1, 0) else _painting(artist, number)).save(path)
    rows = ["file,artist,split"]
    split_of = {0: "train", 1: "train", 2: "val", 3: "test"}
    rows += [f"{a}/{n}.png,{a},{split_of[a]}" for a, n in np.ndindex(4, 8)]
    small = _painting(0, 3).resize((SIZE, SIZE))
    small.save(tmp_path / "paintings" / "0" / "copy.jpg", quality=70)
    (tmp_path / "list.csv").write_text("\n".join([*rows, "0/copy.jpg,0,train"]))
    prepare.main([
        "csv", "--input", str(tmp_path / "list.csv"), "--images", str(tmp_path / "paintings"),
        "--split-by", "column", "--image-size", str(SIZE), "--output", str(tmp_path / "store"),
    ])  # fmt: skip
    made = store.open_store(tmp_path / "store")
    files = [painting.file for painting in made.splits["train"].paintings]
    assert len(files) == 16 and "0/copy.jpg" not in files
    return made


USED = {
    "the same file, called otherwise": lambda path: _painting(0, 2).save(path, "PNG"),
    "recompressed": lambda path: _painting(1, 4).save(path, "JPEG", quality=60),
    "smaller": lambda path: _painting(0, 5).resize((60, 60)).save(path, "PNG"),
    "brighter": lambda path: _painting(0, 1).point(lambda v: 1.1 * v).save(path, "PNG"),
    "of validation": lambda path: _painting(2, 7).save(path, "PNG"),
    "flat": lambda path: FLAT.save(path, "BMP"),
    "a copy that was left out": lambda path: (
        _painting(0, 3).resize((SIZE, SIZE)).save(path, "JPEG", quality=70)
    ),
}
OTHERS = {
    "of the test": lambda path: _painting(3, 0).save(path, "PNG"),
    "of another artist": lambda path: _painting(7, 0).save(path, "PNG"),
    "of the same artist": lambda path: _painting(0, 9).save(path, "PNG"),
    "turned": lambda path: _painting(0, 2).rotate(90).save(path, "PNG"),
    "another flat one": lambda path: Image.new("RGB", (64, 64), "red").save(path, "PNG"),
    "broken": lambda path: path.write_bytes(b"no picture"),
}


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("chunk", [1, 5])
def test_a_copy_of_what_was_trained_on_is_found_under_any_name(made, tmp_path, chunk, monkeypatch):
    monkeypatch.setattr(records, "MAX_CHUNK", chunk)
    folder = tmp_path / "images"
    folder.mkdir()
    for name, save in {**USED, **OTHERS}.items():
        save(folder / name)
    (folder / "2.png").write_bytes((folder / "of another artist").read_bytes())  # A known name.
    source = sources.files_below(folder)
    assert images_used(made, source, source.paintings, workers=1) == {*USED}
    few = [painting for painting in source.paintings if painting.file in OTHERS]
    assert not images_used(made, source, few, workers=1)


@pytest.mark.usefixtures("no_workers")
def test_what_prepare_leaves_out_is_found_and_what_it_keeps_in_test_is_not(shared, tmp_path):
    """Of 48 real paintings, half of them trained on, and altered copies."""
    paintings = sorted((shared / "paintings" / "images").glob("*/*.jpg"))[:: 7023 // 48][:48]
    folder, copies = tmp_path / "paintings", tmp_path / "copies"
    for path in (folder, copies):
        path.mkdir()
    rows = ["file,artist,split"]
    for i, path in enumerate(paintings):
        (folder / f"{i}.jpg").symlink_to(path)
        with Image.open(path) as image:
            image.convert("RGB").resize((96, 96)).save(copies / f"copy {i}.webp", quality=80)
        rows.append(f"{i}.jpg,artist {i % 2},{'train' if i % 2 else 'test'}")
    table = tmp_path / "list.csv"
    table.write_text("\n".join(rows))
    prepare.main([
        "csv", "--input", str(table), "--images", str(folder), "--split-by", "column",
        "--image-size", "64", "--output", str(tmp_path / "store"),
    ])  # fmt: skip
    source = sources.files_below(copies)
    used = images_used(store.open_store(tmp_path / "store"), source, source.paintings, workers=1)
    assert used == {f"copy {i}.webp" for i in range(1, 48, 2)}
