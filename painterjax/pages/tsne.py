"""A map of paintings by t-SNE: similar embeddings lie near each other."""

import numpy as np
from sklearn.manifold import TSNE

PAINTINGS = 800  # more would hide each other
PERPLEXITY = 30.0


def places(emb_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of up to PAINTINGS embeddings, drawn at random, and their places place_Mx2.

    If all embeddings are equal, so are all places.

    Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE
    """
    count = min(len(emb_NxD), PAINTINGS)
    row_M = np.sort(np.random.default_rng(0).permutation(len(emb_NxD))[:count])
    emb_MxD = emb_NxD[row_M]
    spread = np.ptp(emb_MxD, axis=0).max()
    if spread == 0:
        return row_M, np.zeros((count, 2), np.float32)
    # Scaled to 1, so that squares neither overflow nor vanish; PCA needs a second dimension.
    emb_MxD = np.pad((emb_MxD - emb_MxD[:1]) / spread, ((0, 0), (0, 1)))
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    # The Barnes-Hut method adds in an order that depends on the number of cores.
    tsne = TSNE(init="pca", method="exact", perplexity=perplexity, random_state=0)
    return row_M, tsne.fit_transform(emb_MxD)
