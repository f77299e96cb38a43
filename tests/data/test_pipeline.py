"""Which steps a dispatch runs, and where a split's images live."""

import dataclasses
import os
import time

import jax
import numpy as np
import pytest

from painterjax.common import memory
from painterjax.common.errors import InputError
from painterjax.data import pipeline
from painterjax.training import trainer
from tests.helpers import steps_of_mesh


@pytest.mark.parametrize("start", range(11))
@pytest.mark.parametrize("steps_per_dispatch", [1, 3, 4])
def test_any_start_takes_the_steps_that_are_left(start, steps_per_dispatch):
    """So that steps_per_dispatch may change on the way."""
    plan = pipeline.DispatchPlan(2, 5, steps_per_dispatch, start)
    dispatches = [list(plan.steps(dispatch)) for dispatch in plan.dispatches]
    assert [step for steps in dispatches for step in steps] == list(range(start + 1, 11))
    assert all(0 < len(steps) <= steps_per_dispatch for steps in dispatches)
    # Behind the first dispatch they are those of a run that was never stopped.
    undisturbed = dataclasses.replace(plan, start=0)
    assert dispatches[1:] == [list(undisturbed.steps(d)) for d in plan.dispatches[1:]]


@pytest.mark.parametrize(
    ("residency", "needed", "resident"),
    [("auto", 50, True), ("auto", 51, False), ("device", 100, True), ("host", 1, False)],
)
def test_images_live_on_the_device_where_half_of_its_memory_holds_them(
    residency, needed, resident, split, monkeypatch
):
    monkeypatch.setattr(pipeline, "budget", lambda _: (needed, 100))
    assert pipeline.keep_on_device(residency, split) == resident


def test_images_that_do_not_fit_are_refused_where_the_device_is_asked_for(split, monkeypatch):
    monkeypatch.setattr(pipeline, "budget", lambda _: (2000, 1999))
    refusal = r"take 2,000 bytes, the device has 1,999 free: use --config.data.residency=host"
    with pytest.raises(InputError, match=refusal):
        pipeline.keep_on_device("device", split)


@pytest.mark.parametrize(
    ("batches", "expected"), [(0, (1, 1)), (3.5, (1, 1)), (5, (2, 2)), (8, (5, 2)), (100, (8, 2))]
)
def test_what_is_ready_has_bounded_bytes(config, split, batches, expected, monkeypatch):
    """On the way to the step are those in memory, those on the device, and one between them."""
    config.data.residency, config.num_epochs = "host", 100
    config.model.widths, config.model.depths = (4,), (1,)
    bytes_of_a_batch = 4 * 3 * (32 * 32 * 3 + 4 + 4)
    monkeypatch.setattr(pipeline, "READY_BYTES", int(batches * bytes_of_a_batch))
    images = steps_of_mesh.watched(split.image_NxSxSxC)
    training = trainer.build(config, dataclasses.replace(split, image_NxSxSxC=images))
    assert pipeline.ready(training.source) == expected
    drawn = 0
    for taken in range(1, 4):
        next(training.batches)
        while drawn < (drawn := sum(isinstance(rows, np.ndarray) for rows in images.rows)):
            time.sleep(0.2)
        assert taken < drawn <= taken + max(3, batches)
    training.batches.close()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU has memory of its own")
def test_the_page_cache_is_free_memory(split, tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemFree:  100 kB\nMemAvailable:  8000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    free = 8000 * 1024 // jax.local_device_count()
    assert pipeline.budget(split) == (split.image_NxSxSxC.nbytes, free)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU has memory of its own")
def test_a_system_without_meminfo_is_asked_for_its_free_pages(split, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < pipeline.budget(split)[1] <= total // jax.local_device_count()
