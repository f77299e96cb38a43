"""docs/scaling.md: its tables are what the command measured and what its formula gives."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import pytest

from configs import painter_by_numbers, throughput
from painterjax.model.build import build_network

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
# Of a step that is compiled for two CPU devices.
COLLECTIVES = {"painter_by_numbers": 72, "throughput": 38}
# By number of GPUs: bytes a second of each, one way, and seconds of latency.
NETWORKS = {8: (450e9, 20e-6), 64: (50e9, 60e-6)}
STEPS_MS = (10, 50, 200)


def _measured() -> list[dict[str, Any]]:
    results = [ROOT / "docs" / "results" / f"cpu-scaling{name}.json" for name in ("", "-256")]
    return [row for path in results for row in json.loads(path.read_text())["rows"]]


def _measured_row(row: dict[str, Any]) -> str:
    step, all_reduce_ms = row["step_ms"], row["all_reduce_ms"]["median"]
    cells = [
        f"{row['gradient_bytes'] / 1e6:.1f} MB, {row['image_size']} pixels",
        f"{row['processes']}",
        f"{all_reduce_ms:.1f} ms, {100 * all_reduce_ms / step['median']:.1f} %",
        f"{step['median']:,.0f} ms ({step['p10']:,.0f} to {step['p90']:,.0f})",
        f"{row['images_per_step']}",
        f"{row['images_per_s']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def test_the_measured_rows_are_what_the_command_wrote():
    rows = "\n".join(map(_measured_row, _measured()))
    assert rows in PAGE, f"scaling.md is to say:\n{rows}"


def _gradient_bytes(recipe: Any, image_size: int) -> int:
    config = recipe.get_config()
    params = jax.eval_shape(lambda: build_network(config, image_size=image_size)[1])
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))


def _estimated_row(name: str, gradient_bytes: int, gpus: int) -> str:
    bandwidth, latency_s = NETWORKS[gpus]
    sent_ms = 1000 * 2 * (gpus - 1) / gpus * gradient_bytes / bandwidth
    waited_ms = 1000 * COLLECTIVES[name] * latency_s
    shares = [100 * t / (t + sent_ms + waited_ms) for t in STEPS_MS]
    cells = [f"`{name}.py`, {gradient_bytes / 1e6:.1f} MB, {COLLECTIVES[name]} collectives"]
    cells += [f"{gpus}", f"{sent_ms:.2f} + {waited_ms:.2f} ms", *(f"{s:.0f} %" for s in shares)]
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize(("recipe", "image_size"), [(painter_by_numbers, 256), (throughput, 64)])
def test_the_estimated_rows_are_those_of_the_formula(recipe, image_size):
    name = recipe.__name__.rpartition(".")[2]
    gradient_bytes = _gradient_bytes(recipe, image_size)
    rows = "\n".join(_estimated_row(name, gradient_bytes, gpus) for gpus in NETWORKS)
    assert rows in PAGE, f"scaling.md is to say:\n{rows}"


def test_a_step_s_gradients_are_as_large_as_measured():
    sizes = {row["image_size"]: row["gradient_bytes"] for row in _measured()}
    for image_size, gradient_bytes in sizes.items():
        assert _gradient_bytes(painter_by_numbers, image_size) == gradient_bytes


def test_what_the_page_names_is_there():
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", PAGE)
    files = re.findall(r"(?:launch|configs|benchmarks)/[\w-]+\.\w+", PAGE)
    assert links and files
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert [file for file in files if not (ROOT / file).exists()] == []
