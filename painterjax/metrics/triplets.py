"""Metrics of triplets, from the distances of their anchors to positives and to negatives."""

import numpy as np


def triplet_accuracy(positive_T: np.ndarray, negative_T: np.ndarray) -> float:
    """Share of triplets whose positive is nearer than their negative; a tie counts as wrong.

    >>> triplet_accuracy(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))
    0.3333333333333333
    """
    return float((positive_T < negative_T).mean())


def mean_of_two_accuracy(positive_T: np.ndarray, negative_T: np.ndarray) -> float:
    """Share of batches of two consecutive triplets whose mean squared distances are in order.

    The test accuracy of the reference solution to Painter by Numbers; easier than
    `triplet_accuracy`. A last triplet without a partner is a batch of one.

    >>> mean_of_two_accuracy(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0]))
    0.5
    """
    starts = np.arange(0, len(positive_T), 2)
    positive_B, negative_B = (
        np.add.reduceat(np.square(distance_T), starts) for distance_T in (positive_T, negative_T)
    )
    return float((positive_B < negative_B).mean())


def roc_auc(positive_T: np.ndarray, negative_T: np.ndarray) -> float:
    """Chance that a positive distance is smaller than a negative one, ties counting half.

    The area under the ROC curve of "same artist" by distance: the mean over all (i, j) of
    [p_i < n_j] + [p_i = n_j] / 2.

    >>> roc_auc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875
    """
    # With both sorted, neighbors are looked up one after the other: twice as fast.
    positive_T, negative_T = np.sort(positive_T), np.sort(negative_T)
    below = np.searchsorted(negative_T, positive_T, side="left")
    not_above = np.searchsorted(negative_T, positive_T, side="right")
    return float(1 - (below + not_above).mean() / (2 * len(negative_T)))
