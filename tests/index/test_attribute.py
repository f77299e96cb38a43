"""`attribute` and the API on a tiny run: tables, own pictures, other collections, wrong usage."""

import csv
import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import painterjax
from painterjax import attribute, embed, export, search
from painterjax.common.errors import InputError
from painterjax.data import store, synthetic
from painterjax.metrics.attribution import collect
from painterjax.run import embeddings
from painterjax.run import folder as run_folder
from painterjax.run.load import load_run


@pytest.fixture(scope="module")
def opened(run) -> store.Store:
    return store.open_store(run_folder.read_config(run).data.store)


@pytest.fixture(scope="module")
def pictures(opened, tmp_path_factory) -> Path:
    """Three of the store's test paintings, two new ones, and a broken file."""
    folder, test = tmp_path_factory.mktemp("pictures"), opened.splits["test"]
    (folder / "known").mkdir()
    for row in (0, 1, 9):
        Image.fromarray(test.image_NxSxSxC[row]).save(folder / "known" / f"{row}.png")
    for number in range(2):
        pixels = synthetic.paint(seed=5, artist=0, painting=number, size=40)
        Image.fromarray(pixels).save(folder / f"new-{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def _attribute(run: Path, images: Path, output: Path, *flags: str) -> dict[str, dict[str, str]]:
    argv = ["--run", run, "--images", images, "--output", output, "--workers", "1", *flags]
    attribute.main(list(map(str, argv)))
    return _rows(output)


@pytest.fixture(scope="module")
def table(run, pictures, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("attributed") / "table.csv"
    _attribute(run, pictures, path)
    return path


def _rows(table: Path) -> dict[str, dict[str, str]]:
    with open(table, newline="") as file:
        return {row.pop("file"): row for row in csv.DictReader(file)}


def test_the_table_has_the_likeliest_artists_and_someone_else(run, opened, table):
    """Against the formula on what `embed` gives, where an own picture is taken out by hand."""
    style, rows = painterjax.load(run), _rows(table)
    assert rows.keys() == {"known/0.png", "known/1.png", "known/9.png", "new-0.png", "new-1.png"}
    splits = opened.splits.values()
    store_NxD = np.concatenate([style.embed(np.array(s.image_NxSxSxC)) for s in splits])
    artists = [painting.artist for split in splits for painting in split.paintings]
    first = len(artists) - len(opened.splits["test"])
    embedded = embeddings.load(table.with_name("table.csv.npz"))
    model = load_run(run).needed_attribution()
    for painting, emb_D in zip(embedded.paintings, embedded.emb_NxD, strict=True):
        row, is_own = rows[painting.file], painting.file.startswith("known")
        own = [first + int(Path(painting.file).stem)] if is_own else []
        of = collect(np.delete(store_NxD, own, axis=0), np.delete(artists, own).tolist())
        found_B = model.probabilities(emb_D[None], of)[0]
        best = np.argsort(-found_B[:-1])[:5]
        assert row["in_collection"] == ("yes" if is_own else "no")
        # Four decimals, of float32 embeddings.
        assert float(row["someone_else"]) == pytest.approx(found_B[-1], abs=2e-3)
        for rank, artist in enumerate(best, 1):
            assert float(row[f"probability_{rank}"]) == pytest.approx(found_B[artist], abs=2e-3)
            name = row[f"artist_{rank}"]
            assert int(row[f"paintings_{rank}"]) == of.count_A[of.artists.index(name)]
        assert row["artist_1"] == of.artists[best[0]]
    assert table.with_name("table.csv.npz.rejected.csv").read_text().endswith("be read\n")


def test_the_collection_itself_is_asked_which_are_by_others_than_catalogued(
    run, opened, tmp_path, capsys
):
    table = tmp_path / "catalogue.csv"
    attribute.main(["--run", str(run), "--output", str(table)])
    printed = capsys.readouterr().out
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert not table.with_name("catalogue.csv.npz").exists()
    splits = opened.splits.values()
    paintings = [painting for split in splits for painting in split.paintings]
    emb_NxD = np.concatenate(
        [painterjax.load(run).embed(np.array(s.image_NxSxSxC)) for s in splits]
    )
    artists = np.array([painting.artist for painting in paintings])
    model, expected, doubtful = load_run(run).needed_attribution(), {}, 0
    for row, painting in enumerate(paintings):
        others = np.arange(len(paintings)) != row
        of = collect(emb_NxD[others], artists[others].tolist())
        found_B = model.probabilities(emb_NxD[row : row + 1], of)[0]
        expected[painting.file] = found_B[of.artists.index(painting.artist)]
        doubtful += found_B[:-1].max() > expected[painting.file]
    assert {row["file"] for row in rows} == expected.keys()
    found = [float(row["catalogued_probability"]) for row in rows]
    assert found == sorted(found)  # The least likely first.
    for row in rows:
        assert row["catalogued"] == row["file"].split("/")[0]
        # Four decimals, of float32 embeddings.
        assert float(row["catalogued_probability"]) == pytest.approx(
            expected[row["file"]], abs=2e-3
        )
    assert f"likelier by another artist than catalogued: {doubtful} of 64 pictures" in printed


def test_pictures_in_artists_folders_are_compared_with_these(run, opened, tmp_path):
    test = opened.splits["test"]
    for artist in (test.paintings[0].artist, "unknown"):
        folder = tmp_path / "pictures" / artist.upper()
        folder.mkdir(parents=True)
        Image.fromarray(test.image_NxSxSxC[0]).save(folder / "0.png")
    rows = _attribute(run, tmp_path / "pictures", tmp_path / "x.csv")
    own, other = rows[f"{test.paintings[0].artist.upper()}/0.png"], rows["UNKNOWN/0.png"]
    assert (own["catalogued"], other["catalogued"]) == (test.paintings[0].artist.upper(), "UNKNOWN")
    assert other["catalogued_probability"] == ""  # The collection has nobody of this name.
    numbered = {own[f"artist_{i}"]: own[f"probability_{i}"] for i in range(1, 6)}
    if test.paintings[0].artist in numbered:
        assert own["catalogued_probability"] == numbered[test.paintings[0].artist]
    else:
        assert float(own["catalogued_probability"]) <= min(map(float, numbered.values()))


def test_it_says_in_words_what_it_found(run, pictures, table, tmp_path, capsys):
    shutil.copytree(table.parent, tmp_path / "again")
    _attribute(run, pictures, tmp_path / "again" / "table.csv")
    printed = capsys.readouterr().out.splitlines()
    assert any(re.match(r"new-0\.png: .*someone else \d+ %$", line) for line in printed)
    totals = "5 pictures against 64 paintings by 8 artists; beforehand someone else has 50 %"
    assert totals in printed
    assert "  in the collection, and no evidence for themselves: 3" in printed
    assert printed[-1] == f"attribution: {tmp_path / 'again' / 'table.csv'}"


def test_what_is_known_beforehand_moves_the_odds_by_bayes(run, pictures, tmp_path):
    even, rare = (
        _attribute(run, pictures / "new-0.png", tmp_path / "x.csv", *flags)["new-0.png"]
        for flags in ((), ("--someone-else", "0.1"))
    )
    odds = [float(row["someone_else"]) / (1 - float(row["someone_else"])) for row in (even, rare)]
    assert odds[1] == pytest.approx(odds[0] / 9, rel=0.02)


def test_python_answers_as_the_command_does(run, pictures, table, tmp_path):
    style, rows = painterjax.load(run), _rows(table)
    paths = [pictures / name for name in rows]
    found = style.attribute(paths)
    for row, answer in zip(rows.values(), found, strict=True):
        assert len(answer.candidates) == 8
        total = answer.someone_else + sum(each.probability for each in answer.candidates)
        assert total == pytest.approx(1)
        assert ("yes" if answer.in_collection else "no") == row["in_collection"]
        assert answer.candidates[0].artist == row["artist_1"]
        assert f"{answer.candidates[0].paintings}" == row["paintings_1"]
        assert answer.someone_else == pytest.approx(float(row["someone_else"]), abs=2e-3)
    assert [answer.in_collection for answer in found] == ["known" in str(path) for path in paths]


def test_other_collections_and_exported_networks(run, pictures, tmp_path):
    """An index and a .npz of the same paintings; an exported network has no store of its own."""
    vectors, index = tmp_path / "test.npz", tmp_path / "index"
    embed.main(["--run", str(run), "--split", "test", "--output", str(vectors)])
    search.main(["--run", str(run), "--index", str(index), "--add", str(vectors)])
    row = _attribute(run, pictures / "new-1.png", tmp_path / "x.csv", "--index", str(index))
    row = row["new-1.png"]
    assert (row["artist_3"], row["paintings_1"]) == ("", "8")
    export.main(["--run", str(run), "--output", str(tmp_path / "exported")])
    exported = painterjax.load(tmp_path / "exported")
    (answer,) = exported.attribute([pictures / "new-1.png"], vectors)
    assert [each.artist for each in answer.candidates] == [row["artist_1"], row["artist_2"]]
    assert answer.candidates[0].probability == pytest.approx(float(row["probability_1"]), abs=2e-3)
    with pytest.raises(InputError, match="exported has no store: give a collection"):
        exported.attribute([pictures / "new-1.png"])
    other = embeddings.load(vectors)
    other = dataclasses.replace(other, origin={**other.origin, "network_sha256": "another"})
    embeddings.save(tmp_path / "other.npz", other)
    with pytest.raises(InputError, match=r"other\.npz is of another network"):
        exported.attribute([pictures / "new-1.png"], tmp_path / "other.npz")


def test_wrong_usage_is_refused_in_one_line(run, pictures, tmp_path):
    unevaluated = tmp_path / "copy"
    shutil.copytree(run, unevaluated, ignore=shutil.ignore_patterns("evaluation.json"))
    (tmp_path / "empty").mkdir()
    nameless = embeddings.load(_vectors_of_test(run, tmp_path))
    paintings = [dataclasses.replace(p, artist="") for p in nameless.paintings]
    embeddings.save(tmp_path / "n.npz", dataclasses.replace(nameless, paintings=paintings))
    index = tmp_path / "nameless"
    search.main(["--run", str(run), "--index", str(index), "--add", str(tmp_path / "n.npz")])
    good = {"--run": run, "--images": pictures / "new-0.png", "--output": tmp_path / "x.csv"}
    for changed, message in (
        ({"--output": tmp_path / "x.txt"}, r"x\.txt: its name must end in \.csv"),
        ({"--someone-else": "1.5"}, r"--someone-else is 1\.5: must be above 0 and below 1"),
        ({"--someone-else": "half"}, "--someone-else: .*'half'"),
        ({"--index": tmp_path / "empty"}, "empty is not an index"),
        ({"--index": index}, "no painting whose artist is known"),
        ({"--images": tmp_path / "empty"}, "no image in"),
        ({"--images": tmp_path / "nothing"}, "nothing"),
        ({"--images": pictures / "broken.jpg"}, r"--images .*broken\.jpg: not an image"),
        ({"--run": unevaluated}, r"cannot tell artists yet: .*painterjax\.evaluate --run"),
    ):
        argv = [str(word) for pair in {**good, **changed}.items() for word in pair]
        with pytest.raises(InputError, match=message) as refusal:
            attribute.main(argv)
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "x.csv").exists()


def _vectors_of_test(run: Path, folder: Path) -> Path:
    path = folder / "v.npz"
    embed.main(["--run", str(run), "--split", "test", "--output", str(path)])
    return path
