"""The index against exact search by loops, while it grows, after a kill, and in cells."""

import contextlib
import sqlite3

import numpy as np
import pytest

from painterjax import index as index_module
from painterjax.catalog import Painting
from painterjax.errors import InputError
from painterjax.index import Index
from painterjax.vectors import Vectors

ORIGIN = {"run": "runs/x", "step": 7, "config_sha256": "abc"}


def _vectors(seed: int, count: int, **origin) -> Vectors:
    emb_NxD = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    paintings = [
        Painting(f"{seed}/{i}.jpg", f"artist {i % 5}", style=f"style {i % 2}", date=str(1700 + i))
        for i in range(count)
    ]
    return Vectors(emb_NxD, paintings, {**ORIGIN, "images": "pictures", **origin})


def test_it_grows_and_finds_what_loops_find(tmp_path):
    parts = [_vectors(0, 40), _vectors(1, 30)]
    for part in parts:
        Index(tmp_path / "index").add(part)
    index, emb_NxD = Index(tmp_path / "index"), np.concatenate([part.emb_NxD for part in parts])
    assert len(index) == 70
    assert [path.name for path in (tmp_path / "index").glob("*.faiss")] == ["vectors-70.faiss"]
    for number in (0, 39, 40, 69):
        distance_N = np.linalg.norm(emb_NxD.astype(float) - emb_NxD[number], axis=1)
        distance_R, number_R = index.nearest(emb_NxD[number], 10)
        assert number_R.tolist() == np.argsort(distance_N)[:10].tolist()
        np.testing.assert_allclose(distance_R, np.sort(distance_N)[:10], atol=1e-3)
        np.testing.assert_array_equal(index.embedding(number), emb_NxD[number])
        part, place = divmod(number, 40)
        assert index.entry(number).painting == parts[part].paintings[place]
        assert index.entry(number).position == place


def test_filters_are_those_of_loops(tmp_path):
    part, index = _vectors(0, 60), Index(tmp_path)
    index.add(part)
    kept = [i for i in range(60) if i % 5 == 2 and i % 2 == 0]
    assert index.find(artist="artist 2", style="style 0").tolist() == kept
    assert index.find(without_artist="artist 2").tolist() == [i for i in range(60) if i % 5 != 2]
    assert index.find(century="1701-1800").tolist() == list(range(1, 60))
    _, number_R = index.nearest(part.emb_NxD[0], 60, among=np.array(kept))
    distance_N = np.linalg.norm(part.emb_NxD - part.emb_NxD[0], axis=1)
    assert number_R.tolist() == sorted(kept, key=lambda i: distance_N[i])
    assert index.nearest(part.emb_NxD[0], 5, among=np.array([], np.int64))[1].tolist() == []


def test_an_add_that_was_killed_leaves_what_was_there(tmp_path, monkeypatch):
    Index(tmp_path).add(_vectors(0, 10))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Index, "_insert", killed)
        with pytest.raises(KeyboardInterrupt):
            Index(tmp_path).add(_vectors(1, 10))
    assert len(Index(tmp_path)) == 10
    Index(tmp_path).add(_vectors(1, 10))
    assert len(Index(tmp_path)) == 20
    with contextlib.closing(sqlite3.connect(tmp_path / "paintings.db")) as database:
        assert database.execute("select count(*) from paintings").fetchone() == (20,)


def test_the_same_vectors_twice_are_refused(tmp_path):
    Index(tmp_path).add(_vectors(0, 10))
    Index(tmp_path).add(_vectors(1, 10))
    with pytest.raises(InputError, match="has these paintings already"):
        Index(tmp_path).add(_vectors(0, 10))


def test_a_second_process_s_vectors_are_kept(tmp_path):
    early = Index(tmp_path)
    Index(tmp_path).add(_vectors(0, 10))
    early.add(_vectors(1, 10))
    assert len(Index(tmp_path)) == len(early) == 20
    assert early.entry(3).painting.file == "0/3.jpg"
    assert early.entry(13).painting.file == "1/3.jpg"


def test_vectors_of_another_run_are_refused(tmp_path):
    Index(tmp_path).add(_vectors(0, 10))
    with pytest.raises(InputError, match="has vectors of step 7, these are of 8: embed again"):
        Index(tmp_path).add(_vectors(1, 10, step=8))
    with pytest.raises(InputError, match="has vectors of config_sha256 abc, these are of def"):
        Index(tmp_path).add(_vectors(1, 10, config_sha256="def"))
    assert len(Index(tmp_path)) == 10


def test_beyond_the_exact_it_searches_cells_and_measures_recall(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "EXACT", 3000)
    parts = [_vectors(seed, 2000) for seed in range(3)]
    for part in parts:
        Index(tmp_path).add(part)
    index, emb_NxD = Index(tmp_path), np.concatenate([part.emb_NxD for part in parts])
    assert len(index) == 6000
    assert float(index.facts["recall"]) >= index_module.RECALL
    assert int(index.facts["probes"]) < 4 * 4000**0.5
    queries = np.random.default_rng(9).integers(6000, size=100)
    found = np.stack([index.nearest(emb_NxD[i], 10)[1] for i in queries])
    exact = np.stack(
        [np.argsort(np.linalg.norm(emb_NxD - emb_NxD[i], axis=1))[:10] for i in queries]
    )
    assert index_module.recall_of(found, exact) > 0.9
    np.testing.assert_allclose(index.embedding(5), emb_NxD[5], atol=0.05)
    among = np.arange(0, 6000, 3)
    assert set(index.nearest(emb_NxD[1], 10, among=among)[1] % 3) == {0}


def test_a_damaged_index_is_refused_in_one_line(tmp_path):
    Index(tmp_path).add(_vectors(0, 10))
    (tmp_path / "vectors-10.faiss").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"vectors-10\.faiss cannot be read: build the index aga"):
        Index(tmp_path)
