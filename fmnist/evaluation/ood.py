"""Detection of out-of-distribution (OOD) images, for which a prediction is unreliable.

Every image gets four scores. An image is out of distribution if one of them exceeds its limit:
    1. The squared Mahalanobis distance between the principal components of the image and those of
       the predicted class.
    2. The squared reconstruction error of the principal components.
    3. The same error as a fraction of the sum of the squared pixel values.
    4. One minus the confidence.

Common arguments:
    images: (N, 28, 28, 1) in [0, 1].
    probabilities: calibrated class probabilities (N, classes).
"""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

COMPONENTS = 60  # number of principal components
# Weight, in images, of the pooled covariance in the covariance of a class. A class may have too few
# images for an estimate of its own.
POOLED_WEIGHT = 60
SCORES = 4  # number of scores
# Smallest fraction of the validation images that stay within all limits.
IN_DISTRIBUTION = 0.95
EPSILON = 1e-6  # avoids singular matrices and divisions by zero
ROUNDING_MARGIN = 1e-3  # relative margin of the limits for rounding to float32


class Novelty(NamedTuple):
    """Statistics of the training images, and limits of the scores.

    Attributes:
        mean: mean image (784,).
        components: principal components (60, 784); fewer if there are fewer training images.
        centres: mean principal component values of every class (classes, 60).
        whitening: matrix of every class (classes, 60, 60) that transforms its covariance matrix to
            the identity.
        limits: upper limits of the scores (4,).
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
    """Compute the statistics of the training images, and the limits from the validation images.

    At least IN_DISTRIBUTION of the validation images stay within all limits.

    Args:
        images: training images.
        labels: labels (N,) of the training images.
        validation_images: validation images.
        validation_probabilities: calibrated class probabilities of the validation images.
    """
    flat = images.reshape(len(images), -1)
    pca = PCA(min(COMPONENTS, len(flat)), svd_solver="covariance_eigh").fit(flat)
    values = pca.transform(flat)
    classes = range(validation_probabilities.shape[1])
    overall = values.mean(axis=0)
    centres = np.array(
        [
            values[labels == label].mean(axis=0) if (labels == label).any() else overall
            for label in classes
        ]
    )
    residuals = values - centres[labels]
    pooled = np.cov(residuals, rowvar=False, bias=True)
    pooled += EPSILON * (1 + np.trace(pooled)) * np.eye(len(pooled))
    whitening = []
    for label in classes:
        class_residuals = residuals[labels == label]
        covariance = (class_residuals.T @ class_residuals + POOLED_WEIGHT * pooled) / (
            len(class_residuals) + POOLED_WEIGHT
        )
        whitening.append(np.linalg.inv(np.linalg.cholesky(covariance)))
    novelty = Novelty(
        pca.mean_, pca.components_, centres, np.array(whitening), np.full(SCORES, np.inf)
    )
    validation = scores(novelty, validation_images, validation_probabilities)
    # Each score may exceed its limit for at most (1 - IN_DISTRIBUTION) / SCORES of the images, so
    # that all scores together exceed a limit for at most 1 - IN_DISTRIBUTION.
    limits = np.quantile(validation, 1 - (1 - IN_DISTRIBUTION) / SCORES, axis=0, method="higher")
    # A limit is the score of a validation image. After rounding to float32, this image must not
    # exceed the limit.
    limits = limits * (1 + ROUNDING_MARGIN)
    return Novelty(*(array.astype(np.float32) for array in novelty._replace(limits=limits)))


def scores(novelty: Novelty, images: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the scores (N, 4)."""
    flat = images.reshape(len(images), -1) - novelty.mean
    values = flat @ novelty.components.T
    error = np.square(flat - values @ novelty.components).sum(axis=1)
    predicted = probabilities.argmax(axis=1)
    residuals = values - novelty.centres[predicted]
    whitened = np.empty(residuals.shape, np.result_type(residuals, novelty.whitening))
    # One class at a time, because it would take long to copy a matrix for every image.
    for label in np.unique(predicted):
        of_class = predicted == label
        whitened[of_class] = np.einsum("ij,nj->ni", novelty.whitening[label], residuals[of_class])
    energy = np.square(images).reshape(len(images), -1).sum(axis=1)
    return np.stack(
        [
            np.square(whitened).sum(axis=1),
            error,
            error / (energy + EPSILON),
            1 - probabilities.max(axis=1),
        ],
        axis=1,
    )


def is_novel(novelty: Novelty, images: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return whether each image is out of distribution, (N,) bool."""
    return (scores(novelty, images, probabilities) > novelty.limits).any(axis=1)
