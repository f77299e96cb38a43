"""Who painted what in a whole store, and which of its paintings are by others than catalogued.

    python -m benchmarks.catalogue --run RUN --json FILE

As `attribute` does it: who painted each painting of RUN's test, in view of all others of the store;
the same without any other painting by its artist, where the answer is someone else; and which are
likelier by another artist than catalogued, where a twentieth of the test has another artist's name.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.attribution import Draw, figures
from painterjax.metrics import attribution
from painterjax.metrics.attribution import Attribution, Collection
from painterjax.run import folder as run_folder
from painterjax.run.embed import split_embeddings
from painterjax.run.load import load_run

WRONG = 0.05  # of the test's paintings have another name


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    model = run.needed_attribution()
    splits = [split_embeddings(run, name) for name in ("train", "val", "test")]
    names = [painting.artist for vectors in splits for painting in vectors.paintings]
    emb_NxD = np.concatenate([vectors.emb_NxD for vectors in splits]).astype(np.float64)
    asked = len(splits[-1].paintings)
    result = {
        "environment": run_folder.environment(),
        "pixels": run.embedder.image_size,
        "paintings": asked,
        "artists": len(set(names[-asked:])),
        "of_store": {"paintings": len(names), "artists": len(set(names))},
        "attribution": attributed(model, emb_NxD, names, asked),
        "catalogue": checked(model, emb_NxD, names, asked),
    }
    print(json.dumps(result, indent=2))
    args.json.write_text(json.dumps(result, indent=2) + "\n")


def attributed(
    model: Attribution, emb_NxD: np.ndarray, names: list[str], asked: int
) -> dict[str, Any]:
    """Returns the figures of both questions about the last `asked` paintings."""
    of, query_QxD = attribution.collect(emb_NxD, names), emb_NxD[-asked:]
    right_Q, is_own_QxA = own(of, names[-asked:])
    evidence_left_out = (is_own_QxA, is_own_QxA * of.count_A)
    found = [model.probabilities(query_QxD, of, own_QxA=left) for left in evidence_left_out]
    log_2QxB = np.log(np.maximum(np.concatenate(found), np.finfo(float).tiny))
    right_2Q = np.append(right_Q, np.full_like(right_Q, len(of.artists)))
    artist_N = np.searchsorted(of.artists, names)
    return figures([(log_2QxB, Draw(emb_NxD, artist_N, np.tile(query_QxD, (2, 1)), right_2Q))])


def checked(
    model: Attribution, emb_NxD: np.ndarray, names: list[str], asked: int
) -> dict[str, float]:
    """Returns how wrong names of some of the last `asked` paintings are found among these."""
    rng, first = np.random.default_rng(0), len(names) - asked
    wrong = first + rng.permutation(asked)[: round(WRONG * asked)]
    catalogued = list(names)
    for row in wrong:
        catalogued[row] = rng.choice(sorted({*names} - {names[row]}))
    of = attribution.collect(emb_NxD, catalogued)
    own_Q, is_own_QxA = own(of, catalogued[first:])
    found_QxB = model.probabilities(emb_NxD[first:], of, own_QxA=is_own_QxA)
    probability_Q = found_QxB[np.arange(asked), own_Q]
    is_wrong_Q = np.isin(np.arange(first, len(names)), wrong)
    is_listed_Q = probability_Q < found_QxB[:, :-1].max(1)
    listed = [row for row in np.argsort(probability_Q, kind="stable") if is_listed_Q[row]]
    return {
        "wrong": len(wrong),
        "listed": len(listed),
        "wrong_listed": int(is_wrong_Q[listed].sum()),
        "wrong_among_first": int(is_wrong_Q[listed[: len(wrong)]].sum()),
        "roc_auc": float(roc_auc_score(is_wrong_Q, -probability_Q)),
    }


def own(of: Collection, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of each painting's artist, and of which artist it is one: bool Q x A."""
    own_Q = np.searchsorted(of.artists, names)
    return own_Q, own_Q[:, None] == np.arange(len(of.artists))[None]


if __name__ == "__main__":
    main()
