"""README's promises: its commands run, its tables are the runs', its links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from painterjax.data import synthetic
from painterjax.run import evaluation

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results"
# What makes a command small: the last of two equal options wins.
SMALL = {
    "prepare": ["--image-size", "32", "--workers", "1"],
    "train": [
        "--config.num_epochs=1",
        "--config.batch_size=4",
        "--config.eval.triplets=100",
        "--config.model.embedding_dim=32",
    ],
    "evaluate": [],
    "report": [],
    "embed": ["--workers", "1"],
    "search": [],
    "submit": ["--workers", "1"],
    "export": [],
    "benchmark": ["--config.batch_size=4", "--config.model.embedding_dim=32"],
}
METRICS = {
    "roc_auc": "ROC AUC",
    "triplet_accuracy": "triplet accuracy",
    "mean_of_two_accuracy": "mean-of-two accuracy",
    "recall_at_1": "recall@1",
    "map_at_r": "MAP@R",
}


def _commands() -> list[list[str]]:
    """The words of every painterjax command in README's shell blocks, from `-m` on."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in re.split(r"&&|\n", block)]
    prefix = ".venv/bin/python -m painterjax."
    return [line.split()[1:] for line in map(str.strip, lines) if line.startswith(prefix)]


def _run(words: list[str], folder: Path) -> str:
    small = SMALL[words[1].removeprefix("painterjax.")]
    if "synthetic" in words:
        small = [*small, "--artists", "10"]
    done = subprocess.run(
        [sys.executable, *words, *small], cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def _paint(folder: Path) -> None:
    """A user's own paintings, and pairs of them."""
    for artist, painting in np.ndindex(10, 20):
        path = folder / "paintings" / f"Artist {artist}" / f"{artist}-{painting}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(synthetic.paint(seed=0, artist=artist, painting=painting, size=32)).save(
            path
        )
    pairs = "index,image1,image2\n0,0-0.png,0-1.png\n1,0-0.png,9-19.png\n"
    (folder / "pairs.csv").write_text(pairs)


def test_every_command_runs(tmp_path):
    """At a small size: first, in README's order, those that take no paintings of one's own."""
    commands = _commands()
    assert {words[1].removeprefix("painterjax.") for words in commands} == SMALL.keys()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    own = [words for words in commands if any("paintings" in word for word in words)]
    said = {tuple(words): _run(words, tmp_path) for words in commands if words not in own}
    assert not (tmp_path / "paintings").exists()
    _paint(tmp_path)
    for words in own:
        _run(words, tmp_path)
    (found,) = (text for words, text in said.items() if words[1] == "painterjax.search")
    assert _shape(found) in _shape(README), f"README is to show:\n{found}"
    for name in ("config.json", "metrics.jsonl", "evaluation.json", "checkpoints"):
        assert (tmp_path / "runs" / "quickstart" / name).exists()
    assert json.loads((tmp_path / "figures.json").read_text())["test"]
    scores = (tmp_path / "submission.csv").read_text().splitlines()
    assert scores[0] == "index,sameArtist"
    assert len(scores) == 3


def _shape(text: str) -> str:
    """A text without its numbers, and where its files are."""
    return re.sub(r" +", " ", re.sub(r"[\d.]+", "#", re.sub(r"/\S*/", "/", text)))


def test_the_python_example_runs(run, tiny_store, tmp_path):
    for path, target in (("runs/quickstart", run), ("data/synthetic", tiny_store)):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).symlink_to(target)
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"([01]\.\d\d painting \d\n){10}", done.stdout)


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def _evaluations(pattern: str) -> list[dict]:
    paths = sorted(RESULTS.glob(pattern))
    assert paths
    return [json.loads(path.read_text())["test"] for path in paths]


def _table(evaluations: list[dict], columns: list[str]) -> str:
    """The rows that README has for runs: each one's figures with intervals, then the floors."""
    lines = []
    for key, name in METRICS.items():
        figures = [evaluation[key] for evaluation in evaluations]
        cells = [f"{f['value']:.3f} [{f['low']:.2f}, {f['high']:.2f}]" for f in figures]
        averaged = [figures] if len(figures) > 1 else []
        averaged += [[e[floor][key] for e in evaluations] for floor in evaluation.FLOORS]
        cells += [f"{np.mean([f['value'] for f in some]):.3f}" for some in averaged]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    rule = "| --- " + "| --: " * len(columns) + "|"
    return "\n".join(["| | " + " | ".join(columns) + " |", rule, *lines])


@pytest.mark.parametrize(
    ("pattern", "columns"),
    [
        ("quickstart.json", ["trained", "untrained", "color histogram"]),
        (
            "paintings-seed-?.json",
            ["seed 0", "seed 1", "seed 2", "mean", "untrained", "color histogram"],
        ),
    ],
)
def test_every_table_is_that_of_the_runs(pattern, columns):
    table = _table(_evaluations(pattern), columns)
    assert table in README, f"README is to say:\n{table}"


@pytest.mark.parametrize("recipe", ["painter_by_numbers", "contrastive"])
def test_the_reference_s_rows_are_those_of_the_runs(recipe):
    figures = json.loads((RESULTS / f"{recipe}-few.json").read_text())["val"]
    trained, untrained = figures["roc_auc"], figures["untrained"]["roc_auc"]["value"]
    interval = f"[{trained['low']:.2f}, {trained['high']:.2f}]"
    row = f"| `{recipe}.py` | {untrained:.3f} | {trained['value']:.3f} {interval} |"
    assert row in README, f"README is to say: {row}"


def _learning_table() -> str:
    """README's table of what was learned in ten minutes, and how the bars stand."""
    result = _figures("throughput-learning")
    names = {
        "reference": "reference in PyTorch",
        "throughput": "`throughput.py`",
        "throughput_fifth": "`throughput.py`, a fifth of the time",
        "color_histogram": "color histogram",
    }
    lines = ["| | minutes | ROC AUC | recall@1 |", "| --- | --: | --: | --: |"]
    for key, name in names.items():
        mean = result["mean"][key]
        minutes = f"{mean['minutes']:.1f}" if "minutes" in mean else ""
        lines.append(f"| {name} | {minutes} | {mean['roc_auc']:.3f} | {mean['recall_at_1']:.3f} |")
    return "\n".join(lines)


def test_the_table_of_learning_is_what_the_command_wrote():
    table = _learning_table()
    assert table in README, f"README is to say:\n{table}"


def _speed_rows() -> list[str]:
    """README's rows of speed, from what the commands wrote."""
    names = ("device", "host", "dispatch-5")
    device, host, five = (_figures(f"cpu-benchmark-{name}") for name in names)
    loading = _figures("cpu-loading")
    images_per_s = loading["images_per_s"]
    ours = images_per_s["painterjax"]
    per_s = loading["sampling_triplets_per_s"]
    sampled = ", ".join(f"{per_s[size] / 1e6:.{n}f} M/s" for size, n in (("1024", 1), ("8", 2)))
    waits = [100 * f["loop"]["data_wait_ms"] / f["loop"]["ms"]["median"] for f in (device, host)]
    seconds = f"{device['compile_s']:.1f} s, {device['cached_compile_s']:.1f} s"
    dispatches = ", ".join(f"{each['dispatch_ms']:.2f}" for each in (device, host, five)) + " ms"
    gathered, hold = 100 * loading["gather_to_copy"], 100 * device["checkpoint_hold_ms"] / 60_000
    dataloader, files = (ours / images_per_s[k] for k in ("pytorch_dataloader", "file_per_artist"))
    cells = [
        ("triplets sampled on one core, 1,024 and 8 a batch", "1 M/s", sampled, "loading"),
        ("gathering images, of the rate of a memory copy", "60 %", f"{gathered:.0f} %", "loading"),
        ("images against a PyTorch `DataLoader`", "", f"{dataloader:.1f} times", "loading"),
        ("images against a file per artist", "", f"{files:.0f} times", "loading"),
        ("a step's wait for data, images on the device", "2 %", f"{waits[0]:.1f} %", "benchmark"),
        ("a step's wait for data, images on the host", "2 %", f"{waits[1]:.1f} %", "benchmark"),
        (
            "dispatch of a step, images on the device, on the host, five steps at a time",
            "1 ms",
            dispatches,
            "benchmark",
        ),
        ("compiling the step, first and second start", "", seconds, "benchmark"),
        ("a checkpoint's hold, of a minute", "5 %", f"{hold:.1f} %", "benchmark"),
        *_step_cells(),
        *_learning_cells(),
        *_judging_cells(),
        *_searching_cells(),
    ]
    module = {"loading": "benchmarks.loading", "benchmark": "painterjax.benchmark",
              "speed": "benchmarks.speed", "learning": "benchmarks.learning",
              "judging": "benchmarks.judging", "searching": "benchmarks.searching"}  # fmt: skip
    return [
        f"| {what} | {target} | {measured} | `{module[by]}` |"
        for what, target, measured, by in cells
    ]


def _step_cells() -> list[tuple[str, str, str, str]]:
    cells = []
    for dtype, by in (("float32", ""), ("bfloat16", ", bfloat16")):
        for size in (256, 64):
            (row,) = (r for r in _figures(f"cpu-speed-{size}")["rows"] if r["dtype"] == dtype)
            ratios = [f"{row[f'ratio_to_pytorch_{how}']:.2f}" for how in ("eager", "compiled")]
            what = f"reference step against PyTorch, eager and compiled, {size} pixels{by}"
            target = "0.8" if (dtype, size) == ("float32", 256) else ""
            cells.append((what, target, ", ".join(ratios), "speed"))
    return cells


def _learning_cells() -> list[tuple[str, str, str, str]]:
    mean = _figures("throughput-learning")["mean"]
    ours, fifth, reference = (mean[k] for k in ("throughput", "throughput_fifth", "reference"))
    ahead, early = (each["roc_auc"] - reference["roc_auc"] for each in (ours, fifth))
    recall = ours["recall_at_1"] - mean["color_histogram"]["recall_at_1"]
    minutes = [f"{each['minutes']:.1f}" for each in (ours, fifth)]
    return [
        (f"ROC AUC after {minutes[0]} minutes, above the reference's after 10", "0.05",
         f"{ahead:+.3f}", "learning"),
        (f"ROC AUC after {minutes[1]} minutes, above the reference's after 10", "0",
         f"{early:+.3f}", "learning"),
        (f"recall@1 after {minutes[0]} minutes, above the color histogram's", "0",
         f"{recall:+.3f}", "learning"),
    ]  # fmt: skip


def _judging_cells() -> list[tuple[str, str, str, str]]:
    figures = _figures("cpu-judging")
    judged, floors, scored = (figures[k] for k in ("judging", "judging_with_floors", "submit"))
    measured = [
        f"{each['minutes']:.1f} min, {each['peak_bytes'] / 1e9:.1f} GB"
        for each in (judged, floors, scored)
    ]
    assert figures["dim"] == 2048
    return [
        (f"judging {figures['paintings']:,} paintings, {judged['pairs'] / 1e6:.0f} million pairs",
         "2 min, 2 GB", measured[0], "judging"),
        ("the same beside its two floors, as `evaluate` does", "", measured[1], "judging"),
        (f"scoring {scored['pairs'] / 1e6:.0f} million pairs for Kaggle",
         "10 min, 4 GB", measured[2], "judging"),
    ]  # fmt: skip


def _searching_cells() -> list[tuple[str, str, str, str]]:
    figures = _figures("cpu-searching")
    added, found = figures["add"], figures["search"]
    size = [f"{added[key] / 1e9:.1f} GB" for key in ("disk_bytes", "peak_bytes")]
    recall = [f"{found[key]['recall']:.3f}" for key in ("own", "strangers")]
    ms = [f"{found[key]['ms']['median']:.0f}" for key in ("own", "strangers")]
    filters = [found[key] for key in ("one_artist", "other_artists", "one_century")]
    millions = f"{figures['paintings'] / 1e6:.0f} million"
    assert figures["dim"] == 64
    return [
        (f"adding {millions} vectors; on disk, in memory", "",
         f"{added['minutes']:.0f} min; {', '.join(size)}", "searching"),
        (f"recall of the ten nearest of {millions}, for paintings of the index and strangers",
         "0.95", ", ".join(recall), "searching"),
        ("recall where one artist is wanted, all other artists, one century", "0.95",
         ", ".join(f"{f['recall']:.3f}" for f in filters), "searching"),
        ("such a query, without a filter", "", f"{', '.join(ms)} ms", "searching"),
        ("such a query, with each of these filters", "1 s",
         f"{', '.join(format(f['ms']['median'], '.0f') for f in filters)} ms", "searching"),
    ]  # fmt: skip


def _figures(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_table_of_speed_is_what_the_commands_wrote():
    rows = "\n".join(_speed_rows())
    assert rows in README, f"README is to say:\n{rows}"
