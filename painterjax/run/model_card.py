"""The model card of an exported network: README.md with the header that Hugging Face reads."""

import json
from pathlib import Path
from typing import Any

from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data.catalog import JUDGED
from painterjax.metrics import bootstrap
from painterjax.model.backbones import BACKBONES
from painterjax.run import folder as run_folder
from painterjax.run import lineage
from painterjax.run.figures import artists_of, floors_of, judged_paintings
from painterjax.run.load import NETWORK, Run

METRICS = {
    "pair_roc_auc": "ROC AUC of all pairs",
    "equal_error_rate": "equal-error rate of all pairs",
    "recall_at_1": "recall@1",
    "map_at_r": "MAP@R",
}
CARD = """\
---
library_name: painterjax
pipeline_tag: image-feature-extraction
tags: [jax, paintings, style-embedding]
{header}---

# {name}

An embedding of paintings by style: paintings by one artist lie close together. A network (backbone
`{backbone}`, head `{head}`) maps an image of {size} x {size} pixels to {dim} numbers. It is step
{step} of the run `{run}` of painterjax.

## Use

```python
import numpy as np
import painterjax

style = painterjax.load("{name}")  # this folder
emb_NxD = style.embed(["one.jpg", "other.jpg"])
distance = np.linalg.norm(emb_NxD[0] - emb_NxD[1])  # small for similar styles
```

{probability} `embedder.stablehlo` is the same network for use without painterjax;
`embedder.json` says how to load it, and how an image becomes pixels.

## Data

{data}

## Figures

{figures}

## Limits

* Attributions in any collection are partly wrong. A distance says how similar two styles are to
  the network, not who painted a picture.
* It was trained on center squares: what lies outside was not seen, nor what is lost at {size} x
  {size} pixels.
* The figures hold for paintings like those above. Others may do worse: evaluate on your own.

## License

{license}
"""
PROBABILITY = """\
`style.probability(distance)` is the probability that both paintings are by one artist, if one
artist and two were equally likely beforehand."""


def text(run: Run, *, name: str, dim: int) -> str:
    """Returns the card of a run's best network; the run's store may be gone.

    Args:
      run: the run, whose evaluation.json has the figures.
      name: of the exported folder.
      dim: the features D of an embedding.
    """
    model = run.config.model
    evaluation = run_folder.read_evaluation(run.path, run.origin[NETWORK])
    published = BACKBONES[model.backbone].published
    license_id = published.license if published else ""
    judged = next((split for split in reversed(JUDGED) if split in evaluation), "")
    header = f"license: {license_id}\n" if license_id else ""
    if judged:
        header += _results(name, _store_name(run), judged, evaluation[judged])
    return CARD.format(
        header=header,
        name=name,
        backbone=model.backbone,
        head=model.head,
        size=run.embedder.image_size,
        dim=dim,
        step=run.step,
        run=run.path.resolve().name,
        probability=PROBABILITY if run.calibration else "Distances have no probabilities yet.",
        data=_data(run),
        figures="\n\n".join(
            _table(run, split, evaluation[split]) for split in JUDGED if split in evaluation
        )
        or "This network was not evaluated.",
        license=_terms(model.backbone, license_id),
    )


def _store_name(run: Run) -> str:
    return Path(run.config.data.store).name


def _results(name: str, store: str, split: str, figures: dict[str, Any]) -> str:
    """The figures as Hugging Face's `model-index`; JSON is YAML too."""
    metrics = [
        {"type": metric, "name": words, "value": figures[metric]["value"]}
        for metric, words in METRICS.items()
    ]
    result = {
        "task": {"type": "image-feature-extraction"},
        "dataset": {"type": store, "name": store, "split": split},
        "metrics": metrics,
    }
    return f"model-index: {json.dumps([{'name': name, 'results': [result]}])}\n"


def _data(run: Run) -> str:
    """What the network was trained and judged on, from the run's own record of its store."""
    dataset = run_folder.read_dataset(run.path)
    lines = [
        f"The store `{_store_name(run)}`, prepared from the source `{dataset['source']}`:",
        "",
        "| split | paintings | artists |",
        "| --- | --: | --: |",
    ]
    for split in ("train", *JUDGED):
        counts = dataset["counts"][split]
        lines.append(f"| {split} | {counts['paintings']:,} | {counts['artists']:,} |")
    if (begun := lineage.read(run.path)).run:
        lines += ["", f"Training began from the weights of the run `{Path(begun.run).name}`, which"
                  f" had seen {len(begun.artists):,} artists."]  # fmt: skip
    return "\n".join(lines)


def _table(run: Run, split: str, figures: dict[str, Any]) -> str:
    """A split's figures beside those of the floors, which need no training."""
    floors = {name.replace("_", " "): of for name, of in floors_of(figures).items()}
    columns = {"this network": figures, **floors}
    try:
        artists = artists_of(run.store.splits[split], run.artists_trained_on)
    except InputError:  # The store is gone.
        artists = counted(figures["artists"], "artist")
    lines = [
        f"On {split}, {judged_paintings(figures)} by {artists}, with 95 %"
        " intervals over artists where there are enough:",
        "",
        f"| | {' | '.join(columns)} |",
        f"| --- |{' --: |' * len(columns)}",
    ]
    for metric, words in METRICS.items():
        cells = [bootstrap.as_text(column[metric]) for column in columns.values()]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _terms(backbone: str, license_id: str) -> str:
    if license_id:
        return (
            f"The weights contain those of `{backbone}`, or were trained from them. These were\n"
            f"published under `{license_id}`."
        )
    return (
        "The weights were trained from nothing, and no license is stated yet: add `license:` to the"
        "\nheader before you publish them."
    )
