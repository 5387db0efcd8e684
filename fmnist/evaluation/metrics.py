"""Scores from labels and probabilities.

labels: (N,) integers; probabilities: (N, classes), rows that sum to one.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn import metrics as sklearn_metrics

TIMED_IMAGES = 100


def score(
    labels: dict[str, np.ndarray], probabilities: dict[str, np.ndarray], **others: dict[str, dict]
) -> dict[str, dict[str, Any]]:
    """Return the scores of every part: train, validation and test.

    The temperature of calibration is fitted on the validation part. What is called calibrated has
    the temperature in it, the rest has not.

    Args:
        labels: (N,) by the name of the part.
        probabilities: (N, classes) by the name of the part.
        others: scores of every part that are to stand in the new ones by the argument's name.
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
            **{key: other[name] for key, other in others.items()},
        }
    return scores


def one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    """Return probabilities (N, count) of a classifier that gives classes (N,) alone."""
    return np.eye(count, dtype=np.float32)[classes]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose most probable class is the right one."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log-probability of the right class, in nats.

    Probabilities are clipped at 1e-7, as Keras does, so that none is infinitely wrong.
    """
    right = np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), 1e-7, 1)
    return float(-np.log(right).mean())


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature, from 1/4 to 4, at which the cross-entropy of calibrated() is lowest.

    Guo and others, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599
    """

    def loss(log_temperature):
        return cross_entropy(labels, calibrated(probabilities, math.exp(log_temperature)))

    return math.exp(minimize_scalar(loss, bounds=(-math.log(4), math.log(4)), method="bounded").x)


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities of the softmax whose logits are divided by the temperature."""
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return count, mean confidence and accuracy of every bin of confidence, arrays (bins,).

    Confidence is the highest probability; the bins are of equal width. An empty bin's means are 0.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    counts, confidences, corrects = (
        np.bincount(number, weights, minlength=bins) for weights in (None, confidence, correct)
    )
    return counts, confidences / np.maximum(counts, 1), corrects / np.maximum(counts, 1)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error (ECE): the mean of |accuracy - confidence|.

    Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    AAAI 2015.
    """
    counts, confidences, accuracies = reliability(labels, probabilities)
    return float(np.sum(counts * np.abs(confidences - accuracies)) / len(labels))


def accuracy_interval(accuracy: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy measured on `count` images.

    Wilson's score interval: https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval
    """
    centre = accuracy + z**2 / (2 * count)
    half = z * math.sqrt(accuracy * (1 - accuracy) / count + z**2 / (4 * count**2))
    return (centre - half) / (1 + z**2 / count), (centre + half) / (1 + z**2 / count)


def difference_interval(
    correct: np.ndarray, others: np.ndarray, resamples: int = 2000
) -> tuple[float, float, float]:
    """Return by how much accuracy is above the others', and its 95 % bootstrap interval.

    Every resample draws images, the same for both, and seeds. With one seed each, the interval
    knows nothing of what another seed would do. Efron, Tibshirani, "An Introduction to the
    Bootstrap", 1993.

    Args:
        correct: (seeds, N), whether the prediction is correct.
        others: (seeds, N) of the same N images.
        resamples: number of bootstrap resamples.
    """
    rng = np.random.default_rng(0)
    differences = np.empty(resamples)
    for number in range(resamples):
        one, two = (
            side[rng.integers(len(side), size=len(side))].mean(axis=0) for side in (correct, others)
        )
        differences[number] = (one - two)[rng.integers(len(one), size=len(one))].mean()
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(correct.mean() - others.mean()), float(low), float(high)


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
) -> dict[str, Any]:
    """Return precision, recall, f1-score and support of every class, and their averages."""
    return sklearn_metrics.classification_report(
        labels,
        probabilities.argmax(axis=1),
        labels=range(len(class_names)),
        target_names=class_names,
        output_dict=True,
        zero_division=0,
    )


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the counts (classes, classes): rows are true classes, columns predicted ones."""
    return sklearn_metrics.confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1])
    )


def latency(predict: Callable[[np.ndarray], Any], image_shape: tuple[int, ...]) -> float:
    """Return the median milliseconds that one image takes, over TIMED_IMAGES random ones."""
    images = np.random.default_rng(0).random((TIMED_IMAGES, *image_shape), np.float32)
    times = []
    for image in images:
        started = time.perf_counter()
        predict(image)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)
