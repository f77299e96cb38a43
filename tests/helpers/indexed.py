"""Random vectors to index, and how well an index finds them."""

import contextlib
import sqlite3
from pathlib import Path

import numpy as np
from faiss.contrib.evaluation import knn_intersection_measure

from painterjax.data.catalog import Painting
from painterjax.index.index import Index
from painterjax.run.embeddings import Vectors

ORIGIN = {"run": "runs/x", "step": 7, "network_sha256": "abc"}


def vectors_of(seed: int, count: int, **origin: object) -> Vectors:
    """Vectors of 8 numbers by five artists, of two styles."""
    emb_NxD = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    paintings = [
        Painting(f"{seed}/{i}.jpg", f"artist {i % 5}", style=f"style {i % 2}", date=str(1700 + i))
        for i in range(count)
    ]
    return Vectors(emb_NxD, paintings, {**ORIGIN, "images": f"pictures/{seed}", **origin})


def recall(
    index: Index, emb_NxD: np.ndarray, query_QxD: np.ndarray, among_N: np.ndarray | None = None
) -> float:
    """The share of the ten nearest of loops that the index finds."""
    found = np.stack([index.nearest(emb_D, 10, among_N=among_N)[1] for emb_D in query_QxD])
    number_N = np.arange(len(emb_NxD)) if among_N is None else np.flatnonzero(among_N)
    exact = [
        number_N[np.argsort(np.linalg.norm(emb_NxD[number_N] - emb_D, axis=1))[:10]]
        for emb_D in query_QxD
    ]
    return knn_intersection_measure(found, np.stack(exact))


def execute(folder: Path, statement: str) -> list[tuple]:
    """The rows of a statement to the index's database."""
    with contextlib.closing(sqlite3.connect(folder / "paintings.db")) as database, database:
        return database.execute(statement).fetchall()
