"""The optimizer and its schedules against PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from painterjax.training.optimizer import adam, cosine_decay, piecewise_decay

STEPS, STEPS_PER_EPOCH = 12, 3


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("schedule", ["piecewise", "cosine"])
def test_adam_and_its_schedules_match_pytorch(schedule, weight_decay, torch):
    """For a kernel, with weight decay, and a bias, without."""
    lr_scheduler = torch.optim.lr_scheduler
    weights = [torch.ones(5, 2, requires_grad=True), torch.ones(5, requires_grad=True)]
    groups = [
        {"params": [weight], "weight_decay": decay}
        for weight, decay in zip(weights, (weight_decay, 0.0), strict=True)
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
    optimizer = adam(ours, weight_decay=weight_decay)
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
        their_adam.step()
        theirs.step()
        for ours_array, weight in zip(params, weights, strict=True):
            expected = weight.detach().numpy()
            # Either takes twelve steps of 0.1 at most, right to 20 / 2^24 of them: 3e-6.
            np.testing.assert_allclose(ours_array, expected, rtol=0, atol=1e-5)


def test_the_optimizer_s_state_has_four_arrays():
    """Two moments and two counts of steps; each array costs five microseconds a step."""
    optimizer = adam(cosine_decay(learning_rate=0.1, num_steps=1), weight_decay=0.1)
    sizes = [len(jax.tree.leaves(optimizer.init([jnp.ones(3)] * count))) for count in (1, 50)]
    assert sizes == [4, 4]
