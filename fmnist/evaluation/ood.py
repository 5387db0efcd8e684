"""Whether an image is unlike those that a network was trained on, so that its answer means little.

images: (N, 28, 28, 1) in [0, 1]; probabilities: (N, classes), calibrated. A score is the higher,
the stranger an image is:
    1. how far its principal components are from those of the predicted class, in that class' own
       spread (Mahalanobis);
    2. how much of it the principal components leave over;
    3. the same as a share of all its light;
    4. how unsure the network is.
"""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

COMPONENTS = 60
# images that the spread of all classes counts for in the spread of each, which may have few
# of its own
POOLED = 60
SCORES = 4
KEPT = 0.95  # at least, of the validation images
TINY = 1e-6
ROUNDING = 1e-3


class Novelty(NamedTuple):
    """What training images look like.

    mean: (784,); components: (60, 784); centres: (classes, 60); whitening: (classes, 60, 60);
    limits: (4,).
    """

    mean: np.ndarray
    components: np.ndarray
    centres: np.ndarray
    whitening: np.ndarray
    limits: np.ndarray


def fit(
    images: np.ndarray,
    labels: np.ndarray,
    validation_images: np.ndarray,
    validation_probabilities: np.ndarray,
) -> Novelty:
    """Return what training images look like.

    Enough of the validation images keep to the limits of the scores.
    """
    flat = images.reshape(len(images), -1)
    analysis = PCA(min(COMPONENTS, len(flat)), svd_solver="covariance_eigh").fit(flat)
    values = analysis.transform(flat)
    classes = range(validation_probabilities.shape[1])
    overall = values.mean(axis=0)
    centres = np.array(
        [
            values[labels == label].mean(axis=0) if (labels == label).any() else overall
            for label in classes
        ]
    )
    deviations = values - centres[labels]
    pooled = np.cov(deviations, rowvar=False, bias=True)
    pooled += TINY * (1 + np.trace(pooled)) * np.eye(len(pooled))
    whitening = []
    for label in classes:
        own = deviations[labels == label]
        covariance = (own.T @ own + POOLED * pooled) / (len(own) + POOLED)
        whitening.append(np.linalg.inv(np.linalg.cholesky(covariance)))
    novelty = Novelty(
        analysis.mean_, analysis.components_, centres, np.array(whitening), np.full(SCORES, np.inf)
    )
    validation = scores(novelty, validation_images, validation_probabilities)
    # Each score may go beyond its limit for so few that all of them together leave enough.
    limits = np.quantile(validation, 1 - (1 - KEPT) / SCORES, axis=0, method="higher")
    # In what is saved, rounding must not put the image at the limit beyond it.
    return Novelty(
        *(array.astype(np.float32) for array in novelty._replace(limits=limits * (1 + ROUNDING)))
    )


def scores(novelty: Novelty, images: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the scores (N, 4)."""
    flat = images.reshape(len(images), -1) - novelty.mean
    values = flat @ novelty.components.T
    left = np.square(flat - values @ novelty.components).sum(axis=1)
    predicted = probabilities.argmax(axis=1)
    away = np.einsum(
        "nij,nj->ni", novelty.whitening[predicted], values - novelty.centres[predicted]
    )
    light = np.square(images).reshape(len(images), -1).sum(axis=1)
    return np.stack(
        [np.square(away).sum(axis=1), left, left / (light + TINY), 1 - probabilities.max(axis=1)],
        axis=1,
    )


def is_novel(novelty: Novelty, images: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return which images have a score beyond its limit, (N,)."""
    return (scores(novelty, images, probabilities) > novelty.limits).any(axis=1)
