"""The report of a tiny run: one page that opens offline, its sections, tables and plots."""

import collections
import dataclasses
import io
import json
import re
import shutil
import zipfile
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image

from painterjax import prepare, report
from painterjax.common.errors import InputError
from painterjax.data import raster, store
from painterjax.data.catalog import Painting
from painterjax.data.pictures import Pictures
from painterjax.metrics.attribution import collect
from painterjax.pages import html, plots
from painterjax.pages import report as pages_report
from painterjax.run import summary
from painterjax.run.embed import split_embeddings
from painterjax.run.load import load_run
from tests.helpers import tiny

HEADINGS = (
    "Who painted", "Metrics", "Training", "Paintings per artist", "Training triplets",
    "Test triplets", "Worst mistakes", "Pairs", "Artists, styles", "Nearest", "Where",
    "Artists most often", "Map", "How it was trained",
)  # fmt: skip
PICTURES = ("trained_on", "triplets", "mistakes", "neighbors")


@pytest.fixture(scope="module")
def page(run) -> str:
    report.main(["--run", str(run)])
    return (run / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_loads_nothing(page):
    tree = ElementTree.fromstring(page.partition("\n")[2])  # Every tag is closed.
    headings = ["".join(heading.itertext()) for heading in tree.iter("h2")]
    for heading, expected in zip(headings, HEADINGS, strict=True):
        assert heading.startswith(expected)
    attributes = (item for element in tree.iter() for item in element.items())
    sources = [value for name, value in attributes if name.endswith(("src", "href"))]
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert not re.search(r"@import|url\((?!#)", page)


@pytest.mark.parametrize(("width", "is_marked"), [(200, True), (100, False)])
def test_a_tile_marks_the_square_that_the_network_saw(width, is_marked, tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (width, 100)).save(data, "JPEG")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("0.jpg", data.getvalue())
    split = store.Split(
        "test", np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, np.int32), ["Monet"],
        [Painting("a.jpg", "Monet")], pictures=Pictures(tmp_path / "pictures.zip"),
    )  # fmt: skip
    tile = html.tile(split, html.Tile(row=0, caption="nearest"))
    assert ('class="whole seen"' in tile) == is_marked
    assert f"--ratio: {width / 100:.4f}" in tile


def test_its_metrics_are_those_of_the_evaluation(page, run):
    test = json.loads((run / "evaluation.json").read_text())["test"]
    names = {"roc_auc": "ROC AUC of triplets", "recall_at_5": "recall@5"}
    for metric, name in names.items():
        assert f"<td>{name}</td><td>{test[metric]['value']:.3f}<" in page
    assert "There are no intervals" in page  # of two artists
    assert f"balanced accuracy of {test['at_threshold']['balanced_accuracy']:.3f}" in page
    for artist in test["groups"]["artist"]:
        assert f"<td>{artist['name']}</td><td>{artist['paintings']}</td>" in page


def test_it_says_first_whether_the_network_works(page, run):
    test = json.loads((run / "evaluation.json").read_text())["test"]
    recall = 100 * test["recall_at_1"]["value"]
    lead = page.partition("<h1>")[2].partition("<h2>")[0]
    assert f"<strong>{summary.outcome(test)}</strong>: for {recall:.0f} % of 16 paintings" in lead
    assert f"{summary.verdict(test, 'recall_at_1')}." in unescape(lead)
    for metric in ("MAP@R", "equal-error rate"):
        assert f"<dt>{metric}</dt>" in page


def test_it_says_who_painted_some_paintings_and_how_often_that_is_right(page, run):
    opened = load_run(run)
    embedded = split_embeddings(opened, "test")
    names = [painting.artist for painting in embedded.paintings]
    section = page.partition("<h2>Who painted this</h2>")[2].partition("<h2>")[0]
    right = 0
    for row, name in enumerate(names):  # Of two artists, in view of all other paintings.
        others = np.arange(len(names)) != row
        of = collect(embedded.emb_NxD[others], np.array(names)[others].tolist())
        found_B = opened.needed_attribution().probabilities(embedded.emb_NxD[row : row + 1], of)[0]
        right += of.artists[found_B[:-1].argmax()] == name
    assert f"the right one for {100 * right / len(names):.0f} % of 16 paintings" in section
    assert section.count("someone else ") == html.QUERIES
    for shares in re.findall(r'<ol class="answer">(.*?)</ol>', section):
        stated = [int(share) for share in re.findall(r" (\d+) %", shares)]
        assert abs(sum(stated) - 100) <= 1 and stated == sorted(stated, reverse=True)


def test_it_says_how_the_run_was_trained(page, run):
    environment = json.loads((run / "environment.json").read_text())
    section = page.partition("<h2>How it was trained</h2>")[2]
    assert f"<td>begun</td><td>{environment['begun']}</td>" in section
    assert f"<td>jax</td><td>{environment['packages']['jax']}</td>" in section
    assert "<td>model.embedding_dim</td><td>16</td><td>2048</td>" in section


def test_an_interval_is_in_small_print(split):
    judged = {"pair_roc_auc": {"value": 0.75, "low": 0.5, "high": 1.0}}
    table = html.metrics_table({**judged, "untrained": judged, "color_histogram": judged}, split)
    assert "36 paintings by 6 artists. In brackets" in table
    assert "<td>0.750 <small>[0.50, 1.00]</small></td>" in table
    assert "95 % intervals" in table


def test_a_triplet_is_correct_if_the_same_artist_s_painting_is_nearer():
    emb_NxD = np.array([[0.0], [1.0], [3.0]])
    correct, wrong = html.triplet_tiles(np.array([[0, 1, 2], [0, 2, 1]]), emb_NxD)
    assert [tile.caption for tile in correct] == ["correct", "1.000", "3.000"]
    assert [tile.kind for tile in correct] == ["", "same", "other"]
    assert wrong[0].caption == "wrong"


def test_the_most_confused_are_those_of_a_plain_search(split):
    emb_NxD = np.random.default_rng(0).normal(size=(len(split), 3)).astype(np.float32)
    distance_NxN = np.linalg.norm(emb_NxD[:, None] - emb_NxD[None], axis=2) + np.diag([9e9] * 36)
    counts = collections.Counter(
        (split.artists[a], split.artists[b])
        for a, b in zip(split.artist_N, split.artist_N[distance_NxN.argmin(axis=1)], strict=True)
        if a != b
    )
    (first, second), count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    assert count > 1
    cells = f"<tr><td>{first}</td><td>{second}</td><td>{100 * count / 6:.0f} %</td><td>6</td></tr>"
    row_N = np.arange(len(split))
    assert html.confused_table(emb_NxD, split, row_N).splitlines()[2] == cells
    apart_NxD = np.repeat(10 * np.eye(6), 6, axis=0).astype(np.float32)
    assert "<table>" not in html.confused_table(apart_NxD, split, row_N)


def test_an_ellipsis_stands_between_the_best_and_the_worst_artists():
    artists = [{"name": f"{i:02}", "paintings": 2, "map_at_r": 1 - i / 20} for i in range(11)]
    table = html.groups_tables({"artist": artists, "style": []}, {})
    names = re.findall(r"<tr><td>(.*?)</td>", table)
    assert names == ["00", "01", "02", "03", "04", "…", "06", "07", "08", "09", "10"]
    assert "…" not in html.groups_tables({"artist": artists[:10], "style": []}, {})


def test_a_style_s_figures_stand_beside_its_number_of_artists():
    style = {"name": "wide", "paintings": 9, "artists": 4, "map_at_r": 0.25}
    table = html.groups_tables({"artist": [], "style": [style]}, {})
    assert "<tr><td>wide</td><td>9</td><td>4</td><td>0.250</td></tr>" in table


def test_artists_and_titles_of_a_folder_are_as_people_write_them(split):
    slugs = [f"{artist}-of-delft" for artist in split.artists]
    paintings = [Painting("a.jpg", slugs[number], "the-mill-1751") for number in split.artist_N]
    of_folder = dataclasses.replace(split, artists=slugs, paintings=paintings, has_slugs=True)
    name = split.artists[0].replace("-", " ").title() + " of Delft"
    assert f'alt="{name}, The mill 1751"' in html.tile(of_folder, html.Tile(0, "query"))
    groups = {"artist": [{"name": slugs[0], "paintings": 6, "map_at_r": 0.5}], "style": []}
    assert f"<td>{name}</td>" in html.groups_tables(groups, of_folder.written)
    of_table = dataclasses.replace(of_folder, has_slugs=False)
    assert f'alt="{slugs[0]}, the-mill-1751"' in html.tile(of_table, html.Tile(0, "query"))


def test_no_name_on_the_map_overlaps_another():
    place_Nx2 = np.repeat(np.random.default_rng(0).normal(size=(5, 2)), 4, axis=0)
    names = [f"artist {'x' * (i % 20)}" for i in range(20)]
    figure = plots.scatter(place_Nx2, np.zeros((20, 8, 8, 3), np.uint8), np.arange(20), names)
    FigureCanvasAgg(figure).draw()
    patches = [text.get_bbox_patch() for text in figure.axes[0].texts]
    boxes = [patch.get_window_extent() for patch in patches if patch is not None]
    assert len(boxes) == 20
    assert [box.count_overlaps(boxes) for box in boxes] == [1] * 20  # itself


def test_a_heat_map_lies_on_the_square_that_the_network_sees_which_is_marked():
    whole = [raster.jpeg(np.zeros((*shape, 3), np.uint8)) for shape in ((40, 100), (40, 40))]
    share_Px2xMxM = np.eye(4)[None, None].repeat(2, axis=1)
    figure = plots.likeness([(whole[0], whole[1])], share_Px2xMxM, ["cosine 0.50"])
    wide, square = figure.axes[:2]
    assert [tuple(image.get_extent()) for image in wide.images] == [
        (-0.5, 99.5, 39.5, -0.5),
        (29.5, 69.5, 39.5, -0.5),
    ]
    (mark,) = wide.patches
    assert isinstance(mark, Rectangle)
    assert list(mark.get_bbox().extents) == [29.5, -0.5, 69.5, 39.5]
    assert not square.patches and square.get_xlim() == (-0.5, 39.5)


def test_the_plots_are_written_as_png_files(page, run):
    names = {path.stem for path in (run / "report").glob("*.png")}
    split_plots = {"artists_train", "artists_test"}
    maps = {"attribution", "likeness", "map"}
    assert names == {*pages_report.CURVES, *pages_report.PAIR_PLOTS, *split_plots, *PICTURES, *maps}
    for name in names:
        with Image.open(run / "report" / f"{name}.png") as image:
            assert min(image.size) > 400


def test_the_same_run_makes_the_same_page(page, run):
    report.main(["--run", str(run)])
    assert (run / "report.html").read_text(encoding="utf-8") == page
    assert not list(run.rglob("*.tmp"))


def test_a_run_that_was_not_evaluated_on_test_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=f"no run at {tmp_path}"):
        report.main(["--run", str(tmp_path)])
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    evaluation = json.loads((copy / "evaluation.json").read_text())
    for other in ({**evaluation, "network_sha256": "x"}, {**evaluation, "test": {}}, {}):
        (copy / "evaluation.json").write_text(json.dumps(other))
        with pytest.raises(InputError, match=r"python -m painterjax\.evaluate --run"):
            report.main(["--run", str(copy)])


def test_a_run_whose_test_has_one_artist_is_not_told_to_evaluate_it(run, tmp_path):
    prepare.main([*tiny.STORE, "--output", str(tmp_path / "store"), "--artists", "5"])
    opened = load_run(run)
    vars(opened)["store"] = store.open_store(tmp_path / "store")  # as if it were cached
    with pytest.raises(InputError, match=r"two artists.*--test-fraction"):
        pages_report.write_report(opened)
