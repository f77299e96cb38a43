"""What training needs is asked for when a store is prepared."""

import functools
import re
from pathlib import Path

import pytest

from configs import default
from painterjax import prepare
from painterjax.common.errors import InputError
from painterjax.data import catalog, sources, store, sufficiency
from painterjax.data.columns import Paintings
from painterjax.training import validation


def _source(*counts: int) -> sources.Source:
    paintings = [
        catalog.Painting(f"{artist}/{number}", f"{artist}")
        for artist, count in enumerate(counts)
        for number in range(count)
    ]
    return sources.Source(Paintings.of(paintings), [], functools.partial(sources.load_synthetic, 0))


@pytest.mark.parametrize(
    ("counts", "fraction"),
    [
        ((20, 20, 30), 0.1),
        ((12,) * 12, 0.167),
        ((4, 4, 40), 0.5),
        ((2, 3, 40, 40), 0.1),  # who has three gives no pair with any fraction
        ((3, 3), 0.1),
    ],
)
def test_half_of_the_artists_get_two_paintings_in_validation(counts, fraction):
    assert sufficiency.val_fraction(_source(*counts)) == fraction
    able = [count for count in counts if count >= 4]
    assert 2 * sum(int(count * fraction + 1e-9) >= 2 for count in able) >= len(able)


def _prepare(folder: Path, artists: int, paintings: int, *more: str) -> store.Store:
    numbers = ["--artists", f"{artists}", "--paintings", f"{paintings}", "--workers", "1"]
    prepare.main(["synthetic", "--output", str(folder), "--image-size", "32", *numbers, *more])
    return store.open_store(folder)


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("artists", "paintings", "more", "said", "trains"),
    [
        (12, 12, [], None, True),
        (12, 12, ["--val-fraction", "0.1"], "validation needs.*10 paintings by 10 artists", False),
        (1, 12, [], "refuses this store, with 1 artist in train", False),
        (1, 12, ["--test-fraction", "1e-9"], "refuses this store, with 1 artist in train", False),
        (6, 6, [], "never seen: test needs two artists, and has 1", True),
        (8, 4, ["--test-fraction", "0.1"], "never seen: test needs two artists, and has 1", True),
        (4, 3, [], "validation needs two artists.*0 paintings by 0 artists", False),
    ],
)  # fmt: skip
def test_what_train_would_refuse_is_said_by_prepare(
    artists, paintings, more, said, trains, tmp_path, capsys
):
    made = _prepare(tmp_path / "store", artists, paintings, *more)
    advice = list(sufficiency.shortcomings(made))
    printed = capsys.readouterr().out
    assert bool(advice) == (said is not None) and all(line in printed for line in advice)
    if said is not None:
        (line,) = [line for line in advice if re.search(said, line)]
        assert "into another --output" in line
    config = default.get_config()
    config.model.widths, config.model.depths = (8,), (1,)
    if trains:
        assert len(validation.prepare(config, made).row_Tx3)
    else:
        with pytest.raises(InputError, match="add paintings"):
            validation.prepare(config, made)


@pytest.mark.usefixtures("no_workers")
def test_a_store_has_the_size_that_its_recipe_wants(tmp_path):
    def _size(*flags: str) -> int:
        output = tmp_path / "-".join(["store", *flags]).replace("/", "-")
        argv = ["--artists", "2", "--paintings", "2", "--workers", "1", "--output", str(output)]
        prepare.main(["synthetic", *argv, *flags])
        return store.open_store(output).image_size

    own = tmp_path / "own.py"
    own.write_text("from configs import scratch\nIMAGE_SIZE = scratch.IMAGE_SIZE + 8\n")
    assert _size("--for", "scratch") == 80
    assert _size("--for", str(own)) == 88
    assert _size("--for", "scratch", "--image-size", "32") == 32
    for text, refusal in (("x = 1", "no IMAGE_SIZE, give --image-size"), ("x =", "SyntaxError")):
        own.write_text(text)
        with pytest.raises(InputError, match=refusal):
            _size("--for", str(own))
    with pytest.raises(InputError, match="no recipe is called 'scrtch'"):
        _size("--for", "scrtch")
