"""Adam with a learning rate by step and by part of the network."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax


def piecewise_decay(
    *, learning_rate: float, milestones: Sequence[int], decay: float, steps_per_epoch: int
) -> optax.Schedule:
    """Learning rate by step: `learning_rate` times `decay` for each milestone (epochs) passed.

    The same as torch.optim.lr_scheduler.MultiStepLR stepped once an epoch.

    >>> rate = piecewise_decay(learning_rate=1.0, milestones=[2], decay=0.1, steps_per_epoch=5)
    >>> print(round(float(rate(9)), 6), round(float(rate(10)), 6))
    1.0 0.1
    """
    boundaries = {epoch * steps_per_epoch: decay for epoch in milestones}
    return optax.piecewise_constant_schedule(learning_rate, boundaries)


def cosine_decay(*, learning_rate: float, num_steps: int) -> optax.Schedule:
    """Learning rate by step: `learning_rate` * (1 + cos(pi * step / num_steps)) / 2.

    The same as torch.optim.lr_scheduler.CosineAnnealingLR stepped once a step.

    >>> rate = cosine_decay(learning_rate=1.0, num_steps=10)
    >>> print(round(float(rate(5)), 6), round(float(rate(10)), 6))
    0.5 0.0
    """
    return optax.cosine_decay_schedule(learning_rate, num_steps)


def warmed_up(schedule: optax.Schedule, *, num_steps: int) -> optax.Schedule:
    """Learning rate by step: step i, from 0, has (i + 1) / num_steps of it until that is all.

    The same as torch.optim.lr_scheduler.LinearLR chained with the schedule.

    >>> rate = warmed_up(optax.constant_schedule(1.0), num_steps=4)
    >>> print([float(rate(step)) for step in range(5)])
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    if not num_steps:
        return schedule
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / num_steps)


def adam(
    schedule: optax.Schedule, shares: Any, *, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """Adam with PyTorch's constants: betas 0.9 and 0.999, epsilon 1e-8.

    Weight decay is AdamW's, on matrices and kernels only: biases and scales are left alone.

    Args:
      schedule: the learning rate by step.
      shares: a number for each parameter, that its learning rate is multiplied by.
      weight_decay: a share of each kernel per step and learning rate.
      clip_norm: longer gradients, as one vector, are scaled to this length; 0 scales none.
    """
    by_share = {share: optax.scale(share) for share in jax.tree.leaves(shares)}
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        # Flattened, the moments of all parameters are two arrays, which cost less to hand over.
        optax.flatten(optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)),
        optax.add_decayed_weights(weight_decay, mask=_has_axes),
        optax.partition(by_share, shares) if by_share.keys() != {1.0} else optax.identity(),
        optax.scale_by_learning_rate(schedule),
    )


def _has_axes(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)
