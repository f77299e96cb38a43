"""The index against exact search by loops, while it grows, after a kill, and in cells."""

import contextlib
import dataclasses
import sqlite3

import numpy as np
import pytest

from painterjax.common.errors import InputError
from painterjax.data.catalog import Painting
from painterjax.index import index, ivf
from painterjax.index.index import Index
from painterjax.run.embeddings import Vectors

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
        # FAISS adds 8 squared differences: distances below 10 are right to 5 / 2^24 of themselves.
        np.testing.assert_allclose(distance_R, np.sort(distance_N)[:10], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(index.embedding(number), emb_NxD[number])
        part, place = divmod(number, 40)
        assert index.entry(number).painting == parts[part].paintings[place]
        assert index.entry(number).position == place


def test_filters_are_those_of_loops(tmp_path):
    part, index = _vectors(0, 60), Index(tmp_path)
    index.add(part)
    kept = [i for i in range(60) if i % 5 == 2 and i % 2 == 0]
    among_N = index.find(artist="artist 2", style="style 0")
    assert np.flatnonzero(among_N).tolist() == kept
    assert np.flatnonzero(index.find(century="1701-1800")).tolist() == list(range(1, 60))
    _, number_R = index.nearest(part.emb_NxD[0], 60, among_N=among_N)
    distance_N = np.linalg.norm(part.emb_NxD - part.emb_NxD[0], axis=1)
    assert number_R.tolist() == sorted(kept, key=lambda i: distance_N[i])
    nobody_N = index.find(artist="nobody")
    assert index.nearest(part.emb_NxD[0], 5, among_N=nobody_N)[1].tolist() == []


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


def test_only_paintings_that_are_not_there_are_added(tmp_path):
    first, grown = _vectors(0, 10), _vectors(0, 14)
    assert Index(tmp_path).add(first) == 10
    assert Index(tmp_path).add(first) == 0
    again_NxD = grown.emb_NxD.copy()
    again_NxD[:10] = first.emb_NxD * np.float32(1 + 1e-6)  # As other hardware would round.
    again_NxD[3] = -first.emb_NxD[3]  # Another picture under the same name.
    assert Index(tmp_path).add(dataclasses.replace(grown, emb_NxD=again_NxD)) == 5
    index = Index(tmp_path)
    added = index.entries(range(10, 15))
    assert [entry.painting.file for entry in added] == [f"0/{i}.jpg" for i in (3, *range(10, 14))]
    assert [entry.position for entry in added] == [3, *range(10, 14)]
    np.testing.assert_array_equal(index.embedding(10), again_NxD[3])


def test_in_cells_as_well_only_new_paintings_are_added(in_cells, tmp_path):
    assert Index(tmp_path).add(_vectors(2, 2000)) == 0
    assert Index(tmp_path).add(_vectors(3, 5)) == 5
    assert len(Index(tmp_path)) == len(in_cells[1]) + 5


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


@pytest.fixture
def in_cells(tmp_path, monkeypatch) -> tuple[Index, np.ndarray]:
    """An index beyond the exact: made in cells of 4,000 vectors, grown to 6,000."""
    monkeypatch.setattr(index, "EXACT", 3000)
    parts = [_vectors(seed, 2000) for seed in range(3)]
    for part in parts:
        Index(tmp_path).add(part)
    return Index(tmp_path), np.concatenate([part.emb_NxD for part in parts])


def _recall(index: Index, emb_NxD: np.ndarray, query_QxD: np.ndarray, among_N=None) -> float:
    found = np.stack([index.nearest(emb_D, 10, among_N=among_N)[1] for emb_D in query_QxD])
    number_N = np.arange(len(emb_NxD)) if among_N is None else np.flatnonzero(among_N)
    exact = [
        number_N[np.argsort(np.linalg.norm(emb_NxD[number_N] - emb_D, axis=1))[:10]]
        for emb_D in query_QxD
    ]
    return ivf.recall_of(found, np.stack(exact))


def test_strangers_are_found_as_often_as_was_measured(in_cells):
    index, emb_NxD = in_cells
    assert len(index) == 6000
    assert min(float(index.facts[key]) for key in ("recall", "recall_of_any")) >= ivf.RECALL
    assert index.facts["trained"] == "4000"
    assert int(index.facts["probes"]) < 2 * 4000**0.5
    strangers = _vectors(9, 200).emb_NxD
    # Two shares of some 0.95, each of 2,000 neighbors: 0.02 is three standard deviations.
    assert _recall(index, emb_NxD, strangers) == pytest.approx(
        float(index.facts["recall"]), abs=0.02
    )
    # Cells keep 11 bits: numbers below 4 are right to 4 / 2^11 = 2e-3.
    np.testing.assert_allclose(index.embedding(5), emb_NxD[5], rtol=0, atol=2e-3)


def test_filters_in_cells_are_those_of_exact_search(in_cells):
    index, emb_NxD = in_cells
    one_N, style_N = index.find(artist="artist 3"), index.find(style="style 1")
    for among_N in (one_N, ~one_N, style_N, ~one_N & style_N):
        assert _recall(index, emb_NxD, emb_NxD[:50], among_N) > 0.99
    assert index.find(file="1/7.jpg").nonzero()[0].tolist() == [2007]


def test_probes_are_measured_anew_when_cells_grow(in_cells, tmp_path, monkeypatch):
    """Vectors unlike those that cells were trained on are kept whole as well."""
    before, emb_NxD = in_cells[0].facts, in_cells[1]
    unlike_NxD = 20 + 5 * _vectors(4, 4000).emb_NxD
    monkeypatch.setattr(ivf, "RECALL", 0.995)
    Index(tmp_path).add(dataclasses.replace(_vectors(4, 4000), emb_NxD=unlike_NxD))
    grown = Index(tmp_path)
    assert grown.facts["trained"] == before["trained"] == "4000"
    assert int(grown.facts["probes"]) > int(before["probes"])
    assert float(grown.facts["recall"]) >= 0.995
    assert _recall(grown, np.concatenate([emb_NxD, unlike_NxD]), unlike_NxD[:200]) > 0.97


def test_outgrown_cells_are_trained_anew(in_cells, tmp_path, monkeypatch):
    monkeypatch.setattr(ivf, "OUTGROWN", 2)
    Index(tmp_path).add(_vectors(5, 2000))
    assert Index(tmp_path).facts["trained"] == "8000"
    all_NxD = np.concatenate([in_cells[1], _vectors(5, 2000).emb_NxD])
    assert _recall(Index(tmp_path), all_NxD, all_NxD[::100]) > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("delete from facts where name = 'step'", "it lacks step: build the index again"),
        ("update sources set origin = '{'", r"an origin is damaged \(.*\): build the index again"),
        ("update sources set origin = '{}'", r"an origin is damaged \('run'\): build"),
        ("delete from paintings where id = 3", "it knows nothing of painting or source 3: build"),
        ("update paintings set source = 7", "it knows nothing of painting or source 7: build"),
    ],
)
def test_a_damaged_database_is_refused_in_one_line(change, message, tmp_path):
    Index(tmp_path).add(_vectors(0, 10))
    _execute(tmp_path, change)
    with pytest.raises(InputError, match=rf"paintings\.db: {message}"):
        Index(tmp_path).entry(3)


def _execute(folder, change: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "paintings.db")) as database, database:
        database.execute(change)


def test_damaged_vectors_are_refused_in_one_line(in_cells, tmp_path):
    _execute(tmp_path, "delete from facts where name = 'probes'")
    with pytest.raises(InputError, match="it lacks what was measured of its cells: build"):
        Index(tmp_path)
    (tmp_path / "vectors-6000.faiss").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"vectors-6000\.faiss cannot be read: build the index"):
        Index(tmp_path)
