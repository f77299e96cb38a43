"""The report's plots as matplotlib figures, drawn with STYLE in force."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from painterjax.data import raster
from painterjax.data.store import Split
from painterjax.metrics.pairs import Pairs
from painterjax.pages.html import Tile

GRAY = "#7d7d7d"  # a contrast of 4 to 1 with both white and black
BLUE, ORANGE = "#3d85c6", "#d9822b"
BORDERS = {"": "none", "same": ORANGE, "other": BLUE}
STYLE: Any = {  # legible on a light and on a dark background
    "axes.edgecolor": GRAY,
    "axes.labelcolor": GRAY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": GRAY,
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "painterjax",  # The same figure gives the same SVG.
    "text.color": GRAY,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
}
HISTOGRAM_BINS = 80
MAP_INCHES = 9.0
THUMBNAIL_INCHES = 0.22
LABEL_INCHES = 0.18  # the height of a name on the map, and twice a letter's width
HEAT = "autumn"
NAMED_ARTISTS = 20  # on the map, as many as there are colors
PICTURE_INCHES = 1.2
TILE = 256  # pixels of a picture at most


def svg(figure: Figure) -> str:
    """Returns a figure as an SVG element with a transparent background."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def curve(records: list[dict[str, Any]], key: str, *, title: str) -> Figure:
    """A metric of training and validation by step."""
    figure, axis = _panel()
    for split, color in (("train", BLUE), ("val", ORANGE)):
        points = [(r["step"], r[key]) for r in records if r["split"] == split and key in r]
        if points:
            axis.plot(*zip(*points, strict=True), color=color, label=split, linewidth=1.5)
    axis.set(xlabel="step")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_legend(axis, title=title)
    return figure


def paintings_per_artist(count_A: np.ndarray, *, title: str) -> Figure:
    """The number of paintings of each artist, sorted."""
    figure, axis = _panel()
    axis.bar(np.arange(len(count_A)), np.sort(count_A)[::-1], width=1.0, color=BLUE)
    axis.set(title=title, xlabel="artist", ylabel="paintings")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(MaxNLocator(integer=True))
    return figure


def roc(pairs: Pairs, *, roc_auc: float) -> Figure:
    """The ROC curve over all pairs."""
    figure, axis = _panel()
    positive_K, negative_K = (
        np.cumsum(count_K) / count_K.sum() for count_K in (pairs.same_K, pairs.different_K)
    )
    # A thousand points look as smooth as a million.
    place_M = np.searchsorted(positive_K, np.linspace(0, 1, 1000), side="left")
    place_M = np.minimum(place_M, len(positive_K) - 1)
    x_M, y_M = ([0.0, *rate_K[place_M], 1.0] for rate_K in (negative_K, positive_K))
    axis.plot(x_M, y_M, color=BLUE, linewidth=2, label=f"area {roc_auc:.3f}")
    axis.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    axis.set(
        xlabel="false-positive rate (pairs by two artists)",
        ylabel="true-positive rate (pairs by one artist)", aspect="equal", title="ROC",
    )  # fmt: skip
    axis.legend(loc="lower right")
    return figure


def distances(pairs: Pairs, *, threshold: float | None) -> Figure:
    """The distributions of the distances of pairs by one artist and by two artists."""
    figure, axis = _panel()
    seen = np.flatnonzero(pairs.same_K + pairs.different_K)
    edge_B = np.linspace(0, pairs.edge_E[seen[-1] + 1], HISTOGRAM_BINS + 1)
    for count_K, color, label in (
        (pairs.same_K, ORANGE, "one artist"),
        (pairs.different_K, BLUE, "two artists"),
    ):
        share_B, _ = np.histogram(pairs.middles(), edge_B, weights=count_K / count_K.sum())
        axis.stairs(share_B, edge_B, fill=True, alpha=0.5, color=color, label=label)
    if threshold is not None:
        axis.axvline(threshold, color=GRAY, linestyle=":", label="threshold from validation")
    axis.set(xlabel="distance", ylabel="share of pairs", yticks=[])
    _add_legend(axis, title="Distances")
    return figure


def scatter(
    place_Nx2: np.ndarray, image_NxSxSxC: np.ndarray, artist_N: np.ndarray, artists: Sequence[str]
) -> Figure:
    """A map of paintings; the artists with the most paintings have a color and a name."""
    figure = Figure(figsize=(MAP_INCHES, MAP_INCHES), layout="constrained", dpi=200)
    axis = figure.subplots()
    count_A = np.bincount(artist_N)
    named = np.argsort(-count_A, kind="stable")[: min(np.count_nonzero(count_A), NAMED_ARTISTS)]
    palette = matplotlib.colormaps["tab20"](np.arange(NAMED_ARTISTS))
    colors = {int(artist): tuple(color) for artist, color in zip(named, palette, strict=False)}
    zoom = 72 * THUMBNAIL_INCHES / image_NxSxSxC.shape[1]
    for place_2, image_SxSxC, artist in zip(place_Nx2, image_NxSxSxC, artist_N, strict=True):
        frame = {"edgecolor": colors.get(int(artist), GRAY), "linewidth": 1.2}
        box = OffsetImage(image_SxSxC, zoom=zoom)
        axis.add_artist(AnnotationBbox(box, place_2, pad=0.0, bboxprops=frame))
    axis.update_datalim(place_Nx2)
    axis.autoscale_view()
    middles = [np.median(place_Nx2[artist_N == artist], axis=0) for artist in colors]
    sizes = [(LABEL_INCHES * (len(artists[artist]) / 2 + 1), LABEL_INCHES) for artist in colors]
    units_2 = np.ptp([axis.get_xlim(), axis.get_ylim()], axis=1) / MAP_INCHES
    places = _separate_labels(np.array(middles), np.array(sizes) * units_2[None])
    for (artist, color), (x, y) in zip(colors.items(), places, strict=True):
        ground = {"facecolor": "white", "edgecolor": color, "alpha": 0.85, "boxstyle": "round"}
        axis.text(
            x, y, str(artists[artist]), bbox=ground, color="black", fontsize=7, ha="center",
            va="center", zorder=10, parse_math=False,
        )  # fmt: skip
    axis.set_axis_off()
    return figure


def _separate_labels(place_Mx2: np.ndarray, size_Mx2: np.ndarray) -> np.ndarray:
    """Moves labels down, in order from the top, until none overlaps another."""
    moved_Mx2 = place_Mx2.copy()
    done: list[int] = []
    for label in np.argsort(-place_Mx2[:, 1], kind="stable").tolist():
        while True:
            gap_Mx2 = abs(moved_Mx2[done] - moved_Mx2[label][None])
            needed_Mx2 = (size_Mx2[done] + size_Mx2[label][None]) / 2
            hidden_M = (gap_Mx2 < needed_Mx2).all(axis=1)
            if not hidden_M.any():
                break
            lowest = moved_Mx2[done][hidden_M, 1].min()
            moved_Mx2[label, 1] = lowest - 1.01 * size_Mx2[label, 1]
        done.append(label)
    return moved_Mx2


def reliability(
    probability_B: np.ndarray, share_B: np.ndarray, weight_B: np.ndarray, *, stated: str, share: str
) -> Figure:
    """Shares against stated probabilities, with what they are of as labels."""
    figure, axis = _panel()
    axis.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    axis.plot(probability_B, share_B, color=BLUE, linewidth=1.0)
    axis.scatter(probability_B, share_B, s=400 * weight_B, color=BLUE)
    axis.set(xlabel=stated, ylabel=share, aspect="equal", title="Calibration")
    return figure


def tile_sheet(split: Split, rows: Sequence[Sequence[Tile]]) -> Figure:
    """Rows of tiles, with the same borders as on the page."""
    across = max(len(row) for row in rows)
    size = (PICTURE_INCHES * across, 1.2 * PICTURE_INCHES * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes_RxC = figure.subplots(len(rows), across, squeeze=False)
    for axis in axes_RxC.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis_C, row in zip(axes_RxC, rows, strict=True):
        for axis, tile in zip(axis_C, row, strict=False):
            image_HxWxC = raster.reduced(split.picture(tile.row), TILE)
            axis.imshow(image_HxWxC)
            _mark_square(axis, image_HxWxC)
            axis.set_title(tile.caption, fontsize=8)
            axis.spines["bottom"].set(visible=True, color=BORDERS[tile.kind], linewidth=4)
    return figure


def _mark_square(axis: Any, image_HxWxC: np.ndarray) -> tuple[float, float, float, float]:
    """Draws a line around what the network sees; returns its left, right, bottom and top."""
    height, width, _ = image_HxWxC.shape
    x, y, side = raster.center_square(height, width)
    left, top = x - 0.5, y - 0.5  # Places are those of pixels' centers.
    if height != width:
        axis.add_patch(Rectangle((left, top), side, side, fill=False, color="white"))
    return left, left + side, top + side, top


def likeness(
    shown: Sequence[tuple[bytes, bytes]], share_Px2xMxM: np.ndarray, captions: list[str]
) -> Figure:
    """Pairs of paintings, two pairs a row, with the shares of their likeness in color."""
    rows = -(-len(captions) // 2)
    size = (PICTURE_INCHES * 4.2, 1.2 * PICTURE_INCHES * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes_Px2 = figure.subplots(rows, 4, squeeze=False).reshape(-1, 2)
    for axis in axes_Px2.flat:
        axis.set_axis_off()
    for axis_2, pair, share_2xMxM, caption in zip(
        axes_Px2, shown, share_Px2xMxM, captions, strict=False
    ):
        for axis, picture, share_MxM in zip(axis_2, pair, share_2xMxM, strict=True):
            image_HxWxC = raster.reduced(picture, TILE)
            drawn = axis.imshow(image_HxWxC.mean(axis=2), cmap="gray", vmin=-100, vmax=255)
            axis.imshow(
                share_MxM, cmap=HEAT, alpha=0.8 * share_MxM, vmin=0, vmax=1,
                interpolation="bilinear", extent=_mark_square(axis, image_HxWxC),
            )  # fmt: skip
            left, right, bottom, top = drawn.get_extent()
            axis.set(xlim=(left, right), ylim=(bottom, top))
        axis_2[0].set_title(caption, fontsize=8, loc="left")
    return figure


def _panel() -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    return figure, figure.subplots()


def _add_legend(axis: Any, *, title: str) -> None:
    """Puts the legend above the plot, where it hides nothing."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, title=title, columnspacing=1.0
        )
