"""Adam with a learning rate that drops at given epochs."""

from collections.abc import Sequence

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


def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with PyTorch's constants: betas 0.9 and 0.999, epsilon 1e-8."""
    return optax.adam(schedule, b1=0.9, b2=0.999, eps=1e-8)
