"""Files of published weights: read as PyTorch does, run nothing, and refused in one line."""

import hashlib
import io
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax

from painterjax.common.errors import InputError
from painterjax.model import weights


def test_pytorch_s_old_files_are_read_as_pytorch_reads_them(tmp_path, torch):
    number = torch.arange(24.0).reshape(4, 6)
    saved = {"whole": number, "part": number[1:, ::2].T, "count": torch.tensor(2**40)}
    path = tmp_path / "weights.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    found = weights.read_torch(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert found.keys() == saved.keys()
    for name, array in saved.items():
        np.testing.assert_array_equal(found[name], array.numpy())
        assert found[name].dtype == array.numpy().dtype


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="expected 1234: install it again"):
        weights.read_torch(path, sha256="1234")
    with pytest.raises(InputError, match=r"none\.pth cannot be read \(No such file"):
        weights.read_torch(tmp_path / "none.pth", sha256="1234")


def test_nothing_of_a_file_of_weights_is_run():
    class Harmful:
        def __reduce__(self):
            return print, ("it was run",)

    with pytest.raises(pickle.UnpicklingError, match="print is not needed for arrays"):
        weights._Unpickler(io.BytesIO(pickle.dumps(Harmful()))).load()


def test_safetensors_are_read_as_float32(tmp_path):
    path = tmp_path / "model.safetensors"
    number = jnp.asarray([1.5, -2.25], jnp.bfloat16)
    safetensors.flax.save_file({"low": number}, path)
    found = weights.read_safetensors(path)["low"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1.5, -2.25])


def _damaged(folder: Path) -> Path:
    path = folder / "damaged.safetensors"
    safetensors.flax.save_file({"a": jnp.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    return path


@pytest.mark.parametrize(
    "make", [lambda folder: folder / "none.safetensors", lambda folder: folder, _damaged]
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(make, tmp_path):
    path = make(tmp_path)
    with pytest.raises(InputError) as raised:
        weights.read_safetensors(path)
    assert str(raised.value).startswith(f"{path} cannot be read as safetensors (")
    assert "\n" not in str(raised.value)


def test_all_that_does_not_fit_is_said_at_once():
    found = {"a.weight": np.zeros((2, 3)), "b": np.zeros(1), "counter": np.zeros(())}
    renamings = [weights.Renaming(r"(.)\.weight", r"\1.kernel", (1, 0)), weights.Renaming("b", "b")]
    shapes = {"a.kernel": (3, 4), "c": (1,)}
    with pytest.raises(InputError) as raised:
        weights.rename(found, renamings, shapes, unused="counter", source="a file")
    assert str(raised.value) == (
        "a file does not fit the backbone: missing are c; unknown are b; of another shape are"
        " a.kernel ((3, 2), expected (3, 4))"
    )
    with pytest.raises(InputError, match=r"of another shape are a\.kernel"):
        weights.rename({"a.weight": np.zeros((2, 3, 4, 1))}, renamings[:1], {"a.kernel": (3, 2)},
                       unused="", source="a file")  # fmt: skip
    number = np.arange(6.0).reshape(2, 3)
    shapes = {"a.kernel": (3, 2)}
    renamed = weights.rename({"a.weight": number}, renamings, shapes, unused="", source="a file")
    np.testing.assert_array_equal(renamed["a.kernel"], number.T)
