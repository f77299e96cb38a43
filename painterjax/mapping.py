"""A flat map of paintings: near each other where their embeddings are."""

import numpy as np
from sklearn.manifold import TSNE

PAINTINGS = 800  # More would hide each other.
PERPLEXITY = 30.0


def places(emb_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of up to PAINTINGS embeddings, drawn at random, and place_Mx2 of each by t-SNE.

    Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE
    """
    count = min(len(emb_NxD), PAINTINGS)
    row_M = np.sort(np.random.default_rng(0).permutation(len(emb_NxD))[:count])
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    # The other method sums in an order that depends on the number of cores.
    tsne = TSNE(init="pca", method="exact", perplexity=perplexity, random_state=0)
    return row_M, tsne.fit_transform(emb_NxD[row_M])
