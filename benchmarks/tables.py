"""Writes the tables of README.md and docs/*.md from the figures in docs/results.

    python -m benchmarks.tables

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, where NAME is a key of TABLES. Its
heading and rule are kept, its rows are written.
"""

import functools
import importlib
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from painterjax.metrics.database import AT
from painterjax.model.build import build_network
from painterjax.run.figures import FLOORS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RESULTS = ROOT / "docs" / "results"
METRICS = {
    "roc_auc": "ROC AUC",
    "triplet_accuracy": "triplet accuracy",
    "mean_of_two_accuracy": "mean-of-two accuracy",
    "recall_at_1": "recall@1",
    "map_at_r": "MAP@R",
}
# Of a step that XLA compiles for two CPU devices; and the side of the images it trains on.
COLLECTIVES = {"painter_by_numbers": (72, 256), "scratch": (38, 64)}
# By number of GPUs: bytes a second of each, one way, and seconds of latency.
NETWORKS = {8: (450e9, 20e-6), 64: (50e9, 60e-6)}
STEPS_MS = (10, 50, 200)
# Collections, and devices with 16 cores each, for which docs/scaling.md says what to expect.
SIZES, DEVICES, CORES, SIDE = (10**5, 10**6, 10**7), (1, 8, 64), 16, 256
Rows = Iterator[tuple[str, ...]]


def main() -> None:
    """Writes the rows of every table."""
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")


def fill(text: str) -> str:
    """Returns a page with the rows of its tables written anew."""
    marked = r"(<!-- table: (\w+) -->\n\n\|.*\n\|.*\n)(?:\|.*\n)*(\n<!-- end -->)"

    def written(match: re.Match[str]) -> str:
        rows = (f"| {' | '.join(cells)} |\n" for cells in TABLES[match[2]]())
        return match[1] + "".join(rows) + match[3]

    return re.sub(marked, written, text)


def load(name: str) -> Any:
    """Returns a file of docs/results: JSON, or one JSON object a line."""
    text = (RESULTS / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else list(map(json.loads, text.splitlines()))


def judged(pattern: str) -> list[dict[str, Any]]:
    """Returns the figures on artists never seen of every evaluation that `pattern` finds."""
    return [load(path.name)["test"] for path in sorted(RESULTS.glob(pattern))]


def _mean(figures: Sequence[dict[str, float]]) -> str:
    return f"{np.mean([figure['value'] for figure in figures]):.3f}"


def _interval(figure: dict[str, float], digits: int = 2) -> str:
    low, high = (f"{figure[key]:.{digits}f}" for key in ("low", "high"))
    return f"{figure['value']:.{digits + 1}f} [{low}, {high}]"


def summary() -> Rows:
    """Recipes with the minutes of everything from a folder on, and their figures."""
    for recipe in ("pretrained", "finetuned"):
        rows = load(f"{recipe}.json")["rows"]
        same = [r for r in rows if (r["split_by"], r["pixels"]) == ("holdout", 224)]
        for system, trainer in (("painterjax", ""), ("pytorch", ", in PyTorch")):
            of = [row[system] for row in same if system in row]
            if of:
                figures = {key: [each[key] for each in of] for key in ("roc_auc", "recall_at_1")}
                minutes = statistics.mean(each["minutes"] for each in of)
                yield (
                    f"`{recipe}`, 224 pixels{trainer}",
                    f"real, {same[0]['painterjax']['artists']} artists",
                    f"{minutes:.1f}",
                    *map(_mean, figures.values()),
                    _mean([row["painterjax"]["color_histogram"]["roc_auc"] for row in same]),
                )
    mean = load("learning.json")["mean"]
    for key, name in (
        ("scratch", "`scratch`"),
        ("scratch_pytorch", "`scratch`, in PyTorch"),
        ("reference", "the reference, in PyTorch"),
    ):
        if key in mean:
            of = (*(mean[key][metric] for metric in ("roc_auc", "recall_at_1")),
                  mean["color_histogram"]["roc_auc"])  # fmt: skip
            whose = f"real, {mean[key]['artists']:.0f} artists"
            yield name, whose, f"{mean[key]['minutes']:.1f}", *(f"{v:.3f}" for v in of)
    test = load("quickstart.json")["test"]
    cells = (test["roc_auc"], test["recall_at_1"], test["color_histogram"]["roc_auc"])
    whose = f"synthetic, {test['artists']} artists"
    yield "`quickstart`", whose, "", *(f"{cell['value']:.3f}" for cell in cells)


def runs(pattern: str) -> Rows:
    """Every metric of runs with its interval, the mean of several, and the two floors."""
    evaluations = judged(pattern)
    for key, name in METRICS.items():
        figures = [evaluation[key] for evaluation in evaluations]
        averaged = [[evaluation[floor][key] for evaluation in evaluations] for floor in FLOORS]
        if len(evaluations) > 1:
            averaged.insert(0, figures)
        yield name, *map(_interval, figures), *map(_mean, averaged)


def learning() -> Rows:
    """Each system with what differs: trainer, pixels, epochs, minutes, and its own floor."""
    means = load("learning.json")["mean"]
    for key, (name, trainer) in {
        "reference": ("reference", "PyTorch"),
        "scratch_pytorch": ("`scratch`", "PyTorch"),
        "scratch": ("`scratch`", "painterjax"),
        "scratch_fifth": ("`scratch`, fewer epochs", "painterjax"),
        "color_histogram": ("color histogram", ""),
    }.items():
        if key in means:
            yield name, trainer, *_learned(means[key])


def _learned(mean: dict[str, Any]) -> Iterator[str]:
    """Cells of a system; empty ones for what a file of an older form does not say."""
    floor = mean.get("untrained", {})
    for form, of in (
        ("{pixels_trained:.0f}, {pixels_judged:.0f}", mean),
        ("{epochs:.1f} of {recipe_epochs:.0f}", mean),
        ("{minutes:.1f}", mean),
        ("{minutes_of_training:.1f}", mean),
        ("{roc_auc:.3f}", mean),
        ("{roc_auc:.3f}", floor),
        ("{recall_at_1:.3f}", mean),
        ("{recall_at_1:.3f}", floor),
        ("{artists:.0f}", mean),
    ):
        try:
            yield form.format_map(of)
        except KeyError:
            yield ""


def reference() -> Rows:
    """The published recipe and its pairs, after a few epochs."""
    for recipe in ("painter_by_numbers", "contrastive"):
        test = load(f"{recipe}-64.json")["test"]
        cells = []
        for metric in ("roc_auc", "recall_at_1"):
            cells += _interval(test[metric]), _mean([test["untrained"][metric]])
        yield f"`{recipe}`", *cells


def experiments() -> Rows:
    for line in load("experiments.jsonl"):
        figures = line["artists_never_seen"]
        yield f"`{line['name']}`", f"{figures['roc_auc']:.3f}", f"{figures['recall_at_1']:.3f}"


def readouts() -> Rows:
    for line in load("readouts.jsonl"):
        figures = line["artists_never_seen"].values()
        yield f"`{line['name']}`", f"{line['features']}", *(f"{value:.3f}" for value in figures)


def _whose(row: dict[str, Any], of: dict[str, float]) -> str:
    """The artists of a test, in words."""
    artists = {"holdout": "held out", "artist": f"drawn, {row['seeds']} times"}
    return f"{of['artists']:.0f} {artists[row['split_by']]}"


def pretrained() -> Rows:
    """Each system by the artists of the test and the size of the images."""
    systems = {"pytorch": "PyTorch, scikit-learn", "painterjax": "painterjax"}
    for row in load("pretrained.json")["means"]:
        for key, name in systems.items():
            what = _whose(row, row[key]), f"{row['pixels']}", name
            yield *what, *_minutes_and_figures(row[key])


def finetuned() -> Rows:
    """The same artists before and after fine-tuning, by each system that was run."""
    names = {"pytorch": "PyTorch", "painterjax": "painterjax"}
    rows = [
        (result["recipe"], place, row)
        for name, place in (("pretrained", ""), ("finetuned", ""), ("gpu-finetuned", ", GPU"))
        for result in [load(f"{name}.json")]
        for row in result["means"]
        if row["pixels"] == 224
    ]
    for recipe, place, row in sorted(rows, key=lambda each: each[2]["split_by"], reverse=True):
        for key in (name for name in names if name in row):
            whose = _whose(row, row[key])
            yield whose, f"`{recipe}`", names[key] + place, *_minutes_and_figures(row[key])


def _minutes_and_figures(of: dict[str, float]) -> Iterator[str]:
    yield f"{of['minutes']:.1f}"
    for metric in ("roc_auc", "recall_at_1", "map_at_r"):
        yield f"{of[metric]:.3f}"


def queries() -> Rows:
    """Precision and recall of the validation paintings as queries against train's."""
    found = [load(f"{name}.json") for name in ("queries", "finetuned")]
    rows = ((each["recipe"], row) for each in found for row in each["rows"])
    for recipe, row in rows:
        if row["split_by"] != "holdout":
            continue
        of = row["painterjax"]["queries"]
        count = f"{of['judged_paintings']:,} against {of['database_paintings']:,}"
        keys = [*(f"map_at_{k}" for k in AT), *(f"recall_at_{k}" for k in AT[1:])]
        figures = (_interval(of[key]) for key in keys)  # mAP@1 is recall@1.
        yield f"`{recipe}`, {row['pixels']}", count, f"{of['database_artists']}", *figures


def attribution() -> Rows:
    """Each method where it is chosen, and on the held-out artists."""
    names = {
        "plda": "**PLDA, equal variances**", "plda_full": "PLDA, covariances",
        "prototypes": "prototypes", "kernel_density": "kernel density",
        "k_nearest_10": "10 nearest", "k_nearest_30": "30 nearest",
    }  # fmt: skip
    keys = (
        "top_1",
        "top_5",
        "log_loss",
        "calibration_error",
        "auroc",
        "accuracy_at_5_percent_false",
    )
    for file, artists in (("attribution-choosing", "other"), ("attribution", "held out")):
        for key, figures in load(f"{file}.json")["methods"].items():
            yield artists, names[key], *(f"{figures[figure]:.3f}" for figure in keys)
    whole = load("catalogue.json")
    figures = (f"{whole['attribution'][figure]:.3f}" for figure in keys)
    yield f"held out, among {whole['of_store']['artists']}", names["plda"], *figures


def catalogue() -> Rows:
    """How wrong names in a catalogue are found."""
    whole = load("catalogue.json")
    found = whole["catalogue"]
    yield "paintings, of which some have a wrong name", f"{whole['paintings']:,}, {found['wrong']}"
    yield "listed as likelier by another artist", f"{found['listed']}"
    yield "of those with a wrong name, listed", f"{found['wrong_listed']} of {found['wrong']}"
    first = f"{found['wrong_among_first']} of {found['wrong']}"
    yield f"of the first {found['wrong']} listed, with a wrong name", first
    yield "ROC AUC of the catalogued artist's probability", f"{found['roc_auc']:.3f}"


def wide() -> Rows:
    """Each way to embed wide paintings, and what they are compared with."""
    wide = load("wide.json")
    artists = f"{wide['artists']}"
    for row in wide["rows"]:
        for name, figures in row["ways"].items():
            values = (f"{figures[key]:.3f}" for key in ("pair_roc_auc", "recall_at_1"))
            yield f"{row['ratio']:g}", f"{row['squares']}", *name.split(" among "), artists, *values


def loading() -> Rows:
    figures = load("cpu-loading.json")
    many, few = (figures["sampling_triplets_per_s"][size] / 1e6 for size in ("1024", "8"))
    yield "triplets sampled on one core, in batches of 1,024", "1 M/s", f"{many:.1f} M/s"
    yield "triplets sampled on one core, in batches of 8", "1 M/s", f"{few:.1f} M/s"
    gathered = f"{100 * figures['gather_to_copy']:.0f} %"
    yield "gathering images, against a memory copy", "60 %", gathered
    rates = figures["images_per_s"]
    for key, name in (
        ("pytorch_dataloader", "a PyTorch `DataLoader`"),
        ("file_per_artist", "one file per artist"),
        ("painterjax_jpeg", "JPEG files of a store of `prepare --jpeg`"),
    ):
        times = f"{rates['painterjax'] / rates[key]:.1f} times"
        yield f"loading images, against {name}", "", times


def stages() -> Rows:
    places = {"device": "images on the device", "host": "images on the host"}
    for place, name in {**places, "dispatch-5": "five steps per dispatch"}.items():
        figures = load(f"cpu-benchmark-{place}.json")
        if place in places:
            wait = 100 * figures["loop"]["data_wait_ms"] / figures["loop"]["ms"]["median"]
            yield f"waiting for data, share of a step, {name}", "2 %", f"{wait:.1f} %"
        yield f"dispatch of a step, {name}", "1 ms", f"{figures['dispatch_ms']:.2f} ms"
    figures = load("cpu-benchmark-device.json")
    seconds = f"{figures['compile_s']:.1f} s, {figures['cached_compile_s']:.1f} s"
    yield "compiling the step: first start, later starts", "", seconds
    hold = f"{100 * figures['checkpoint_hold_ms'] / 60_000:.1f} %"
    yield "saving a checkpoint every minute, share of the time", "5 %", hold


def steps() -> Rows:
    systems = ("eager", "compiled")
    variants = {
        "": "", "-two-steps": ", two steps per dispatch", "-avx2": ", instructions of AVX2 alone",
        "-jax-0.10": "",
    }  # fmt: skip
    for variant, size in itertools.product(variants, (256, 64)):
        how = variants[variant]
        result = load(f"cpu-speed-{size}{variant}.json")
        jax = result["environment"]["packages"]["jax"]
        for row in result["rows"]:
            what = f"{row['image_size']} pixels, {row['dtype']}{how}"
            ratios = [row.get(f"ratio_to_pytorch_{system}") for system in systems]
            target = "1.0" if row["dtype"] == "float32" else ""
            yield what, jax, target, *(f"{ratio:.2f}" if ratio else "" for ratio in ratios)


def gpu() -> Rows:
    """Steps on one GPU, each of one run."""
    (row,) = load("gpu-speed-finetuned.json")["rows"]
    systems = ("painterjax", "pytorch_eager", "pytorch_compiled")
    rates = (f"{row[system]['images_per_s']:,.0f}" for system in systems)
    what = f"`finetuned`, {row['image_size']} pixels, {row['batch_size']} images"
    yield what, "H200", *rates
    figures = load("gpu-benchmark.json")
    what = f"reference, {figures['image_size']} pixels, {figures['batch_size']} triplets"
    yield what, "H100", f"{figures['step']['images_per_s']:,.0f}", "", ""


def batches() -> Rows:
    """Steps on batches larger than the memory, on one GPU."""
    for row in load("gpu-batches.json")["rows"]:
        images = f"{row['images']:,}, {row['chunk']} at a time", "yes" if row["remat"] else "no"
        memory = f"{row['memory_bytes'] / 1e9:.1f} GB"
        yield *images, f"{1000 * row['step_s']:,.0f} ms", f"{row['images_per_s']:,.0f}", memory


def backbones() -> Rows:
    tasks = (("forward", "forward", 1.0), ("forward_backward", "forward and backward", 0.8))
    for size, figures in load("cpu-backbones.json")["sizes"].items():
        for key, name, target in tasks:
            of = figures[key]
            times = (f"{of[f'{system}_ms']:,.0f} ms" for system in ("painterjax", "pytorch"))
            yield f"{name}, {size} pixels", f"{target:.1f}", *times, f"{of['ratio']:.2f}"


def large() -> Rows:
    """Minutes and memory of what grows with a collection."""
    judging, searching = load("cpu-judging.json"), load("cpu-searching.json")
    whole, scored = (f"{judging[key]['pairs'] / 1e6:.0f} million" for key in ("judging", "submit"))
    evaluating = f"evaluating {judging['paintings']:,} paintings, {whole} pairs"
    adding = f"adding {searching['paintings'] / 1e6:.0f} million vectors to an index"
    for what, target, of in (
        (evaluating, "2 min, 2 GB", judging["judging"]),
        (
            "the same with its two floors, whose vectors are given",
            "1 min",
            judging["judging_with_floors"],
        ),
        *_sampled(judging),
        (f"scoring {scored} pairs for Kaggle", "10 min, 4 GB", judging["submit"]),
        (adding, "", searching["add"]),
    ):
        yield what, target, f"{of['minutes']:.1f} min, {of['peak_bytes'] / 1e9:.1f} GB"
    yield "adding one more to these", "10 s", f"{max(searching['add_one'].values()):.1f} s"
    verifying = load("cpu-verifying.json")
    checking = f"checking a store of {verifying['bytes'] / 1e9:.0f} GB"
    yield f"{checking} for the first time", "", f"{verifying['first']['s'] / 60:.1f} min"
    later_s = verifying["open"]["s"] + verifying["later"]["s"]
    yield f"opening and {checking} at a later start", "10 s", f"{later_s:.1f} s"


def _sampled(judging: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Splits of which a sample is compared with all, and the largest with all pairs."""
    of = judging["sampled"]
    for row in of["rows"]:
        what = f"evaluating {row['paintings']:,} paintings of {of['dim']} numbers"
        target = "5 min, 4 GB" if row is of["rows"][-1] else ""
        yield f"{what}, {row['judged']:,} of them with all", target, row
    yield "the same by all pairs", "", of["all_pairs"]


def sampling() -> Rows:
    """Figures of a sample beside those of all."""
    of = load("cpu-judging.json")["sampled"]
    for key, name in (("pair_roc_auc", "ROC AUC of pairs"), ("recall_at_1", "recall@1")):
        sample, whole = of["rows"][-1][key], of["all_pairs"][key]
        target = "0.001" if key == "pair_roc_auc" else ""
        off = f"{abs(sample['value'] - whole['value']):.5f}"
        yield name, _interval(sample, 4), _interval(whole, 4), target, off


def listing() -> Rows:
    """Seconds and memory of the rows of a large collection."""
    found = load("listing.json")
    for what, step, target in (
        ("listed", "list", ""),
        ("their SHA-256", "digest", ""),
        ("split by artist", "split", ""),
        ("written", "write", ""),
        ("all of it", "all", "60 s, 3 GB"),
    ):
        yield what, target, *(_seconds(found[source][step]) for source in ("csv", "parquet"))
    yield "the store opened", "", _seconds(found["open"]), ""


def _seconds(of: dict[str, float]) -> str:
    return f"{of['s']:.1f} s, {of['peak_bytes'] / 1e9:.1f} GB"


def searching() -> Rows:
    for key, name, target in (
        ("own", "for an indexed painting", ""),
        ("strangers", "for a new painting", ""),
        ("one_artist", "within one artist", "1 s"),
        ("other_artists", "within all other artists", "1 s"),
        ("one_century", "within one century", "1 s"),
    ):
        found = load("cpu-searching.json")["search"][key]
        yield name, "0.95", f"{found['recall']:.3f}", target, f"{found['ms']['median']:.0f} ms"


def page() -> Rows:
    """How the page of a large collection does in a browser."""
    figures = load("page.json")
    first, shown = (f"{figures[key]:.2f} s" for key in ("first_paint_s", "map_s"))
    yield "first paint", "2 s", first
    yield "the map with all thumbnails", "", shown
    yield "frames a second while zooming", "30", f"{figures['frames_per_s']:.0f}"
    yield "the first start, which places the paintings", "", f"{figures['first_start_s']:.0f} s"


def near_duplicates() -> Rows:
    """The share of copies that are found, and the different paintings taken for one."""
    figures = load("near-duplicates.json")
    columns = [figures["distances"].index(distance) for distance in (10, 20, 30, 40, 50, 60)]
    for name, copies in figures["found"].items():
        yield name, *(f"{100 * copies['found'][column]:.1f} %" for column in columns)
    of = figures["different_pairs"]
    for key, name in (("within_distance", "by distance alone"), ("found", "found")):
        yield f"pairs of originals {name}", *(f"{of[key][column]}" for column in columns)


def intervals() -> Rows:
    """How often intervals hold the truth, where artists differ little and much."""
    results = load("intervals.json")
    rows, of = results["rows"], results["collections"]
    for name in dict.fromkeys(row["metric"] for row in rows):
        same = [row for row in rows if row["metric"] == name]
        shares = [100 * row[key] / of for key in ("all_artists", "anchors_artists") for row in same]
        yield METRICS[name], *(f"{share:.0f} %" for share in shares)


def scaling() -> Rows:
    for row in load("cpu-scaling.json")["rows"] + load("cpu-scaling-256.json")["rows"]:
        step, all_reduce_ms = row["step_ms"], row["all_reduce_ms"]["median"]
        yield (
            f"{row['gradient_bytes'] / 1e6:.1f} MB, {row['image_size']} pixels",
            f"{row['processes']}",
            f"{all_reduce_ms:.1f} ms, {100 * all_reduce_ms / step['median']:.1f} %",
            f"{step['median']:,.0f} ms ({step['p10']:,.0f} to {step['p90']:,.0f})",
            f"{row['images_per_step']}",
            f"{row['images_per_s']:.1f}",
        )


def estimate() -> Rows:
    """What remains of one GPU's rate, by the formula of docs/scaling.md."""
    for name, (collectives, image_size) in COLLECTIVES.items():
        size = gradient_bytes(name, image_size)
        for gpus, (bandwidth, latency_s) in NETWORKS.items():
            sent_ms = 1000 * 2 * (gpus - 1) / gpus * size / bandwidth
            waited_ms = 1000 * collectives * latency_s
            shares = [100 * ms / (ms + sent_ms + waited_ms) for ms in STEPS_MS]
            what = f"`{name}`, {size / 1e6:.1f} MB, {collectives} collectives"
            percent = (f"{share:.0f} %" for share in shares)
            yield what, f"{gpus}", f"{sent_ms:.2f} + {waited_ms:.2f} ms", *percent


def _peak_bytes(images: int) -> dict[str, float]:
    """The memory of one process, of the stages of `sizes` where it was measured."""
    few, many = load("preparing.json")["rows"]
    image_bytes = (many["peak_bytes"] - few["peak_bytes"]) / (many["images"] - few["images"])
    _, most = load("near-duplicates.json")["collections"]
    listed, sampled = load("listing.json"), load("cpu-judging.json")["sampled"]
    judged = sampled["rows"][-1]
    vectors = 4 * sampled["dim"] * (images - judged["paintings"])
    return {
        "listing, splitting and writing the rows, from Parquet": listed["parquet"]["all"][
            "peak_bytes"
        ],
        "decoding to 224 pixels": few["peak_bytes"] + image_bytes * (images - few["images"]),
        "finding near duplicates": most["peak_bytes"] * images / most["hashes"],
        "opening and checking it later": listed["open"]["peak_bytes"],
        "adding vectors of 64 numbers to an index": load("cpu-searching.json")["add"]["peak_bytes"],
        "judging, of 64 numbers, without floors": judged["peak_bytes"] + vectors,
    }


def sizes() -> Rows:
    """What each stage takes by number of images, for 1, 8 and 64 devices."""
    prepared = load("pretrained.json")["rows"]
    minutes = statistics.mean(r["minutes_of_preparation"] for r in prepared if r["pixels"] == 224)
    per_core = 7023 / (60 * minutes) / 2
    listed, checked = load("listing.json"), load("cpu-verifying.json")
    sampled, added = load("cpu-judging.json")["sampled"], load("cpu-searching.json")
    judged = sampled["rows"][-1]
    step = load("gpu-benchmark.json")["step"]
    rates = [_rate_of(step, devices) for devices in DEVICES]
    image_bytes = 3 * SIDE**2
    fewer, most = load("near-duplicates.json")["collections"]  # ten times as many

    def shared(seconds_on_two_cores: float) -> list[float]:
        return [seconds_on_two_cores * 2 / (CORES * devices) for devices in DEVICES]

    stages: dict[str, Callable[[int], list[float]]] = {
        "listing, splitting and writing the rows, from Parquet": lambda n: [
            listed["parquet"]["all"]["s"] * n / listed["rows"]
        ],
        "decoding to 224 pixels": lambda n: shared(n / per_core / 2),
        "finding near duplicates": lambda n: [
            most["seconds"] * (most["seconds"] / fewer["seconds"]) ** math.log10(n / most["hashes"])
        ],
        "checking a store of 256 pixels for the first time": lambda n: shared(
            checked["first"]["s"] * n * image_bytes / checked["bytes"]
        ),
        "opening and checking it later": lambda n: [listed["open"]["s"] * n / listed["rows"]],
        "an epoch of the reference, 256 pixels": lambda n: [3 * n / rate for rate in rates],
        "adding vectors of 64 numbers to an index": lambda n: [
            60 * added["add"]["minutes"] * n / added["paintings"]
        ],
        "judging, of 64 numbers, without floors": lambda n: shared(
            60 * judged["minutes"] * n / judged["paintings"]
        ),
    }
    peak_bytes = _peak_bytes(SIZES[-1])
    for name, stage in stages.items():
        memory = f"{peak_bytes[name] / 1e9:.1f} GB" if name in peak_bytes else ""
        yield name, *(" / ".join(map(_duration, stage(n))) for n in SIZES), memory


def _rate_of(step: dict[str, Any], devices: int) -> float:
    """Images a second of a step on several devices: of one, less what communication takes."""
    if devices == 1:
        return step["images_per_s"]
    collectives, side = COLLECTIVES["painter_by_numbers"]
    bandwidth, latency_s = NETWORKS[devices]
    sent = 2 * (devices - 1) / devices * gradient_bytes("painter_by_numbers", side) / bandwidth
    step_s = step["ms"]["median"] / 1000
    return devices * step["images_per_s"] * step_s / (step_s + sent + collectives * latency_s)


def _duration(seconds: float) -> str:
    """Two digits of seconds, minutes, hours or days."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600), ("d", 86400)):
        if seconds < {"s": 100, "min": 5400, "h": 172800}.get(unit, math.inf):
            value = seconds / length
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    raise AssertionError


@functools.cache
def gradient_bytes(recipe: str, image_size: int) -> int:
    """Returns the bytes of a recipe's gradients, which an all-reduce sends."""
    config = importlib.import_module(f"configs.{recipe}").get_config()
    _, params, _ = build_network(config, image_size=image_size)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))


def guarantees() -> Rows:
    kills = load("kills.jsonl")
    for command, ends in (("train", "trainings"), ("prepare", "stores")):
        lines = [line for line in kills if line["command"] == command]
        killed, ended = (sum(key in line for line in lines) for key in ("kill", "ended"))
        terminated = sum(line.get("by") == "SIGTERM" for line in lines)
        differences = sum(len(line.get("differences", [])) for line in lines)
        what = f"{killed} kills of `{command}`, {terminated} of them by SIGTERM"
        yield what, f"{ended} {ends} finished, {differences} differences"
    slowest_s = max(line.get("stop_s", 0) for line in kills)
    yield "longest time from SIGTERM to exit, beside other work", f"{slowest_s:.1f} s"
    memory, malformed = load("memory.json"), load("malformed.json")
    yield f"growth of memory in {memory['steps']:,} steps", f"{100 * memory['growth']:+.1f} %"
    for kind in ("images", "tables", "stores", "configs", "runs"):
        of = malformed[kind]
        most = f"{of['longest_s']['value']:.2f} s, {of['peak_bytes']['value'] / 1e9:.1f} GB"
        failures = len(of["failures"])
        yield f"{of['cases']:,} malformed {kind}", f"{failures} failures, at most {most}"
    page = malformed["page"]
    left = f"{page['threads']} threads and {page['files']} open files left"
    yield f"{page['answers']:,} answers of the web page in a minute, to 64 clients", left
    for bound, versions in (("lowest-direct", "lowest"), ("highest", "newest")):
        python, *_, tests = (RESULTS / f"bounds-{bound}.txt").read_text().splitlines()
        yield (
            f"the {versions} versions of direct dependencies, {python}",
            tests.partition(" in ")[0],
        )


TABLES: dict[str, Callable[[], Rows]] = {
    "quickstart": lambda: runs("quickstart.json"),
    **{
        table.__name__: table
        for table in (
            summary, learning, reference, pretrained, finetuned, queries, attribution, catalogue,
            readouts, wide, experiments, loading, stages, steps, gpu, batches, backbones, large,
            sampling, listing, searching, page, near_duplicates, intervals, scaling, estimate,
            sizes, guarantees,
        )
    },
}  # fmt: skip

if __name__ == "__main__":
    main()
