import json

import numpy as np
import pytest
from sklearn.metrics import log_loss

from fmnist.evaluation import metrics

LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])


def test_accuracy_and_cross_entropy_agree_with_known_values():
    assert metrics.accuracy(LABELS, PROBABILITIES) == 0.75
    assert metrics.cross_entropy(LABELS, PROBABILITIES) == pytest.approx(
        log_loss(LABELS, PROBABILITIES)
    )


def test_a_probability_of_zero_gives_a_finite_cross_entropy():
    assert metrics.cross_entropy(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(
        -np.log(1e-7)
    )


def test_the_accuracy_interval_is_the_wilson_score_interval():
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I: 81 of 263 and 0 of 20.
    assert metrics.accuracy_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.accuracy_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert metrics.accuracy_interval(1, 10000)[1] == pytest.approx(1)


def test_the_rows_of_the_confusion_matrix_are_true_classes():
    assert metrics.confusion(LABELS, PROBABILITIES).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_scores_per_class_and_their_averages_agree_with_known_values():
    report = metrics.per_class(LABELS, PROBABILITIES, ("a", "b", "c"))
    assert report["a"] == {
        "precision": 1,
        "recall": 0.5,
        "f1-score": pytest.approx(2 / 3),
        "support": 2,
        "roc_auc": 1,
        "average_precision": 1,
    }
    assert report["macro avg"]["recall"] == pytest.approx(2.5 / 3)
    assert report["weighted avg"]["recall"] == pytest.approx(0.75)


def test_the_areas_of_a_class_agree_with_values_computed_by_hand():
    """The images in descending order of the probability of class 0: 0, 1, 0, 1."""
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.9, 0.6, 0.4, 0.2])
    curve = metrics.one_versus_rest(labels, np.stack([scores, 1 - scores], axis=1))[0]
    # Of the four pairs of an image of class 0 and another image, three are in the right order.
    assert curve.roc_auc == pytest.approx(3 / 4)
    # The precision is 1 at a recall of 1/2, and 2/3 at a recall of 1.
    assert curve.average_precision == pytest.approx((1 + 2 / 3) / 2)
    points = list(zip(curve.false_positive_rates, curve.true_positive_rates, strict=True))
    assert points == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]
    points = list(zip(curve.recalls, curve.precisions, strict=True))
    assert points[-1] == (0, 1) and (0.5, 1) in points
    assert (1, pytest.approx(2 / 3)) in points


def test_areas_of_classes_without_images_are_none_and_the_averages_omit_them():
    labels = np.array([0, 1, 1, 0])
    report = metrics.per_class(labels, PROBABILITIES, ("a", "b", "c"))
    assert report["c"]["roc_auc"] is None and report["c"]["average_precision"] is None
    # Of the four pairs of an image of class a and another image, two are in the right order.
    assert report["a"]["roc_auc"] == 0.5 and report["b"]["roc_auc"] == 1
    assert report["macro avg"]["roc_auc"] == report["weighted avg"]["roc_auc"] == 0.75
    json.dumps(report, allow_nan=False)


def test_the_weighted_average_of_the_areas_weights_classes_by_their_images():
    labels = np.array([0, 2, 2, 2])
    report = metrics.per_class(labels, PROBABILITIES, ("a", "b", "c"))
    assert (report["a"]["roc_auc"], report["c"]["roc_auc"]) == (1, pytest.approx(2 / 3))
    assert report["macro avg"]["roc_auc"] == pytest.approx((1 + 2 / 3) / 2)
    assert report["weighted avg"]["roc_auc"] == pytest.approx((1 + 3 * 2 / 3) / 4)


def test_no_area_is_defined_if_all_images_belong_to_one_class():
    report = metrics.per_class(np.zeros(4, int), PROBABILITIES, ("a", "b", "c"))
    areas = [row["roc_auc"] for row in report.values() if isinstance(row, dict)]
    assert areas == [None] * 5
    json.dumps(report, allow_nan=False)


def test_confused_pairs_count_both_directions():
    labels, predicted = np.array([0, 1, 1, 1, 2, 2, 0]), np.array([1, 0, 0, 2, 1, 0, 0])
    pairs = metrics.confused_pairs(labels, metrics.one_hot(predicted, 3), ("a", "b", "c"))
    assert pairs == [
        {
            "classes": ["b", "a"],
            "mistakes_by_true_class": [2, 1],
            "mistakes": 3,
            "fraction_of_mistakes": 3 / 6,
        },
        {
            "classes": ["b", "c"],
            "mistakes_by_true_class": [1, 1],
            "mistakes": 2,
            "fraction_of_mistakes": 2 / 6,
        },
        {
            "classes": ["c", "a"],
            "mistakes_by_true_class": [1, 0],
            "mistakes": 1,
            "fraction_of_mistakes": 1 / 6,
        },
    ]
    json.dumps(pairs, allow_nan=False)
    fewer = metrics.confused_pairs(labels, metrics.one_hot(predicted, 3), ("a", "b", "c"), limit=1)
    assert fewer == pairs[:1]


def test_confused_pairs_of_a_perfect_and_an_always_wrong_network():
    labels = np.array([0, 1, 2, 2])
    assert metrics.confused_pairs(labels, metrics.one_hot(labels, 3), ("a", "b", "c")) == []
    always_wrong = metrics.one_hot(np.zeros(4, int), 3)
    pairs = metrics.confused_pairs(np.full(4, 2), always_wrong, ("a", "b", "c"))
    assert [(pair["classes"], pair["fraction_of_mistakes"]) for pair in pairs] == [(["c", "a"], 1)]


def test_the_temperature_divides_the_logits():
    logits = np.log(PROBABILITIES) + 3
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(metrics.calibrated(PROBABILITIES, 2), expected)
    np.testing.assert_allclose(metrics.calibrated(PROBABILITIES, 1), PROBABILITIES)
    assert np.isfinite(metrics.calibrated(np.float32([[1, 0], [0, 1]]), 0.25)).all()


def test_label_smoothing_is_undone_before_the_temperature_is_applied():
    smoothed = (1 - 0.3) * PROBABILITIES + 0.3 / 3
    expected = metrics.calibrated(PROBABILITIES, 2)
    np.testing.assert_allclose(metrics.calibrated(smoothed, 2, 0.3), expected, atol=0.01)
    # Outputs below the smoothed target of a wrong class keep their order and stay positive.
    outputs = np.float32([[0.98, 0.0, 1e-6, 0.004, 0.0045, 0.0055, 0.006, 0, 0, 0]])
    [calibrated] = metrics.calibrated(outputs, 1, 0.05)
    assert (calibrated > 0).all() and calibrated.sum() == pytest.approx(1)
    assert (np.diff(calibrated[1:7]) > 0).all() and calibrated.argmax() == 0


def test_the_fitted_temperature_belongs_to_probabilities_without_label_smoothing():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(10, 0.2), 20000)
    labels = np.array([rng.choice(10, p=row) for row in probabilities])
    smoothed = 0.9 * probabilities + 0.1 / 10
    assert metrics.fit_temperature(labels, smoothed, 0.1) == pytest.approx(1, abs=0.1)
    alone, both = (
        metrics.score({"validation": labels}, {"validation": smoothed}, smoothing)["validation"]
        for smoothing in (0, 0.1)
    )
    assert both["temperature"] == metrics.fit_temperature(labels, smoothed, 0.1)
    assert alone["temperature"] == metrics.fit_temperature(labels, smoothed)
    assert both["temperature"] != pytest.approx(alone["temperature"], rel=0.05)
    assert both["calibrated_loss"] < alone["calibrated_loss"] < both["loss"] == alone["loss"]
    calibrated = metrics.calibrated(smoothed, both["temperature"], 0.1)
    assert both["calibrated_ece"] == metrics.calibration_error(labels, calibrated)


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_the_fitted_temperature_is_the_one_that_generated_the_labels(temperature):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(10, 0.2), 20000).clip(1e-6)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.array(
        [rng.choice(10, p=row) for row in metrics.calibrated(probabilities, temperature)]
    )
    assert metrics.fit_temperature(labels, probabilities) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_of_perfect_predictions_stays_within_the_bounds():
    assert 0.25 <= metrics.fit_temperature(np.array([0]), np.array([[0.9, 0.1]])) < 0.26


def test_the_calibration_error_is_the_mean_difference_between_confidence_and_accuracy():
    # Confidences 0.8, 0.8, 0.7 and 0.6 in three bins; all predictions but the last are correct.
    error = (2 * abs(0.8 - 1) + abs(0.7 - 1) + abs(0.6 - 0)) / 4
    assert metrics.calibration_error(LABELS, PROBABILITIES) == pytest.approx(error)
    counts, confidences, accuracies = metrics.reliability(
        np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])
    )
    assert counts.tolist() == [0] * 14 + [2] and (confidences[-1], accuracies[-1]) == (1, 0.5)


def test_the_reliability_of_a_class_contains_the_images_predicted_as_it():
    counts, confidences, accuracies = metrics.reliability_by_class(LABELS, PROBABILITIES, bins=5)
    # Class 0: one image with a confidence of 0.8. Class 1: 0.6 (wrong) and 0.7. Class 2: 0.8.
    assert counts.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 2, 0], [0, 0, 0, 0, 1]]
    assert confidences[1, 3] == pytest.approx(0.65) and accuracies[1, 3] == 0.5
    only_first = metrics.reliability_by_class(LABELS[:1], PROBABILITIES[:1])
    assert [values[1:].any() for values in only_first] == [False] * 3


def test_the_difference_interval_excludes_zero_only_for_significant_differences():
    rng = np.random.default_rng(1)
    hard = rng.random(2000) < 0.3
    reference = np.stack([~hard | (rng.random(2000) < 0.5) for _ in range(3)])
    equally_good = np.stack([~hard | (rng.random(2000) < 0.5) for _ in range(3)])
    worse = reference & (rng.random((3, 2000)) > 0.05)
    difference, low, high = metrics.difference_interval(equally_good, reference)
    assert difference == pytest.approx(equally_good.mean() - reference.mean()) and low < 0 < high
    difference, low, high = metrics.difference_interval(worse, reference)
    assert low < difference < high < -0.02
    assert metrics.difference_interval(reference, reference)[0] == 0
    # Both networks are resampled with the same images. With separate images for each network, the
    # interval would be wider.
    _, low, high = metrics.difference_interval(worse[:1], reference[:1])
    assert high - low < 0.025
