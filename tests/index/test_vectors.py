"""An index that grows by few vectors: what it finds, what is written, kills and damage."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.index import database, ivf
from painterjax.index.database import Database
from painterjax.index.index import Index
from painterjax.index.vectors import VectorFiles
from painterjax.run.embeddings import Vectors
from tests.helpers.indexed import execute, recall, vectors_of


def _grown(folder: Path, *counts: int) -> np.ndarray:
    """Adds vectors to an index, so many at a time; returns all of them."""
    parts = [vectors_of(seed, count) for seed, count in enumerate(counts)]
    for part in parts:
        Index(folder).add(part)
    return np.concatenate([part.emb_NxD for part in parts])


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("vectors-*")}


def test_a_few_vectors_leave_the_large_file_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(ivf, "EXACT", 3000)
    _grown(tmp_path, 4000)
    large = tmp_path / "vectors-4000.faiss"
    before = large.read_bytes(), large.stat()
    facts = Index(tmp_path).facts
    for seed, count in ((1, 1), (2, 399)):
        assert Index(tmp_path).add(vectors_of(seed, count)) == count
        assert Index(tmp_path).add(vectors_of(seed, count)) == 0
    assert (large.read_bytes(), large.stat().st_mtime_ns) == (before[0], before[1].st_mtime_ns)
    assert large.stat().st_ino == before[1].st_ino
    assert (tmp_path / "vectors-4000.tail").stat().st_size == 400 * 8 * 4
    assert Index(tmp_path).facts == {**facts, "tail": "400"}
    Index(tmp_path).add(vectors_of(3, 1))  # More than a tenth.
    assert _names(tmp_path) == {"vectors-4401.faiss"}
    assert Index(tmp_path).facts["trained"] == facts["trained"]
    assert Index(tmp_path).facts["tail"] == "0"


def test_with_a_tail_it_is_the_index_that_was_built_at_once(tmp_path):
    emb_NxD = _grown(tmp_path / "tail", 60, 4, 2)
    parts = [vectors_of(seed, count) for seed, count in enumerate((60, 4, 2))]
    paintings = [painting for part in parts for painting in part.paintings]
    whole = dataclasses.replace(parts[0], emb_NxD=emb_NxD, paintings=paintings)
    Index(tmp_path / "once").add(whole)
    assert _names(tmp_path / "tail") == {"vectors-60.faiss", "vectors-60.tail"}
    tail, once = Index(tmp_path / "tail"), Index(tmp_path / "once")
    assert len(tail) == len(once) == 66
    for among_N in (None, once.find(style="style 1"), once.find(file="1/2.jpg")):
        for query_D in emb_NxD:
            found, expected = (i.nearest(query_D, 70, among_N=among_N) for i in (tail, once))
            np.testing.assert_array_equal(found[1], expected[1])
            # FAISS adds 8 squared differences, in any order; as in test_index.py.
            np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(tail.embeddings(), emb_NxD)
    np.testing.assert_array_equal([tail.embedding(number) for number in range(66)], emb_NxD)
    for found, expected in zip(
        dataclasses.astuple(tail.collection()), dataclasses.astuple(once.collection()), strict=True
    ):
        assert np.array_equal(found, expected) or np.allclose(found, expected, rtol=1e-5)
    assert [(e.painting, e.position) for e in tail.entries([63, 64])] == [
        (paintings[63], 3),
        (paintings[64], 0),
    ]


def test_with_a_tail_ivf_keeps_its_recall(tmp_path, monkeypatch):
    monkeypatch.setattr(ivf, "EXACT", 3000)
    emb_NxD = _grown(tmp_path, 4000, 300, 100)
    index = Index(tmp_path)
    assert index.facts["tail"] == "400"
    # A share of some 0.96 of 2,000 neighbors: 0.01 is two standard deviations.
    assert recall(index, emb_NxD, vectors_of(9, 200).emb_NxD) > ivf.RECALL - 0.01
    for number in (4000, 4299, 4300, 4399):  # Those of the tail are searched exactly.
        distance_R, number_R = index.nearest(emb_NxD[number], 1)
        assert (distance_R.tolist(), number_R.tolist()) == ([0], [number])
    other_N = ~index.find(artist="artist 3")
    assert recall(index, emb_NxD, emb_NxD[::100], other_N) > 0.99
    # Half precision, as in test_index.py, of all but the tail.
    np.testing.assert_allclose(index.embeddings(), emb_NxD, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(index.embeddings()[4000:], emb_NxD[4000:])


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def _killed_amid_append(path: Path, data: bytes, *, behind: int) -> None:
    append(path, data[: len(data) // 2], behind=behind)
    raise KeyboardInterrupt


def _killed_amid_writing(_: object, path: str) -> None:
    Path(path).write_bytes(b"half of it")
    raise KeyboardInterrupt


append = files.append
KILLS: dict[str, tuple[int, object, str, Callable[..., None]]] = {
    "while the tail is written": (2, files, "append", _killed_amid_append),
    "before the tail is valid": (2, Database, "insert", _killed),
    "while the tail becomes valid": (2, database, "century", _killed),
    "while the file is written": (9, faiss, "write_index", _killed_amid_writing),
    "before the file is valid": (9, Database, "insert", _killed),
    "while the file becomes valid": (9, database, "century", _killed),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_add_leaves_the_index_as_it_was(moment, tmp_path, monkeypatch):
    emb_NxD, before = _grown(tmp_path, 40, 2), Index(tmp_path)
    count, owner, name, killed = KILLS[moment]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            Index(tmp_path).add(vectors_of(5, count))
    (tmp_path / "vectors-51.faiss.0a1b2c3d.tmp").write_bytes(b"of a process that was killed")
    after = Index(tmp_path)
    assert (len(after), after.facts) == (42, before.facts)
    np.testing.assert_array_equal(after.embeddings(), emb_NxD)
    assert execute(tmp_path, "select count(*), max(source) from paintings") == [(42, 2)]
    _add_and_check(tmp_path, emb_NxD, vectors_of(6, 1))
    _add_and_check(tmp_path, Index(tmp_path).embeddings(), vectors_of(7, 9))
    assert _names(tmp_path) == {"vectors-52.faiss"}


def _add_and_check(folder: Path, before_NxD: np.ndarray, added: Vectors) -> None:
    assert Index(folder).add(added) == len(added.paintings)
    expected_NxD = np.concatenate([before_NxD, added.emb_NxD])
    np.testing.assert_array_equal(Index(folder).embeddings(), expected_NxD)


def test_what_a_killed_add_left_behind_is_removed(tmp_path, monkeypatch):
    """By a kill when the new file was valid; other files of the folder stay."""
    emb_NxD, added = _grown(tmp_path, 40, 2), vectors_of(5, 9)
    remove = VectorFiles.remove_others

    def killed_at_last(of: VectorFiles) -> None:
        _killed() if len(of) == 51 else remove(of)

    with monkeypatch.context() as patched:
        patched.setattr(VectorFiles, "remove_others", killed_at_last)
        with pytest.raises(KeyboardInterrupt):
            Index(tmp_path).add(added)
    assert _names(tmp_path) == {"vectors-40.faiss", "vectors-40.tail", "vectors-51.faiss"}
    (tmp_path / "vectors-mine.npz").touch()
    _add_and_check(tmp_path, np.concatenate([emb_NxD, added.emb_NxD]), vectors_of(6, 1))
    assert _names(tmp_path) == {"vectors-51.faiss", "vectors-51.tail", "vectors-mine.npz"}


def test_vectors_of_a_second_process_are_kept(tmp_path):
    """Whether the first, the second or both write the tail; who comes amid an add is refused."""
    parts = [vectors_of(seed, count) for seed, count in enumerate((40, 2, 1, 9, 1))]
    early = Index(tmp_path)
    for here, elsewhere in zip(parts[::2], [*parts[1::2], None], strict=True):
        early.add(here)
        if elsewhere:
            Index(tmp_path).add(elsewhere)
    expected_NxD = np.concatenate([part.emb_NxD for part in parts])
    for index in (early, Index(tmp_path)):
        np.testing.assert_array_equal(index.embeddings(), expected_NxD)
        assert index.entry(43).painting.file == "3/0.jpg"
    refusal = r"another process works in .*: wait"
    with files.claimed(tmp_path), pytest.raises(InputError, match=refusal):
        early.add(vectors_of(9, 1))


def test_an_index_without_a_tail_opens_and_grows(tmp_path):
    """One of an earlier version, which knew of none."""
    emb_NxD = _grown(tmp_path, 40)
    execute(tmp_path, "delete from facts where name = 'tail'")
    np.testing.assert_array_equal(Index(tmp_path).embeddings(), emb_NxD)
    _add_and_check(tmp_path, emb_NxD, vectors_of(1, 1))


def test_a_damaged_tail_is_refused_in_one_line(tmp_path):
    _grown(tmp_path, 40, 4)
    tail = tmp_path / "vectors-40.tail"
    for damage in (lambda: tail.write_bytes(tail.read_bytes()[:-1]), tail.unlink):
        damage()
        with pytest.raises(
            InputError, match=r"40\.tail does not have its 4 vectors: build .*again$"
        ):
            Index(tmp_path)
    execute(tmp_path, "update facts set value = '-1' where name = 'tail'")
    with pytest.raises(InputError, match=r"lacks the facts tail: build the index again$"):
        Index(tmp_path)
