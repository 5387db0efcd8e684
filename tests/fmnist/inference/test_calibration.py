import json

import numpy as np
import pytest

from fmnist import runs
from fmnist.evaluation import metrics
from fmnist.inference import calibration

NAMES = 10


def predictions(count, seed=0):
    """Targets, and probabilities whose confidence is the probability of being right."""
    rng = np.random.default_rng(seed)
    labels, confidence = rng.integers(NAMES, size=count), rng.uniform(0.2, 1, count)
    right = rng.random(count) < confidence
    predicted = np.where(right, labels, (labels + rng.integers(1, NAMES, count)) % NAMES)
    probabilities = np.tile(((1 - confidence) / (NAMES - 1))[:, None], NAMES)
    probabilities[np.arange(count), predicted] = confidence
    return np.eye(NAMES)[labels], probabilities


def test_certain_predictions_have_the_accuracy_and_are_as_many_as_possible():
    targets, probabilities = predictions(5000)
    fitted = calibration.fit(targets, probabilities)
    assert fitted.certain_accuracy >= calibration.CERTAIN_ACCURACY
    assert fitted.temperature == pytest.approx(1, abs=0.1) and fitted.images == 5000
    # The accuracy of the predictions above a confidence c is (1 + c) / 2.
    assert fitted.least_confidence == pytest.approx(0.9, abs=0.05)
    assert fitted.certain == pytest.approx(0.125, abs=0.05)


def test_photographs_of_several_classes_and_too_few_photographs_are_left_out():
    targets, probabilities = predictions(300)
    targets[150:, :3] = 1
    assert calibration.fit(targets, probabilities).images == 150
    assert calibration.fit(targets[140:], probabilities[140:]) is None


def test_useless_predictions_are_uncertain():
    targets, probabilities = predictions(300)
    fitted = calibration.fit(np.roll(targets, 1, axis=1), probabilities)
    assert fitted.certain <= 2 * calibration.LEAST_CERTAIN / 300


def test_most_outliers_are_uncertain():
    targets, probabilities = predictions(5000)
    outliers = predictions(1000, seed=1)[1]
    fitted = calibration.fit_to_outliers(targets.argmax(axis=1), probabilities, outliers)
    calibrated = metrics.calibrated(outliers, fitted.temperature).max(axis=1)
    uncertain = np.mean(calibrated < fitted.least_confidence)
    assert uncertain == pytest.approx(calibration.UNCERTAIN_OUTLIERS, abs=0.002)
    assert fitted.temperature == pytest.approx(1, abs=0.1) and fitted.images == 5000
    assert fitted.certain_accuracy > fitted.accuracy == pytest.approx(0.6, abs=0.03)


def both():
    targets, probabilities = predictions(200)
    plain = calibration.fit_to_outliers(targets.argmax(axis=1), probabilities, probabilities)
    return calibration.Calibrations(plain, calibration.fit(targets, probabilities))


def test_calibrations_are_loaded_as_they_were_saved(tmp_path):
    assert calibration.load(tmp_path) is None
    calibration.save(tmp_path, both())
    assert calibration.load(tmp_path) == both()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"plain": 1}', '{"plain": {}, "other": {}}', "[" * 100_000]
)
def test_a_corrupt_file_is_one_line(tmp_path, content):
    (tmp_path / calibration.FILE).write_text(content)
    with pytest.raises(runs.RunError, match="photos.json is corrupt") as caught:
        calibration.load(tmp_path)
    message = str(caught.value)
    # The advice starts from a run that exists, not from the corrupt one.
    assert "\n" not in message and message.endswith("--run pretrained/best")


@pytest.mark.parametrize("kind", ["plain", "other"])
def test_values_out_of_range_are_rejected(tmp_path, kind):
    wrong = getattr(both(), kind)._replace(temperature=100)
    calibration.save(tmp_path, both()._replace(**{kind: wrong}))
    with pytest.raises(runs.RunError, match="out of range"):
        calibration.load(tmp_path)
    assert json.loads((tmp_path / calibration.FILE).read_text())[kind]["temperature"] == 100
