"""Adam, and a learning rate that drops at given epochs or follows a cosine to zero."""

from collections.abc import Sequence
from typing import Any

import jax
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


def adam(schedule: optax.Schedule, *, weight_decay: float) -> optax.GradientTransformation:
    """Adam with PyTorch's constants: betas 0.9 and 0.999, epsilon 1e-8.

    Weight decay is AdamW's, on matrices and kernels only: biases and scales are left alone.
    """
    return optax.chain(
        # Flattened, the moments of all parameters are two arrays, which cost less to hand over.
        optax.flatten(optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)),
        optax.add_decayed_weights(weight_decay, mask=_has_axes),
        optax.scale_by_learning_rate(schedule),
    )


def _has_axes(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)
