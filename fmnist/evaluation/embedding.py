"""Embeddings of images: vectors in which images of the same class should be close together.

vectors: (N, D), for example pixels, or the features of activations.features().
"""

from collections.abc import Iterable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

COMPONENTS = 50  # principal components that are the input of t-SNE
NEIGHBOURS = 10  # of an image, to measure the purity


def flat_maps(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Return two-dimensional coordinates (N, 2) by name of the method: PCA and t-SNE."""
    count = min(COMPONENTS, *vectors.shape)
    pca = PCA(count, random_state=0).fit(vectors)
    ratios = pca.explained_variance_ratio_
    components = pca.transform(vectors)
    return {
        f"PCA: first two components, {ratios[:2].sum():.0%} of the variance": components[:, :2],
        f"t-SNE of {count} principal components, {ratios.sum():.0%} of the variance": TSNE(
            init="pca", random_state=0, perplexity=min(30, len(vectors) / 4)
        ).fit_transform(components),
    }


def neighbour_purity(vectors: np.ndarray, labels: np.ndarray, classes: int) -> list[float | None]:
    """Return how often the NEIGHBOURS nearest images have the same class, by class.

    Args:
        vectors: (N, D).
        labels: true classes (N,).
        classes: number of classes; the purity of a class without images is None.
    """
    count = min(NEIGHBOURS, len(vectors) - 1)
    nearest = NearestNeighbors(n_neighbors=count).fit(vectors).kneighbors(return_distance=False)
    same = (labels[nearest] == labels[:, None]).mean(axis=1)
    return [
        float(same[labels == label].mean()) if (labels == label).any() else None
        for label in range(classes)
    ]


def nearest(
    vectors: np.ndarray, batches: Iterable[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest of many vectors, which do not have to fit into memory together.

    Args:
        vectors: (N, D).
        batches: the others, in batches (B, D).
        count: number of nearest vectors.

    Returns:
        Indices among all others, and Euclidean distances, (N, count) each, the nearest first.
    """
    indices = np.empty((len(vectors), 0), int)
    distances = np.empty((len(vectors), 0))
    start = 0
    for batch in batches:
        found = NearestNeighbors(n_neighbors=min(count, len(batch))).fit(batch)
        new_distances, new_indices = found.kneighbors(vectors)
        indices = np.hstack([indices, new_indices + start])
        distances = np.hstack([distances, new_distances])
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        indices = np.take_along_axis(indices, order, axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        start += len(batch)
    return indices, distances
