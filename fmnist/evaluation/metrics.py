"""Metrics of predictions: accuracy, cross-entropy, calibration and confidence intervals.

Common arguments:
    labels: true classes (N,), integers.
    probabilities: class probabilities (N, classes).
    label_smoothing: label smoothing of the training whose network returned the probabilities.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn import metrics as sklearn_metrics

TIMED_IMAGES = 100  # images of a latency measurement
# Output of calibrated() for a difference of 0, as a fraction of the offset, before normalisation.
# A small positive value, so that no probability is 0.
SOFTNESS = 0.2


def score(
    labels: dict[str, np.ndarray],
    probabilities: dict[str, np.ndarray],
    label_smoothing: float,
    **nested: dict[str, dict],
) -> dict[str, dict[str, Any]]:
    """Return the scores of every part of the data: train, validation and test.

    The temperature is fitted on the validation set. The scores calibrated_loss and calibrated_ece
    are those after calibrated(); the other scores are those before it.

    Args:
        labels: (N,) by name of the part.
        probabilities: (N, classes) by name of the part.
        label_smoothing: see above.
        nested: earlier results of this function, which are added to the scores under the name of
            the argument.
    """
    temperature = fit_temperature(
        labels["validation"], probabilities["validation"], label_smoothing
    )
    scores = {}
    for name, before in probabilities.items():
        after = calibrated(before, temperature, label_smoothing)
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


def fit_temperature(
    labels: np.ndarray, probabilities: np.ndarray, label_smoothing: float = 0.0
) -> float:
    """Return the temperature between 1/4 and 4 that minimises the cross-entropy of calibrated().

    Temperature scaling: Guo and others, "On Calibration of Modern Neural Networks",
    https://arxiv.org/abs/1706.04599
    """

    def loss(log_temperature):
        temperature = math.exp(log_temperature)
        return cross_entropy(labels, calibrated(probabilities, temperature, label_smoothing))

    return math.exp(minimize_scalar(loss, bounds=(-math.log(4), math.log(4)), method="bounded").x)


def calibrated(
    probabilities: np.ndarray, temperature: float, label_smoothing: float = 0.0
) -> np.ndarray:
    """Return calibrated probabilities: undo label smoothing, then apply temperature scaling.

    With label smoothing s, a network learns to return (1 - s) p + s / classes instead of p, so
    s / classes is subtracted. A smooth maximum of the difference and 0 keeps the results positive
    and in the same order. Temperature scaling divides the logits. In the end, every row is divided
    by its sum, so that the factor 1 - s does not matter.

    Args:
        probabilities: (N, classes), output of the network.
        temperature: positive; below 1 raises the confidences.
        label_smoothing: s; with 0, the result is that of temperature scaling alone.

    Returns:
        (N, classes), rows with the sum 1.
    """
    if label_smoothing:
        offset = label_smoothing / probabilities.shape[1]
        difference = probabilities - offset
        probabilities = (difference + np.hypot(difference, 2 * SOFTNESS * offset)) / 2
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


def reliability_by_class(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of reliability() for the images of every predicted class.

    Returns:
        Counts, confidences and accuracies, (classes, bins) each.
    """
    predicted = probabilities.argmax(axis=1)
    by_class = [
        reliability(labels[predicted == label], probabilities[predicted == label], bins)
        for label in range(probabilities.shape[1])
    ]
    return tuple(np.array(values) for values in zip(*by_class, strict=True))


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


class OneVersusRest(NamedTuple):
    """Curves of one class against all others, with the class probability as the score.

    Attributes:
        false_positive_rates: false positive rates of the receiver operating characteristic (ROC).
        true_positive_rates: true positive rates at the same thresholds.
        roc_auc: area under the ROC curve.
        recalls: recalls of the precision-recall curve, in descending order.
        precisions: precisions at the same thresholds.
        average_precision: mean of the precisions, weighted by the increases of the recall.
    """

    false_positive_rates: np.ndarray
    true_positive_rates: np.ndarray
    roc_auc: float
    recalls: np.ndarray
    precisions: np.ndarray
    average_precision: float


def one_versus_rest(labels: np.ndarray, probabilities: np.ndarray) -> list[OneVersusRest | None]:
    """Return the curves of every class; None if no image or every image belongs to the class."""
    curves = []
    for label, scores in enumerate(probabilities.T):
        is_class = labels == label
        if is_class.all() or not is_class.any():
            curves.append(None)
            continue
        false_positive_rates, true_positive_rates, _ = sklearn_metrics.roc_curve(is_class, scores)
        precisions, recalls, _ = sklearn_metrics.precision_recall_curve(
            is_class, scores, drop_intermediate=True
        )
        curves.append(
            OneVersusRest(
                false_positive_rates,
                true_positive_rates,
                float(sklearn_metrics.auc(false_positive_rates, true_positive_rates)),
                recalls,
                precisions,
                float(sklearn_metrics.average_precision_score(is_class, scores)),
            )
        )
    return curves


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the scores of every class and their averages.

    The scores are precision, recall, F1 score, support, and roc_auc and average_precision of the
    class against the rest. The last two are None for a class without curves, see one_versus_rest(),
    and the averages omit it.
    """
    report = sklearn_metrics.classification_report(
        labels,
        probabilities.argmax(axis=1),
        labels=range(len(class_names)),
        target_names=class_names,
        output_dict=True,
        zero_division=0,
    )
    curves = dict(zip(class_names, one_versus_rest(labels, probabilities), strict=True))
    for key in ("roc_auc", "average_precision"):
        areas = {name: getattr(curve, key) for name, curve in curves.items() if curve}
        for name in class_names:
            report[name][key] = areas.get(name)
        values, support = list(areas.values()), [report[name]["support"] for name in areas]
        report["macro avg"][key] = float(np.mean(values)) if areas else None
        report["weighted avg"][key] = float(np.average(values, weights=support)) if areas else None
    return report


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the confusion matrix: true classes in rows, predicted classes in columns."""
    return sklearn_metrics.confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1])
    )


def confused_pairs(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], limit: int = 10
) -> list[dict[str, Any]]:
    """Return the pairs of classes with the most mistakes, in descending order.

    A mistake counts for the pair of its true class and its predicted class, whichever is the true
    one. Pairs without mistakes are omitted.

    Args:
        labels: see above.
        probabilities: see above.
        class_names: names of the classes.
        limit: maximum number of pairs.

    Returns:
        A dict per pair:
            classes: the two names; the class that is mistaken for the other more often comes first.
            mistakes_by_true_class: number of mistakes whose true class is the first, the second.
            mistakes: their sum.
            fraction_of_mistakes: their sum, divided by the number of mistakes of all classes.
    """
    counts = confusion(labels, probabilities)
    rows, columns = np.triu_indices(len(counts), 1)
    mistakes = counts[rows, columns] + counts[columns, rows]
    pairs = []
    for index in np.argsort(-mistakes, kind="stable")[:limit]:
        if mistakes[index] == 0:
            break
        first, second = rows[index], columns[index]
        if counts[second, first] > counts[first, second]:
            first, second = second, first
        pairs.append(
            {
                "classes": [class_names[first], class_names[second]],
                "mistakes_by_true_class": [int(counts[first, second]), int(counts[second, first])],
                "mistakes": int(mistakes[index]),
                "fraction_of_mistakes": float(mistakes[index] / mistakes.sum()),
            }
        )
    return pairs


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
