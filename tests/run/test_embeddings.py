"""Vectors on disk, as .npz and as .parquet."""

import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painterjax.common.errors import InputError
from painterjax.data.catalog import Painting
from painterjax.run import embeddings
from painterjax.run.embeddings import Vectors

ORIGIN = {"run": "r", "step": 1, "network_sha256": "n", "store": "s", "split": "test"}


def _vectors(count: int, *, sha256: bool = False) -> Vectors:
    emb_NxD = np.random.default_rng(0).standard_normal((count, 5)).astype(np.float32)
    paintings = [Painting(f"{i}.jpg", f"painter {i % 3}", date="é") for i in range(count)]
    return Vectors(emb_NxD, paintings, ORIGIN, [f"{i}" for i in range(count)] if sha256 else None)


@pytest.mark.parametrize("ending", ["npz", "parquet"])
@pytest.mark.parametrize("sha256", [False, True])
def test_vectors_come_back_as_they_were(ending, sha256, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "ROW_GROUP", 4)
    vectors = _vectors(10, sha256=sha256)
    embeddings.save(path := tmp_path / f"v.{ending}", vectors)
    found = embeddings.load(path)
    np.testing.assert_array_equal(found.emb_NxD, vectors.emb_NxD)
    assert found.emb_NxD.dtype == np.float32
    assert list(found.paintings) == vectors.paintings
    assert (found.origin, found.sha256) == (vectors.origin, vectors.sha256)


def test_pandas_and_duckdb_read_the_vectors(tmp_path):
    vectors = _vectors(10)
    embeddings.save(path := tmp_path / "v.parquet", vectors)
    table = pandas.read_parquet(path)
    np.testing.assert_array_equal(np.stack(table["embedding"].to_list()), vectors.emb_NxD)
    assert table["artist"].tolist() == [painting.artist for painting in vectors.paintings]
    query = f"SELECT file FROM '{path}' ORDER BY array_distance(embedding::FLOAT[5], ?::FLOAT[5])"
    nearest = np.linalg.norm(vectors.emb_NxD - vectors.emb_NxD[3], axis=1).argsort()
    found = duckdb.execute(query, [vectors.emb_NxD[3].tolist()]).fetchall()
    assert [file for (file,) in found] == [f"{i}.jpg" for i in nearest]


def test_vectors_are_written_a_row_group_at_a_time(tmp_path, monkeypatch):
    """Of 64 MB in a memory map Arrow never holds a quarter; the file has all of it."""
    monkeypatch.setattr(embeddings, "ROW_GROUP", 2**12)
    mapped = np.memmap(tmp_path / "v.f32", np.float32, "w+", shape=(2**16 + 1, 256))
    mapped[-1] = 1
    paintings = [Painting("", "")] * len(mapped)
    counted, default = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(counted)
    embeddings.save(path := tmp_path / "v.parquet", Vectors(mapped, paintings, ORIGIN))
    pa.set_memory_pool(default)
    assert pq.read_metadata(path).num_row_groups == 17
    assert 0 < counted.max_memory() < mapped.nbytes / 4
    assert embeddings.load(path).emb_NxD[-1].tolist() == [1] * 256


@pytest.mark.parametrize("damage", ["garbage", "cut", "another table", "another vector"])
def test_another_parquet_file_is_refused(damage, tmp_path):
    embeddings.save(path := tmp_path / "v.parquet", _vectors(4))
    table = pq.read_table(path)
    if damage == "garbage":
        path.write_bytes(b"PAR1" * 9)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "another table":
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        place = table.column_names.index("embedding")
        pq.write_table(table.set_column(place, "embedding", pa.array([1.0] * 4)), path)
    with pytest.raises(
        InputError, match=r"v\.parquet .*(embed again|choose another file)$"
    ) as told:
        embeddings.load(path)
    assert "\n" not in str(told.value)


def test_a_folder_of_images_has_to_be_embedded_first(tmp_path):
    with pytest.raises(InputError, match="is a folder: first embed it, with embed --images"):
        embeddings.load(tmp_path)
