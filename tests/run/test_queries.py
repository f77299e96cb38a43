"""Paintings of validation as queries against those of train."""

import dataclasses
import json

import numpy as np
import pytest

from painterjax import evaluate
from painterjax.common.errors import InputError
from painterjax.data.store import open_store
from painterjax.metrics import evaluator
from painterjax.run import queries
from painterjax.run.embed import kept_embeddings
from painterjax.run.load import load_run


def test_validation_s_paintings_are_queries(run, tiny_store):
    """The nearest of train, by names, as artists have other numbers in every split."""
    store, loaded = open_store(tiny_store), load_run(run)
    train, val = (kept_embeddings(loaded, name) for name in ("train", "val"))
    assert train is not None and val is not None
    found = json.loads((run / "evaluation.json").read_text())
    distance_QxN = np.linalg.norm(val.emb_NxD[:, None].astype(float) - train.emb_NxD, axis=2)
    is_found = [
        painting.artist == train.paintings[row].artist
        for painting, row in zip(val.paintings, distance_QxN.argmin(axis=1), strict=True)
    ]
    of = found["val"]["queries"]
    assert of["recall_at_1"]["value"] == of["map_at_1"]["value"] == np.mean(is_found)
    assert 0 < of["map_at_100"]["low"] <= of["map_at_100"]["value"] <= of["map_at_100"]["high"]
    assert of["paintings"] == found["val"]["paintings"] == len(store.splits["val"])
    assert of["artists"] == found["val"]["artists"] == len(store.splits["val"].artists)
    assert of["database_paintings"] == len(store.splits["train"])
    assert of["database_artists"] == len(store.splits["train"].artists)
    assert "queries" not in found["test"]
    assert found["test"]["artists"] == len(store.splits["test"].artists)


def test_artists_of_train_may_have_other_numbers(tiny_store):
    """Validation without train's first artists: its numbers are others."""
    store = open_store(tiny_store)
    train, val = store.splits["train"], store.splits["val"]
    row_M = np.flatnonzero(val.artist_N >= 2)
    late = dataclasses.replace(
        val, artists=val.artists[2:], artist_N=val.artist_N[row_M] - 2,
        paintings=[val.paintings[row] for row in row_M], image_NxSxSxC=val.image_NxSxSxC[row_M],
    )  # fmt: skip
    store = dataclasses.replace(store, splits={**store.splits, "val": late})
    point_AxA = np.eye(len(train.artists), dtype=np.float32)
    emb_by_split = {"train": point_AxA[train.artist_N], "val": point_AxA[late.artist_N + 2]}
    judged = queries.judge(store, "val", emb_by_split, most=50_000)
    assert judged["map_at_1"]["value"] == judged["map_at_10"]["value"] == 1
    few = queries.judge(store, "val", emb_by_split, most=3)
    assert (few["judged_paintings"], few["paintings"]) == (3, len(late))
    emb_by_split["train"][3, 1] = np.nan
    with pytest.raises(InputError, match="the first that of painting 3, hold NaN"):
        queries.judge(store, "val", emb_by_split, most=50_000)


def test_vectors_of_a_file_are_queries_where_it_has_those_of_train(
    tiny_store, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(evaluator, "REPLICATES", 10)
    store = open_store(tiny_store)
    lengths = {name: len(split) for name, split in store.splits.items()}
    whole_NxD = np.random.default_rng(0).normal(size=(sum(lengths.values()), 4))
    argv = ["--embeddings", str(tmp_path / "x.npy"), "--store", str(tiny_store)]
    for vectors_NxD in (whole_NxD, whole_NxD[: lengths["val"]]):
        np.save(tmp_path / "x.npy", vectors_NxD.astype(np.float32))
        evaluate.main([*argv, "--split", "val", "--json", str(tmp_path / "x.json")])
        has_train = vectors_NxD is whole_NxD
        judged = json.loads((tmp_path / "x.json").read_text())["val"]
        assert ("queries" in judged) == has_train
        artists = len(store.splits["val"].artists)
        line = f"val as queries: {lengths['val']} paintings by {artists} artists, against"
        assert (line in capsys.readouterr().out) == has_train
