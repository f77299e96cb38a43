"""A map of paintings by t-SNE: similar embeddings lie near each other."""

import numpy as np
import threadpoolctl
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

PAINTINGS = 800  # more would hide each other on a printed map
PLACED = 5000  # by t-SNE itself, which takes half a minute for as many
NEAR = 3  # of these place a painting of a larger collection
PERPLEXITY = 30.0


def places(emb_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of up to PAINTINGS embeddings, drawn at random, and their places place_Mx2.

    If all embeddings are equal, so are all places.

    Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE
    """
    row_M = np.sort(_drawn(len(emb_NxD), PAINTINGS))
    return row_M, _tsne(emb_NxD[row_M])


def places_of_all(emb_NxD: np.ndarray) -> np.ndarray:
    """Returns the places place_Nx2 of all embeddings, which fill the square from 0 to 1.

    Of more than PLACED embeddings, the others lie amid the NEAR nearest of these.
    """
    row_M = np.sort(_drawn(len(emb_NxD), PLACED))
    place_Nx2 = np.zeros((len(emb_NxD), 2), np.float32)
    place_Nx2[row_M] = _tsne(emb_NxD[row_M])
    others_N = np.ones(len(emb_NxD), bool)
    others_N[row_M] = False
    if others_N.any():
        near = NearestNeighbors(n_neighbors=NEAR).fit(emb_NxD[row_M])
        _, near_OxK = near.kneighbors(emb_NxD[others_N])
        place_Nx2[others_N] = place_Nx2[row_M][near_OxK].mean(axis=1)
    # A few outliers would leave half of the square empty; ranks alone would hide the groups.
    low_2, spread_2 = place_Nx2.min(axis=0), np.ptp(place_Nx2, axis=0)
    scaled_Nx2 = (place_Nx2 - low_2[None]) / np.where(spread_2 > 0, spread_2, 1)[None]
    rank_Nx2 = place_Nx2.argsort(axis=0, kind="stable").argsort(axis=0)
    return np.where(spread_2[None] > 0, (scaled_Nx2 + rank_Nx2 / max(1, len(emb_NxD) - 1)) / 2, 0.5)


def _drawn(count: int, most: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(count)[:most]


def _tsne(emb_MxD: np.ndarray) -> np.ndarray:
    count = len(emb_MxD)
    spread = np.ptp(emb_MxD, axis=0).max()
    if spread == 0 or count < 2:
        return np.zeros((count, 2), np.float32)
    # Scaled to 1, so that squares neither overflow nor vanish; PCA needs a second dimension.
    emb_MxD = np.pad((emb_MxD - emb_MxD[:1]) / spread, ((0, 0), (0, 1)))
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    method = "exact" if count <= PAINTINGS else "barnes_hut"
    tsne = TSNE(init="pca", method=method, perplexity=perplexity, random_state=0)
    # The Barnes-Hut method adds in an order that depends on the number of threads.
    with threadpoolctl.threadpool_limits(1 if method == "barnes_hut" else None):
        return tsne.fit_transform(emb_MxD)
