"""How fast triplets of images come: painterjax, a PyTorch DataLoader, and the reference's files.

    python -m benchmarks.loading [--image-size 256] [--batch-size 8] [--json FILE]

On random images on disk, which the system's page cache then holds:

* sampling alone, in triplets/s on one core;
* the host path's gather, in bytes/s beside a plain memory copy of as many bytes;
* painterjax's pipeline from the memory-mapped store to the device;
* the same from JPEG files (`prepare --jpeg`), of synthetic paintings, as noise is no picture;
* a PyTorch DataLoader with as many workers as cores over the same store;
* the reference solution's layout: one .npy of all paintings per artist, loaded whole for each.
"""

import argparse
import dataclasses
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import torch

from benchmarks.speed import environment
from configs import default
from painterjax.data import encoded, sampling, store, synthetic
from painterjax.run import speed
from painterjax.training import trainer

SAMPLED_AT_ONCE = 1024
GATHERED = 512


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8, help="triplets")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = on_disk(speed.random_split(args.image_size), Path(folder))
        # Its workers are forked: before JAX starts its threads.
        dataloader = time_dataloader(split, args.batch_size, args.seconds)
        figures = {
            "image_size": args.image_size,
            "batch_size": args.batch_size,
            "sampling_triplets_per_s": {
                str(size): time_sampling(split, size, args.seconds)
                for size in (args.batch_size, SAMPLED_AT_ONCE)
            },
            **time_gather(split, args.seconds),
            "images_per_s": {
                "painterjax": time_pipeline(split, args.batch_size, args.seconds),
                "painterjax_jpeg": time_pipeline(
                    of_jpeg_files(split, Path(folder)), args.batch_size, args.seconds
                ),
                "pytorch_dataloader": dataloader,
                "file_per_artist": time_file_per_artist(
                    split, args.batch_size, args.seconds, Path(folder)
                ),
            },
            "environment": environment(),
        }
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def on_disk(split: store.Split, folder: Path) -> store.Split:
    """Writes a split's images as a store does, and returns it memory-mapped."""
    images = split.image_NxSxSxC
    store.write_images(folder / "images.npy", [images], rows=len(images), size=images.shape[1])
    mapped = np.lib.format.open_memmap(folder / "images.npy", mode="r")
    return dataclasses.replace(split, image_NxSxSxC=mapped)


def of_jpeg_files(split: store.Split, folder: Path) -> store.Split:
    """Returns a split of as many synthetic paintings, as `prepare --jpeg` stores them."""
    size = split.image_NxSxSxC.shape[1]
    painted = (
        synthetic.paint(seed=0, artist=a, painting=p, size=size) for a, p in np.ndindex(8, 8)
    )
    files = [encoded.encode(image_SxSxC) for image_SxSxC in painted]
    encoded.write(folder / encoded.NAME, itertools.islice(itertools.cycle(files), len(split)))
    images = encoded.EncodedImages(folder / encoded.NAME, range(len(split)), size=size)
    return dataclasses.replace(split, image_NxSxSxC=cast(np.ndarray, images))


def time_sampling(split: store.Split, batch_size: int, seconds: float) -> float:
    """Triplets per second."""
    artists = sampling.artist_rows(split.artist_N)
    return batch_size * _per_s(
        lambda i: sampling.triplets(artists, batch_size=batch_size, seed=0, index=i),
        seconds,
    )


def time_gather(split: store.Split, seconds: float) -> dict[str, float]:
    """Bytes per second of gathering random images, and of copying as many bytes in one piece."""
    rows = np.random.default_rng(0).integers(0, len(split), (64, GATHERED))
    whole = np.array(split.image_NxSxSxC[:GATHERED])
    gathered = whole.nbytes * _per_s(lambda i: split.image_NxSxSxC[rows[i % len(rows)]], seconds)
    copied = whole.nbytes * _per_s(lambda _: whole.copy(), seconds)
    return {
        "gather_bytes_per_s": gathered,
        "copy_bytes_per_s": copied,
        "gather_to_copy": gathered / copied,
    }


def time_pipeline(split: store.Split, batch_size: int, seconds: float) -> float:
    """Images per second from the memory map to the device."""
    config = default.get_config()
    config.batch_size, config.num_epochs, config.data.residency = batch_size, 1_000_000, "host"
    batches = trainer.build(config, split).batches
    rate = _per_s(lambda _: jax.block_until_ready(next(batches)), seconds)
    batches.close()
    return 3 * batch_size * rate


class Batches(torch.utils.data.Dataset):
    """One batch of triplets of uint8 images by its number; nothing is left to be collated."""

    def __init__(self, split: store.Split, batch_size: int) -> None:
        self.images, self.artists = split.image_NxSxSxC, sampling.artist_rows(split.artist_N)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> torch.Tensor:
        row_Bx3 = sampling.triplets(self.artists, batch_size=self.batch_size, seed=0, index=index)
        return torch.from_numpy(self.images[row_Bx3])


def time_dataloader(split: store.Split, batch_size: int, seconds: float) -> float:
    """Images per second of PyTorch's DataLoader with a worker per core."""
    loader = torch.utils.data.DataLoader(
        Batches(split, batch_size), batch_size=None, num_workers=os.cpu_count() or 1
    )
    batches: Iterator[Any] = iter(loader)
    return 3 * batch_size * _per_s(lambda _: next(batches), seconds)


def time_file_per_artist(
    split: store.Split, batch_size: int, seconds: float, folder: Path
) -> float:
    """Images per second where each painting costs the loading of all its artist's."""
    artists = sampling.artist_rows(split.artist_N)
    for artist, (first, count) in enumerate(zip(artists.first_A, artists.count_A, strict=True)):
        np.save(folder / f"{artist}.npy", split.image_NxSxSxC[first : first + count])

    def load(index: int) -> np.ndarray:
        row_Bx3 = sampling.triplets(artists, batch_size=batch_size, seed=0, index=index)
        return np.stack([painting(row) for row in row_Bx3.reshape(-1)])

    def painting(row: int) -> np.ndarray:
        artist = split.artist_N[row]
        return np.load(folder / f"{artist}.npy")[row - artists.first_A[artist]]

    return 3 * batch_size * _per_s(load, seconds)


def _per_s(call: Callable[[int], Any], seconds: float) -> float:
    """How often a second `call` runs, after one call to warm up."""
    call(0)
    started_s, count = time.perf_counter(), 0
    while time.perf_counter() - started_s < seconds:
        count += 1
        call(count)
    return count / (time.perf_counter() - started_s)


if __name__ == "__main__":
    main()
