"""A flat map of paintings: near each other where their embeddings are."""

import numpy as np
from sklearn.manifold import TSNE

PAINTINGS = 800  # More would hide each other.
PERPLEXITY = 30.0


def places(emb_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of up to PAINTINGS embeddings, drawn at random, and place_Mx2 of each by t-SNE.

    Where all embeddings are equal, so are all places.

    Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE
    """
    count = min(len(emb_NxD), PAINTINGS)
    row_M = np.sort(np.random.default_rng(0).permutation(len(emb_NxD))[:count])
    emb_MxD = emb_NxD[row_M]
    spread = np.ptp(emb_MxD, axis=0).max()
    if spread == 0:
        return row_M, np.zeros((count, 2), np.float32)
    # Near 1, where squares have room; and with a second dimension at least.
    emb_MxD = np.pad((emb_MxD - emb_MxD[:1]) / spread, ((0, 0), (0, 1)))
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    # The other method sums in an order that depends on the number of cores.
    tsne = TSNE(init="pca", method="exact", perplexity=perplexity, random_state=0)
    return row_M, tsne.fit_transform(emb_MxD)
