"""The optimizer and its schedule against PyTorch's."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from painterjax import optim


def test_adam_with_piecewise_decay_is_pytorch_s(torch):
    gradient_TxP = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    schedule = optim.piecewise_decay(
        learning_rate=0.1, milestones=(1, 3), decay=0.5, steps_per_epoch=3
    )
    optimizer = optim.adam(schedule)
    params: Any = jnp.ones(5)
    state = optimizer.init(params)
    weight = torch.ones(5, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=0.1)
    rates = torch.optim.lr_scheduler.MultiStepLR(adam, [1, 3], gamma=0.5)
    for step, gradient_P in enumerate(gradient_TxP):
        assert np.asarray(schedule(step)) == pytest.approx(rates.get_last_lr()[0])
        updates, state = optimizer.update(jnp.asarray(gradient_P), state, params)
        params = optax.apply_updates(params, updates)
        weight.grad = torch.from_numpy(gradient_P)
        adam.step()
        if step % 3 == 2:
            rates.step()
        np.testing.assert_allclose(params, weight.detach().numpy(), rtol=1e-5, atol=1e-6)
