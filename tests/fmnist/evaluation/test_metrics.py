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
    }
    assert report["macro avg"]["recall"] == pytest.approx(2.5 / 3)
    assert report["weighted avg"]["recall"] == pytest.approx(0.75)


def test_the_temperature_divides_the_logits():
    logits = np.log(PROBABILITIES) + 3
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(metrics.calibrated(PROBABILITIES, 2), expected)
    np.testing.assert_allclose(metrics.calibrated(PROBABILITIES, 1), PROBABILITIES)
    assert np.isfinite(metrics.calibrated(np.float32([[1, 0], [0, 1]]), 0.25)).all()


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
