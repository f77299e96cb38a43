"""Every key of a recipe, with the reference solution's values; see painter_by_numbers.py.

Recipes take these and change a few. On the command line: --config.batch_size=16.
"""

from typing import Any

from ml_collections import config_dict

IMAGE_SIZE = 256  # of the store, in pixels


def get_config() -> Any:
    """Returns the reference recipe, locked against unknown keys."""
    config = config_dict.ConfigDict()
    config.seed = 0  # of weights, tuples and augmentation
    config.batch_size = 8  # tuples
    config.chunk_size = 0  # tuples that are embedded at a time, for batches larger than the memory;
    # BatchNorm's statistics are a chunk's; 0 embeds a batch at once
    config.num_epochs = 50  # each with as many anchors as there are training paintings
    config.steps_per_dispatch = 1  # that the device takes without Python; the same up to rounding
    config.log_every_steps = 50  # and at the end of each epoch
    config.checkpoint_every_steps = 1000  # and at the end of each epoch
    config.checkpoint_keep_every_epochs = 0  # beside the latest two and the best; 0: no others

    config.data = config_dict.ConfigDict()
    config.data.store = "data/store"  # a folder that painterjax.prepare wrote
    config.data.residency = "auto"  # images live on the "device", the "host", or what fits

    config.model = config_dict.ConfigDict()
    config.model.backbone = "conv_blocks"  # of widths and depths; or a pretrained one:
    # "efficientnet_lite0", "dinov2_base", "clip_large_14", ...: see docs/backbones.md
    config.model.weights = ""  # safetensors file of a vision transformer; see docs/backbones.md
    config.model.stages = ()  # of the backbone, that the head reads, by number; () is all
    config.model.widths = (16, 32, 64, 128, 256)  # channels of each block
    config.model.depths = (2, 3, 3, 3, 3)  # convolutions of each block
    config.model.head = "dense"  # of pixels; or "statistics" of channels, normed, or "linear" of
    # them; both give embeddings of length 1
    config.model.embedding_dim = 2048
    config.model.dtype = "float32"  # of the computation; or "bfloat16"
    config.model.remat = False  # whether the gradient computes each block's activations anew, which
    # takes less memory and more time
    config.model.batch_norm = "branch"  # statistics per "branch" of the tuples or whole "batch", or
    # "frozen": those of the weights that training starts from
    config.model.lora_rank = 0  # of adapters, which train in place of a transformer; 0 is none

    config.head = config_dict.ConfigDict()
    config.head.fit = "gradient"  # alone; or "lda" before it, in closed form, of a linear head

    config.loss = config_dict.ConfigDict()
    config.loss.name = "triplet"  # or "contrastive" (pairs), or one over artists x paintings:
    # "batch_all", "semi_hard", "batch_hard", "batch_hard_soft", "supervised_contrastive",
    # "multi_similarity", "cosine_classifier"
    config.loss.margin = 2.0  # a distance; for the classifier a cosine
    config.loss.distance = "euclidean"  # or "mean_squared", over the whole batch at once
    config.loss.scale = 16.0  # of cosines: supervised_contrastive, cosine_classifier, second views
    config.loss.view_weight = 0.0  # of telling a second view of each image, changed in space only,
    # from those of others; 0 takes none
    config.loss.paintings_per_artist = 4  # in a tuple of losses over artists x paintings
    config.loss.sampler = "artists"  # drawn uniformly, each once in a batch; or "paintings", whose
    # artists then have as many tuples as they have paintings

    config.optimizer = config_dict.ConfigDict()
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "piecewise"  # or "cosine", to zero at the end
    config.optimizer.milestones = (11, 25, 40)  # epochs after which a piecewise rate drops
    config.optimizer.decay = 0.1  # factor of each drop
    config.optimizer.backbone_rate = 1.0  # share of the rate for the backbone; 0 keeps it as it is
    config.optimizer.layer_decay = 1.0  # share of the next block's rate for each block before it
    config.optimizer.weight_decay = 0.0  # of kernels and proxies, a share per step and rate
    config.optimizer.warmup_steps = 0  # in which the rate grows linearly from 0
    config.optimizer.clip_norm = 0.0  # largest norm of the gradient; 0 is none
    config.optimizer.ema_decay = 0.0  # of the weights' moving average, judged and kept; 0 is none

    config.augmentation = config_dict.ConfigDict()
    config.augmentation.crop = 0  # side in pixels of a random square; 0 is the whole image
    config.augmentation.shift = 0.2  # largest, as a share of the side
    config.augmentation.scale = (1.0, 1.2)  # range of the enlargement
    config.augmentation.rotation = 180.0  # largest, in degrees
    config.augmentation.flips = True  # left-right and up-down
    config.augmentation.contrast = 0.0  # largest change, as a share
    config.augmentation.brightness = 0.0  # largest change, where black is -1 and white is 1
    config.augmentation.tint = 0.0  # largest change of each color channel, likewise

    config.eval = config_dict.ConfigDict()
    config.eval.batch_size = 64  # images that each device embeds at a time
    config.eval.triplets = 10_000  # fixed ones of each split
    config.eval.max_paintings = 50_000  # of a split that are compared with all; of more, a sample
    config.eval.every_epochs = 1  # between validations; the last epoch has one in any case
    config.eval.floors = True  # also judge an untrained network and color histograms at the end
    return config.lock()
