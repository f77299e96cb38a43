"""Your own paintings, from a pretrained network that is trained on: configs/pretrained.py, further.

    python -m painterjax.train --config configs/finetuned.py --workdir runs/finetuned

The head begins as that recipe fits it, here to a larger network, and the artists' proxies as the
means of their embeddings; then all of it trains, on random squares of 192 pixels, and a mean of the
weights behind all steps is kept. Hardware: a GPU, or two CPU cores. Minutes: 8. Score: 0.858 ROC
AUC and 0.740 recall@1 on 27 artists never seen (5,179 paintings by 113 artists).
"""

from typing import Any

from configs import pretrained

IMAGE_SIZE = pretrained.IMAGE_SIZE


def get_config() -> Any:
    config = pretrained.get_config()
    config.num_epochs = 2
    config.steps_per_dispatch = 5  # which on CPUs take their memory once
    config.model.backbone = "efficientnet_lite2"
    config.model.batch_norm = "frozen"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.backbone_rate = 1.0
    config.optimizer.warmup_steps = 50
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.99
    config.augmentation.crop = 192
    return config
