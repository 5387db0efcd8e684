import numpy as np
import pytest
from sklearn.metrics import log_loss

import metrics

LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = np.array([[.8, .1, .1], [.3, .6, .1], [.2, .7, .1], [.1, .1, .8]])


def test_accuracy_and_cross_entropy():
    assert metrics.accuracy(LABELS, PROBABILITIES) == 0.75
    assert metrics.cross_entropy(LABELS, PROBABILITIES) == pytest.approx(log_loss(LABELS, PROBABILITIES))


def test_a_probability_of_zero_is_not_infinitely_wrong():
    assert metrics.cross_entropy(np.array([0]), np.array([[0., 1.]])) == pytest.approx(-np.log(1e-7))


def test_the_interval_is_wilsons():
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I: 81 of 263 and 0 of 20.
    assert metrics.accuracy_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.accuracy_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert metrics.accuracy_interval(1, 10000)[1] == pytest.approx(1)


def test_rows_of_the_confusion_matrix_are_true_classes():
    assert metrics.confusion(LABELS, PROBABILITIES).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_per_class_scores_and_their_averages():
    report = metrics.per_class(LABELS, PROBABILITIES, ("a", "b", "c"))
    assert report["a"] == {"precision": 1, "recall": 0.5, "f1-score": pytest.approx(2 / 3), "support": 2}
    assert report["macro avg"]["recall"] == pytest.approx(2.5 / 3)
    assert report["weighted avg"]["recall"] == pytest.approx(0.75)
