"""Who painted each picture, among the artists of a collection, in words and numbers for people."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data import catalog
from painterjax.data.splits import letters_of
from painterjax.metrics.attribution import Attribution, Collection

SHOWN = 5  # artists of a picture


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An artist of the collection, with the paintings there that speak for or against."""

    artist: str
    probability: float
    paintings: int


@dataclasses.dataclass(frozen=True)
class Answer:
    """Who painted a picture: all probabilities add up to 1.

    Attributes:
      candidates: all artists of the collection, the most likely first.
      someone_else: the probability that it is none of them.
      in_collection: whether the collection has the picture itself, which is no evidence then.
    """

    candidates: list[Candidate]
    someone_else: float
    in_collection: bool

    def probability_of(self, artist: str) -> float | None:
        """Returns that of an artist, in any spelling; None for one whom the collection lacks."""
        probability = {each.artist: each.probability for each in self.candidates}
        if artist in probability:  # Nearly all are, and comparing letters is slow.
            return probability[artist]
        letters = letters_of(artist)
        return next((of for name, of in probability.items() if letters_of(name) == letters), None)


@dataclasses.dataclass(frozen=True)
class Attributed:
    """A picture with who painted it.

    Attributes:
      name: of the picture.
      catalogued: the artist by whom it is said to be; "" where that is unknown.
      probability: of that artist; None where it is unknown or not in the collection.
      answer: who painted it, with the SHOWN likeliest artists.
    """

    name: str
    catalogued: str
    probability: float | None
    answer: Answer

    @classmethod
    def of(cls, name: str, catalogued: str, answer: Answer) -> "Attributed":
        """Returns it with what is shown of an answer that has all artists."""
        probability = answer.probability_of(catalogued) if catalogued else None
        shown = dataclasses.replace(answer, candidates=answer.candidates[:SHOWN])
        return cls(name, catalogued, probability, shown)

    @property
    def is_doubtful(self) -> bool:
        """Whether another artist of the collection is likelier than the catalogued one."""
        likeliest = self.answer.candidates[0].probability
        return self.probability is not None and self.probability < likeliest


def answers(
    model: Attribution,
    emb_QxD: np.ndarray,
    of: Collection,
    own_artists: Sequence[Sequence[str]],
    *,
    someone_else: float,
) -> list[Answer]:
    """Returns who painted each picture.

    Args:
      model: the run's.
      emb_QxD: the embeddings of the pictures.
      of: the collection.
      own_artists: for each picture the artist of each painting of the collection that it is.
      someone_else: the probability beforehand that it is none of the collection's artists.

    Raises:
      InputError: the collection has no painting whose artist is known, or `someone_else` is no
        probability between 0 and 1.
    """
    if not of.artists:
        raise InputError("the collection has no painting whose artist is known: name some")
    number = {artist: i for i, artist in enumerate(of.artists)}
    own_QxA = np.zeros((len(emb_QxD), len(of.artists)))
    for row, artists in enumerate(own_artists):
        for artist in filter(None, artists):
            own_QxA[row, number[artist]] += 1
    found_QxB = model.probabilities(emb_QxD, of, own_QxA=own_QxA, someone_else=someone_else)
    count_QxA = (of.count_A[None] - own_QxA).astype(int)
    return [
        Answer(
            [
                Candidate(of.artists[a], float(found_B[a]), int(count_A[a]))
                for a in np.argsort(-found_B[:-1], kind="stable").tolist()
            ],
            float(found_B[-1]),
            bool(own),
        )
        for found_B, count_A, own in zip(found_QxB, count_QxA, own_artists, strict=True)
    ]


def write_table(path: Path, found: Sequence[Attributed]) -> None:
    """Writes a CSV with a row for each picture, and its SHOWN most likely artists side by side."""
    columns = ("artist", "probability", "paintings")
    numbered = [f"{column}_{i}" for i in range(1, SHOWN + 1) for column in columns]
    known = ("file", "in_collection", "catalogued", "catalogued_probability", "someone_else")
    rows: list[tuple[str, ...]] = [(*known, *numbered)]
    for each in found:
        answer = each.answer
        cells = [
            cell
            for artist in answer.candidates
            for cell in (artist.artist, f"{artist.probability:.4f}", str(artist.paintings))
        ]
        cells += [""] * (len(numbered) - len(cells))
        in_collection = "yes" if answer.in_collection else "no"
        probability = "" if each.probability is None else f"{each.probability:.4f}"
        catalogued = (each.catalogued, probability)
        rows.append((each.name, in_collection, *catalogued, f"{answer.someone_else:.4f}", *cells))
    files.write_text(path, catalog.csv_text(rows))


def line_of(each: Attributed) -> str:
    """Returns a picture's name, and in one line who painted it."""
    catalogued = ""
    if each.is_doubtful and each.probability is not None:
        catalogued = f"catalogued as {each.catalogued}, {100 * each.probability:.0f} %; "
    return f"{each.name}: {catalogued}{line(each.answer)}"


def line(answer: Answer, *, shown: int = 3) -> str:
    """Returns the most likely artists and someone else as one line."""
    parts = [
        f"{each.artist} {100 * each.probability:.0f} % ({counted(each.paintings, 'painting')})"
        for each in answer.candidates[:shown]
    ]
    return ", ".join([*parts, f"someone else {100 * answer.someone_else:.0f} %"])


def summary(found: Sequence[Attributed], of: Collection, *, someone_else: float) -> str:
    """Returns in a few lines what was found, and against what."""
    likely = sum(each.answer.candidates[0].probability > 0.5 for each in found)
    unknown = sum(each.answer.someone_else > 0.5 for each in found)
    own = sum(each.answer.in_collection for each in found)
    catalogued = [each for each in found if each.probability is not None]
    doubtful = sum(each.is_doubtful for each in found)
    paintings, artists = (
        counted(int(of.count_A.sum()), "painting"),
        counted(len(of.artists), "artist"),
    )
    lines = [
        f"{counted(len(found), 'picture')} against {paintings} by {artists}; beforehand someone"
        f" else has {100 * someone_else:.0f} %",
        f"  {likely} more likely than not by one artist, {unknown} by someone else,"
        f" {len(found) - likely - unknown} undecided",
    ]
    if own:
        lines.append(f"  in the collection, and no evidence for themselves: {own}")
    if catalogued:
        pictures = counted(len(catalogued), "picture")
        lines.append(f"  likelier by another artist than catalogued: {doubtful} of {pictures}")
    return "\n".join(lines)
