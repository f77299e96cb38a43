"""The index against exact search by loops: as it grows, under filters, and with IVF."""

import dataclasses
import shutil

import numpy as np
import pytest

from painterjax.common.errors import InputError
from painterjax.index import ivf
from painterjax.index.index import Index
from tests.helpers.indexed import execute, recall, vectors_of


def test_it_grows_and_finds_what_loops_find(tmp_path):
    parts = [vectors_of(0, 40), vectors_of(1, 30)]
    for part in parts:
        Index(tmp_path / "index").add(part)
    index, emb_NxD = Index(tmp_path / "index"), np.concatenate([part.emb_NxD for part in parts])
    assert len(index) == 70
    assert [path.name for path in (tmp_path / "index").glob("*.faiss*")] == ["vectors-70.faiss"]
    for number in (0, 39, 40, 69):
        distance_N = np.linalg.norm(emb_NxD.astype(float) - emb_NxD[number], axis=1)
        distance_R, number_R = index.nearest(emb_NxD[number], 10)
        assert number_R.tolist() == np.argsort(distance_N)[:10].tolist()
        # FAISS adds 8 squared differences: distances below 10 are right to 5 / 2^24 of themselves.
        np.testing.assert_allclose(distance_R, np.sort(distance_N)[:10], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(index.embedding(number), emb_NxD[number])
        part, place = divmod(number, 40)
        entry = index.entry(number)
        assert (entry.painting, entry.position) == (parts[part].paintings[place], place)


def test_filters_are_those_of_loops(tmp_path):
    part, index = vectors_of(0, 60), Index(tmp_path)
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


def test_only_new_paintings_are_added(tmp_path):
    first, grown = vectors_of(0, 10), vectors_of(0, 14)
    assert Index(tmp_path).add(first) == 10
    assert Index(tmp_path).add(first) == 0
    again_NxD = grown.emb_NxD.copy()
    again_NxD[:10] = first.emb_NxD * np.float32(1 + 1e-6)  # as other hardware may round
    assert Index(tmp_path).add(dataclasses.replace(grown, emb_NxD=again_NxD)) == 4
    again_NxD[3] = -first.emb_NxD[3]  # another picture under the same name in another folder
    elsewhere = {**grown.origin, "images": "elsewhere"}
    assert Index(tmp_path).add(dataclasses.replace(grown, emb_NxD=again_NxD, origin=elsewhere)) == 1
    index = Index(tmp_path)
    added = index.entries(range(10, 15))
    assert [entry.painting.file for entry in added] == [f"0/{i}.jpg" for i in (*range(10, 14), 3)]
    assert [entry.position for entry in added] == [*range(10, 14), 3]
    np.testing.assert_array_equal(index.embedding(14), again_NxD[3])


def test_a_folder_whose_pictures_were_replaced_or_removed_needs_another_index(tmp_path):
    for name in ("changed", "gone", "both"):
        vectors = vectors_of(0, 3)
        Index(tmp_path / name).add(vectors_of(1, 3))
        Index(tmp_path / name).add(vectors)
        if name != "gone":
            vectors.emb_NxD[0] *= -1
        if name != "changed":
            vectors = dataclasses.replace(
                vectors, emb_NxD=vectors.emb_NxD[:2], paintings=vectors.paintings[:2]
            )
        count, file = {"changed": (1, 0), "gone": (1, 2), "both": (2, 0)}[name]
        refusal = rf"{count} paintings of pictures/0 in .*{name} .*0/{file}\.jpg: .* --index"
        with pytest.raises(InputError, match=refusal):
            Index(tmp_path / name).add(vectors)
        assert len(Index(tmp_path / name)) == 6
        assert Index(tmp_path / "anew").add(vectors) in (2, 3)
        shutil.rmtree(tmp_path / "anew")


def test_vectors_of_another_network_are_refused(tmp_path):
    Index(tmp_path).add(vectors_of(0, 10))
    narrow = dataclasses.replace(vectors_of(1, 10), emb_NxD=np.zeros((10, 4), np.float32))
    for other, message in (
        (vectors_of(1, 10, network_sha256="def"), "network_sha256 is abc, .* def"),
        (narrow, "8 numbers, .* 4"),
        (vectors_of(1, 10, squares=9), "center squares, .* means over several"),
    ):
        with pytest.raises(InputError, match=message):
            Index(tmp_path).add(other)
    assert len(Index(tmp_path)) == 10


@pytest.fixture
def approximate(tmp_path, monkeypatch) -> tuple[Index, np.ndarray]:
    """An IVF index, trained on 4,000 vectors and grown to 6,000."""
    monkeypatch.setattr(ivf, "EXACT", 3000)
    parts = [vectors_of(seed, 2000) for seed in range(3)]
    for part in parts:
        Index(tmp_path).add(part)
    return Index(tmp_path), np.concatenate([part.emb_NxD for part in parts])


def test_unseen_queries_have_the_measured_recall(approximate, tmp_path):
    index, emb_NxD = approximate
    assert len(index) == 6000
    assert min(float(index.facts[key]) for key in ("recall", "recall_of_any")) >= ivf.RECALL
    assert index.facts["trained"] == "4000"
    assert int(index.facts["probes"]) < 2 * 4000**0.5
    unseen = vectors_of(9, 200).emb_NxD
    # Two shares of some 0.95, each of 2,000 neighbors: 0.02 is three standard deviations.
    assert recall(index, emb_NxD, unseen) == pytest.approx(float(index.facts["recall"]), abs=0.02)
    # Half precision keeps 11 bits: numbers below 4 are right to 4 / 2^11 = 2e-3.
    np.testing.assert_allclose(index.embedding(5), emb_NxD[5], rtol=0, atol=2e-3)
    assert Index(tmp_path).add(vectors_of(2, 2000)) == 0
    assert Index(tmp_path).add(vectors_of(3, 5)) == 5


def test_filters_with_ivf_are_those_of_exact_search(approximate):
    index, emb_NxD = approximate
    one_N, style_N = index.find(artist="artist 3"), index.find(style="style 1")
    for among_N in (one_N, ~one_N, style_N, ~one_N & style_N):
        assert recall(index, emb_NxD, emb_NxD[:50], among_N) > 0.99
    assert index.find(file="1/7.jpg").nonzero()[0].tolist() == [2007]


def test_nprobe_is_tuned_again_when_the_index_grows(approximate, tmp_path, monkeypatch):
    """Vectors unlike those that the quantizer was trained on are not clipped either."""
    before, emb_NxD = approximate[0].facts, approximate[1]
    unlike_NxD = 20 + 5 * vectors_of(4, 4000).emb_NxD
    monkeypatch.setattr(ivf, "RECALL", 0.995)
    Index(tmp_path).add(dataclasses.replace(vectors_of(4, 4000), emb_NxD=unlike_NxD))
    grown = Index(tmp_path)
    assert grown.facts["trained"] == before["trained"] == "4000"
    assert int(grown.facts["probes"]) > int(before["probes"])
    assert float(grown.facts["recall"]) >= 0.995
    assert recall(grown, np.concatenate([emb_NxD, unlike_NxD]), unlike_NxD[:200]) > 0.97


def test_the_quantizer_is_trained_again_when_outgrown(approximate, tmp_path, monkeypatch):
    monkeypatch.setattr(ivf, "RETRAIN_GROWTH", 2)
    Index(tmp_path).add(vectors_of(5, 2000))
    assert Index(tmp_path).facts["trained"] == "8000"
    all_NxD = np.concatenate([approximate[1], vectors_of(5, 2000).emb_NxD])
    assert recall(Index(tmp_path), all_NxD, all_NxD[::100]) > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("delete from facts where name = 'step'", "step"),
        ("update sources set origin = '{'", "origin"),
        ("update sources set origin = '{}'", "'run'"),
        ("delete from paintings where id = 3", "painting or source 3"),
        ("update paintings set source = 7", "painting or source 7"),
    ],
)
def test_a_damaged_database_is_refused(change, message, tmp_path):
    Index(tmp_path).add(vectors_of(0, 10))
    execute(tmp_path, change)
    with pytest.raises(InputError, match=rf"paintings\.db is damaged .*{message}.*build the index"):
        Index(tmp_path).entry(3)


def test_damaged_vectors_are_refused(approximate, tmp_path):
    execute(tmp_path, "delete from facts where name = 'probes'")
    with pytest.raises(InputError, match="probes"):
        Index(tmp_path)
    (tmp_path / "vectors-6000.faiss").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"vectors-6000\.faiss"):
        Index(tmp_path)
