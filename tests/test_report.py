"""The report of a tiny run: one page that opens anywhere, with everything it promises."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from painterjax import report
from painterjax.errors import InputError

HEADINGS = (
    "Figures", "Training", "Paintings per artist", "What it was trained on", "Artists never seen",
    "The hardest mistakes", "Pairs of paintings", "What hangs nearest", "Artists most often",
    "A map",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(run) -> str:
    report.main(["--run", str(run)])
    return (run / "report.html").read_text(encoding="utf-8")


class _Checker(HTMLParser):
    """Collects headings, what is loaded, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.headings, self.sources = [], [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_the_page_is_whole_and_loads_nothing(page):
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    for heading, found in zip(HEADINGS, checker.headings, strict=True):
        assert found.startswith(heading)
    assert checker.sources
    assert all(source.startswith(("data:image/", "#")) for source in checker.sources)
    assert not re.search(r"@import|url\((?!#)", page)


def test_its_figures_are_the_evaluation_s(page, run):
    test = json.loads((run / "evaluation.json").read_text())["test"]
    names = {"roc_auc": "ROC AUC of triplets", "recall_at_5": "recall@5"}
    for metric, name in names.items():
        assert f"<td>{name}</td><td>{test[metric]['value']:.3f} [" in page


def test_the_plots_are_pictures_as_well(page, run):
    names = {path.stem for path in (run / "report").glob("*.png")}
    split_plots = {"artists_train", "artists_test"}
    assert names == {*report.CURVES, *split_plots, "roc", "distances", "map"}
    for name in names:
        with Image.open(run / "report" / f"{name}.png") as image:
            assert min(image.size) > 400


def test_the_same_run_makes_the_same_page(page, run):
    report.main(["--run", str(run)])
    assert (run / "report.html").read_text(encoding="utf-8") == page


def test_a_run_without_its_figures_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="no run at"):
        report.main(["--run", str(tmp_path)])
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    figures = json.loads((copy / "evaluation.json").read_text())
    (copy / "evaluation.json").write_text(json.dumps({**figures, "step": 1}))
    with pytest.raises(InputError, match=r"no figures of artists never seen \(they are of step 1"):
        report.main(["--run", str(copy)])
    (copy / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"no figures .*: python -m painterjax\.evaluate --run"):
        report.main(["--run", str(copy)])
