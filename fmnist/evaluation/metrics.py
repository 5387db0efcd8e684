"""Metrics of predictions: accuracy, cross-entropy, calibration and confidence intervals.

Common arguments:
    labels: true classes (N,), integers.
    probabilities: class probabilities (N, classes).
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn import metrics as sklearn_metrics

TIMED_IMAGES = 100  # images of a latency measurement


def score(
    labels: dict[str, np.ndarray], probabilities: dict[str, np.ndarray], **nested: dict[str, dict]
) -> dict[str, dict[str, Any]]:
    """Return the scores of every part of the data: train, validation and test.

    The temperature is fitted on the validation set. The scores calibrated_loss and calibrated_ece
    are those after temperature scaling; the other scores are those before it.

    Args:
        labels: (N,) by name of the part.
        probabilities: (N, classes) by name of the part.
        nested: earlier results of this function, which are added to the scores under the name of
            the argument.
    """
    temperature = fit_temperature(labels["validation"], probabilities["validation"])
    scores = {}
    for name, before in probabilities.items():
        after = calibrated(before, temperature)
        scores[name] = {
            "loss": cross_entropy(labels[name], before),
            "accuracy": accuracy(labels[name], before),
            "ece": calibration_error(labels[name], before),
            "calibrated_loss": cross_entropy(labels[name], after),
            "calibrated_ece": calibration_error(labels[name], after),
            "temperature": temperature,
            "images": len(labels[name]),
            **{key: scores_by_part[name] for key, scores_by_part in nested.items()},
        }
    return scores


def one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    """Return one-hot vectors (N, count) of classes (N,), for predictions without probabilities."""
    return np.eye(count, dtype=np.float32)[classes]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the fraction of images whose most probable class is the true class."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log-probability of the true class, in nats.

    Probabilities are clipped at 1e-7, as in Keras, so that the result is always finite.
    """
    clipped = np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), 1e-7, 1)
    return float(-np.log(clipped).mean())


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature between 1/4 and 4 that minimises the cross-entropy of calibrated().

    Guo and others, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599
    """

    def loss(log_temperature):
        return cross_entropy(labels, calibrated(probabilities, math.exp(log_temperature)))

    return math.exp(minimize_scalar(loss, bounds=(-math.log(4), math.log(4)), method="bounded").x)


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities after temperature scaling, which divides the logits."""
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of a reliability diagram, with bins of equal width.

    Returns:
        counts: number of images in every bin (bins,).
        confidences: mean confidence (highest class probability) in every bin (bins,).
        accuracies: accuracy in every bin (bins,). Confidence and accuracy of an empty bin are 0.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts, confidence_sums, correct_counts = (
        np.bincount(bin_index, weights, minlength=bins) for weights in (None, confidence, correct)
    )
    divisors = np.maximum(counts, 1)
    return counts, confidence_sums / divisors, correct_counts / divisors


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error (ECE).

    This is the mean of |accuracy - confidence| over the bins of reliability(), weighted by their
    number of images. Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning", AAAI 2015.
    """
    counts, confidences, accuracies = reliability(labels, probabilities)
    return float(np.sum(counts * np.abs(confidences - accuracies)) / len(labels))


def accuracy_interval(accuracy: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % confidence interval of an accuracy that was measured on `count` images.

    This is Wilson's score interval:
    https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval

    Args:
        accuracy: fraction between 0 and 1.
        count: number of images.
        z: quantile of the normal distribution.
    """
    centre = accuracy + z**2 / (2 * count)
    half = z * math.sqrt(accuracy * (1 - accuracy) / count + z**2 / (4 * count**2))
    return (centre - half) / (1 + z**2 / count), (centre + half) / (1 + z**2 / count)


def difference_interval(
    correct: np.ndarray, reference: np.ndarray, resamples: int = 2000
) -> tuple[float, float, float]:
    """Return the difference of two accuracies and its 95 % bootstrap confidence interval.

    Every resample draws seeds for each network separately, and images for both networks together.
    With one seed per network, the interval does not include the variation between seeds. Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993.

    Args:
        correct: (seeds, N) bool, whether the first network classifies an image correctly.
        reference: (seeds, N) bool, the same for the second network and the same images.
        resamples: number of bootstrap resamples.

    Returns:
        The accuracy of the first network minus that of the second, and the lower and upper bound.
    """
    rng = np.random.default_rng(0)
    differences = np.empty(resamples)
    for index in range(resamples):
        first, second = (
            network[rng.integers(len(network), size=len(network))].mean(axis=0)
            for network in (correct, reference)
        )
        differences[index] = (first - second)[rng.integers(len(first), size=len(first))].mean()
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(correct.mean() - reference.mean()), float(low), float(high)


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
) -> dict[str, Any]:
    """Return precision, recall, F1 score and support of every class, and their averages."""
    return sklearn_metrics.classification_report(
        labels,
        probabilities.argmax(axis=1),
        labels=range(len(class_names)),
        target_names=class_names,
        output_dict=True,
        zero_division=0,
    )


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the confusion matrix: true classes in rows, predicted classes in columns."""
    return sklearn_metrics.confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1])
    )


def latency(predict: Callable[[np.ndarray], Any], image_shape: tuple[int, ...]) -> float:
    """Return the median time of a prediction in milliseconds, over TIMED_IMAGES random images.

    Args:
        predict: function that predicts a single image.
        image_shape: shape of an image.
    """
    images = np.random.default_rng(0).random((TIMED_IMAGES, *image_shape), np.float32)
    times = []
    for image in images:
        start = time.perf_counter()
        predict(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
