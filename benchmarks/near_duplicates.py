"""How many near duplicates `prepare` finds, and how many different paintings it takes for one.

    python -m benchmarks.near_duplicates --images paintings [--every 14] [--json FILE]

On a folder of real paintings, DIR/<artist>/<image>, without duplicates:

* the share of altered copies of every 14th painting that is found, by greatest distance of hashes;
* the pairs of different paintings that would count as one, and how many of the pairs of one artist
  and title are one picture;
* the time to compare the hashes of large collections, which are of blends of two paintings each.
"""

import argparse
import functools
import io
import json
import re
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from painterjax.data import duplicates, images, sources
from painterjax.data.columns import Paintings
from painterjax.run import folder as run_folder

DISTANCES = (0, 6, 10, 16, 20, 24, 30, 40, 50, 60, 70, 80)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--every", type=int, default=14, help="painting that is altered")
    parser.add_argument("--collections", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    source = sources.folder(args.images)
    image_NxSxSxC = np.stack([source.load(p, args.image_size)[1] for p in source.paintings])
    figures = {
        "paintings": len(image_NxSxSxC),
        "image_size": args.image_size,
        "altered": len(image_NxSxSxC[:: args.every]),
        "distances": DISTANCES,
        "limit": {"distance": duplicates.MAX_DISTANCE, "correlation": duplicates.MIN_CORRELATION},
        "found": found_copies(source, image_NxSxSxC, args.every),
        "different_pairs": different_pairs(source.paintings, image_NxSxSxC),
        "same_artist_and_title": same_titles(source.paintings, image_NxSxSxC),
        "collections": [time_collection(image_NxSxSxC, n) for n in args.collections],
        "environment": run_folder.environment(),
    }
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def _saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _resized(image: Image.Image, factor: float) -> bytes:
    size = round(image.width * factor), round(image.height * factor)
    return _saved(image.resize(size, Image.Resampling.LANCZOS), quality=90)


def _cropped(image: Image.Image, share: float) -> bytes:
    """The image without a border of this share of its sides, on each side."""
    x, y = round(image.width * share), round(image.height * share)
    return _saved(image.crop((x, y, image.width - x, image.height - y)), quality=90)


def _enhanced(image: Image.Image, enhance: type, factor: float) -> bytes:
    return _saved(enhance(image).enhance(factor), quality=90)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG": lambda image: _saved(image, "PNG"),
    **{
        f"JPEG, quality {quality}": functools.partial(_saved, quality=quality)
        for quality in (90, 70, 50, 30)
    },
    "WebP, quality 60": lambda image: _saved(image, "WEBP", quality=60),
    "half the size": functools.partial(_resized, factor=0.5),
    "twice the size": functools.partial(_resized, factor=2),
    "20 % brighter": lambda image: _enhanced(image, ImageEnhance.Brightness, 1.2),
    "20 % darker": lambda image: _enhanced(image, ImageEnhance.Brightness, 0.8),
    "20 % more contrast": lambda image: _enhanced(image, ImageEnhance.Contrast, 1.2),
    "30 % less color": lambda image: _enhanced(image, ImageEnhance.Color, 0.7),
    **{
        f"{percent} % cut off each side": functools.partial(_cropped, share=percent / 100)
        for percent in (1, 2, 3)
    },
}


def _with_comment(data: bytes) -> bytes:
    """The JPEG with a comment, which changes its bytes and not its pixels."""
    return data[:2] + b"\xff\xfe\x00\x0ba comment" + data[2:]


def _hashes(image_NxSxSxC: np.ndarray) -> np.ndarray:
    """Hashes as hash_NxHxH, booleans."""
    hexes = [images.fingerprint(image).get("phash", "") for image in image_NxSxSxC]
    if "" in hexes:
        raise ValueError("a painting is flat")
    packed = np.array([list(bytes.fromhex(text)) for text in hexes], np.uint8)
    return np.unpackbits(packed, axis=1).reshape(-1, images.HASH_SIDE, images.HASH_SIDE) > 0


def _compare(hash_NxHxH: np.ndarray, other_NxHxH: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances, and whether the hashes share a row."""
    differs = hash_NxHxH != other_NxHxH
    return differs.sum((-2, -1)), ~differs.any(-1).all(-1)


def found_copies(
    source: sources.Source, image_NxSxSxC: np.ndarray, every: int
) -> dict[str, dict[str, list[float]]]:
    """By kind of copy, the share within each distance: by all conditions, and by distance alone."""
    assert source.directory
    size, found = image_NxSxSxC.shape[1], {}
    paths = [source.directory / painting.file for painting in source.paintings[::every]]
    image_BxSxSxC = image_NxSxSxC[::every]
    hash_BxHxH = _hashes(image_BxSxSxC)
    commented = [images.decode(_with_comment(path.read_bytes()), size=size) for path in paths]
    equal = np.mean([np.array_equal(*pair) for pair in zip(commented, image_BxSxSxC, strict=True)])
    found["a comment in the file (equal pixels)"] = {"found": [float(equal)] * len(DISTANCES)}
    for name, alter in COPIES.items():
        altered = [alter(Image.open(path).convert("RGB")) for path in paths]
        copy_BxSxSxC = np.stack([images.decode(data, size=size) for data in altered])
        distance_B, shares_row_B = _compare(hash_BxHxH, _hashes(copy_BxSxSxC))
        pairs = zip(image_BxSxSxC, copy_BxSxSxC, strict=True)
        correlation_B = np.array([duplicates.correlation(np.stack(pair))[0] for pair in pairs])
        is_alike_B = shares_row_B & (correlation_B >= duplicates.MIN_CORRELATION)
        found[name] = {
            "found": [float(np.mean(is_alike_B & (distance_B <= d))) for d in DISTANCES],
            "within_distance": [float(np.mean(distance_B <= d)) for d in DISTANCES],
            "lowest_correlation": float(correlation_B.min()),
        }
    return found


def _near_pairs(image_NxSxSxC: np.ndarray) -> Iterator[tuple[int, int, int, bool, float]]:
    """Yields all pairs within the greatest distance: rows, distance, shared row, correlation."""
    hash_NxHxH = _hashes(image_NxSxSxC)
    for i in range(len(hash_NxHxH)):
        distance_N, shares_row_N = _compare(hash_NxHxH[i + 1 :], hash_NxHxH[i])
        for j in np.flatnonzero(distance_N <= DISTANCES[-1]):
            pair = image_NxSxSxC[[i, i + 1 + j]]
            correlation = duplicates.correlation(pair)[0]
            yield i, int(i + 1 + j), int(distance_N[j]), bool(shares_row_N[j]), float(correlation)


def different_pairs(paintings: Paintings, image_NxSxSxC: np.ndarray) -> dict[str, Any]:
    """The pairs within each distance: by distance alone, and by all conditions."""
    pairs = list(_near_pairs(image_NxSxSxC))
    alike = [p for p in pairs if p[3] and p[4] >= duplicates.MIN_CORRELATION]
    nearest = sorted(pairs, key=lambda pair: pair[2])[:10]
    return {
        "within_distance": [sum(pair[2] <= d for pair in pairs) for d in DISTANCES],
        "found": [sum(pair[2] <= d for pair in alike) for d in DISTANCES],
        "nearest": [
            {"files": [paintings[i].file, paintings[j].file], "distance": d, "correlation": c}
            for i, j, d, _, c in nearest
        ],
    }


def same_titles(paintings: Paintings, image_NxSxSxC: np.ndarray) -> dict[str, int]:
    """Pairs of one artist and title; a number that tells files apart is no part of a title."""
    hash_NxHxH = _hashes(image_NxSxSxC)
    rows: dict[tuple[str, str], list[int]] = {}
    for row, painting in enumerate(paintings):
        title = re.sub(r"-\d{1,2}$", "", painting.title)
        rows.setdefault((painting.artist, title), []).append(row)
    pairs = [(i, j) for same in rows.values() for k, i in enumerate(same) for j in same[k + 1 :]]
    is_found = []
    for i, j in pairs:
        distance, shares_row = _compare(hash_NxHxH[i], hash_NxHxH[j])
        correlation = duplicates.correlation(image_NxSxSxC[[i, j]])[0]
        is_near = shares_row and distance <= duplicates.MAX_DISTANCE
        is_found.append(is_near and correlation >= duplicates.MIN_CORRELATION)
    groups = [same for same in rows.values() if len(same) > 1]
    return {
        "files": sum(map(len, groups)), "titles": len(groups), "pairs": len(pairs),
        "one_picture": int(np.sum(is_found)),
    }  # fmt: skip


def time_collection(image_NxSxSxC: np.ndarray, count: int) -> dict[str, float]:
    """Seconds to find the candidates of `count` hashes, each of a blend of two paintings."""
    rng = np.random.default_rng(0)
    hashes = []
    for _ in range(count):
        i, j = rng.integers(len(image_NxSxSxC), size=2)
        blend = image_NxSxSxC[i] // 2 + image_NxSxSxC[j][:, ::-1] // 2
        hashes.append(images.fingerprint(blend).get("phash", "00" * 32))
    hash_NxB = np.array([list(bytes.fromhex(text)) for text in hashes], np.uint8)
    start = time.perf_counter()
    found = sum(len(near) for _, near in duplicates.candidates(hash_NxB))
    seconds = time.perf_counter() - start
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"hashes": count, "seconds": seconds, "candidates": found, "peak_bytes": peak_bytes}


if __name__ == "__main__":
    main()
