"""The optimizer and its schedules against PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from painterjax.data import pipeline
from painterjax.training import trainer
from painterjax.training.optimizer import adam, cosine_decay, piecewise_decay, warmed_up

STEPS, STEPS_PER_EPOCH = 12, 3
# Of weight decay, the second parameter's learning rate, clipping and warm-up.
NEUTRAL = (0.0, 1.0, 0.0, 0)


@pytest.mark.parametrize("settings", [NEUTRAL, (0.1, 1.0, 0.0, 0), (0.1, 0.25, 4.0, 5)])
@pytest.mark.parametrize("schedule", ["piecewise", "cosine"])
def test_adam_and_its_schedules_match_pytorch(schedule, settings, torch):
    """For a kernel, with weight decay, and a bias, without, with a learning rate of its own.

    Of the gradients, whose norm is about the root of their 15 numbers, some are clipped.
    """
    weight_decay, share, clip_norm, warmup_steps = settings
    lr_scheduler = torch.optim.lr_scheduler
    weights = [torch.ones(5, 2, requires_grad=True), torch.ones(5, requires_grad=True)]
    groups = [
        {"params": weights[:1], "weight_decay": weight_decay},
        {"params": weights[1:], "weight_decay": 0.0, "lr": 0.1 * share},
    ]
    their_adam = torch.optim.AdamW(groups, lr=0.1)
    if schedule == "piecewise":
        ours = piecewise_decay(
            learning_rate=0.1, milestones=(1, 3), decay=0.5, steps_per_epoch=STEPS_PER_EPOCH
        )
        milestones = [epoch * STEPS_PER_EPOCH for epoch in (1, 3)]
        theirs = lr_scheduler.MultiStepLR(their_adam, milestones, gamma=0.5)
    else:
        ours = cosine_decay(learning_rate=0.1, num_steps=STEPS)
        theirs = lr_scheduler.CosineAnnealingLR(their_adam, STEPS)
    if warmup_steps:
        ours = warmed_up(ours, num_steps=warmup_steps)
        warmup = lr_scheduler.LinearLR(their_adam, 1 / warmup_steps, total_iters=warmup_steps - 1)
        theirs = lr_scheduler.ChainedScheduler([warmup, theirs])
    optimizer = adam(ours, [1.0, share], weight_decay=weight_decay, clip_norm=clip_norm)
    params: Any = [jnp.ones((5, 2)), jnp.ones(5)]
    state, rng = optimizer.init(params), np.random.default_rng(0)
    for step in range(STEPS):
        # A rate of 0.1 at most, right to some 10 / 2^24 of it.
        assert np.asarray(ours(step)) == pytest.approx(theirs.get_last_lr()[0], abs=1e-7)
        grads = [rng.normal(size=weight.shape).astype(np.float32) for weight in weights]
        updates, state = optimizer.update([jnp.asarray(grad) for grad in grads], state, params)
        params = optax.apply_updates(params, updates)
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = torch.from_numpy(grad)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(weights, clip_norm)
        their_adam.step()
        theirs.step()
        for ours_array, weight in zip(params, weights, strict=True):
            expected = weight.detach().numpy()
            # Either takes twelve steps of 0.1 at most, right to 20 / 2^24 of them: 3e-6.
            np.testing.assert_allclose(ours_array, expected, rtol=0, atol=1e-5)


def test_the_optimizer_s_state_has_four_arrays():
    """Two moments and two counts of steps; each array costs five microseconds a step."""
    rate, sizes = cosine_decay(learning_rate=0.1, num_steps=1), []
    for count in (2, 50):
        shares = [0.1] + [1.0] * (count - 1)
        optimizer = adam(rate, shares, weight_decay=0.1, clip_norm=1.0)
        sizes.append(len(jax.tree.leaves(optimizer.init([jnp.ones(3)] * count))))
    assert sizes == [4, 4]


@pytest.mark.parametrize("schedule", ["piecewise", "cosine"])
def test_with_more_epochs_a_cosine_goes_on_higher_and_a_piecewise_rate_as_before(schedule, config):
    config.optimizer.schedule, config.optimizer.milestones = schedule, (1,)
    few, more = (
        trainer.schedule(config, pipeline.DispatchPlan(epochs, STEPS_PER_EPOCH, 1))
        for epochs in (2, 4)
    )
    rates = np.array([[of(jnp.int32(step)) for of in (few, more)] for step in range(1, 6)], float)
    if schedule == "cosine":
        assert (rates[:, 1] > rates[:, 0]).all()
    else:
        np.testing.assert_array_equal(rates[:, 1], rates[:, 0])
        assert rates[0, 0] > rates[-1, 0]
