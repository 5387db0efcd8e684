import numpy as np
import pytest
from sklearn import datasets
from sklearn.decomposition import PCA

from fmnist import runs
from fmnist.inference import calibration, classifier, photo, whole_photo


@pytest.fixture(scope="module")
def classify():
    return whole_photo.load()


@pytest.mark.parametrize("size", [(1, 1), (160, 90), (3, 160)])
def test_a_picture_of_any_shape_is_classified(classify, size):
    probabilities = classify(np.zeros((*size, 3), np.uint8)).probabilities
    assert probabilities.shape == (10,) and probabilities.min() >= 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_a_mirrored_picture_is_classified_alike(classify):
    picture = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    first, second = (classify(p).probabilities for p in (picture, picture[:, ::-1]))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_pictures_of_other_things_are_novel(classify):
    """Sample pictures of scikit-learn, and generated pictures."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (120, 160, 3), np.uint8)
    checks = np.kron(rng.integers(0, 2, (6, 8, 1)), np.full((20, 20, 3), 255)).astype(np.uint8)
    for picture in (*datasets.load_sample_images().images, noise, checks):
        assert classify(picture).is_novel


def test_the_error_is_that_of_the_reconstruction():
    rng = np.random.default_rng(0)
    features = rng.random((50, whole_photo.FEATURES)) @ np.diag(rng.random(whole_photo.FEATURES))
    pca = PCA(5).fit(features)
    known = whole_photo.FeatureStatistics(pca.mean_, pca.components_, np.array(1))
    rest = features - pca.inverse_transform(pca.transform(features))
    expected = np.linalg.norm(rest, axis=1) / np.linalg.norm(features, axis=1)
    np.testing.assert_allclose(known.reconstruction_error(features), expected, rtol=1e-6)


def test_a_missing_or_other_network_is_one_line(tmp_path):
    with pytest.raises(runs.RunError, match="missing"):
        whole_photo.load(tmp_path)
    with pytest.raises(runs.RunError, match="not a model for whole photographs"):
        whole_photo.load(runs.BEST)


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_missing_or_corrupt_features_are_one_line(tmp_path, content):
    path = tmp_path / whole_photo.STATISTICS
    message = "missing"
    if content is not None:
        path.write_bytes(content)
        message = "features.npz is corrupt"
    with pytest.raises(runs.RunError, match=message) as caught:
        whole_photo.load_statistics(path)
    assert "\n" not in str(caught.value)


def test_features_of_another_network_are_one_line(tmp_path):
    known = whole_photo.load_statistics(whole_photo.FOLDER / whole_photo.STATISTICS)
    for wrong in (
        known._replace(mean=known.mean[:-1]),
        known._replace(limit=np.array(np.nan)),
        known._replace(components=known.components[:, :-1]),
    ):
        np.savez(tmp_path / "wrong.npz", **wrong._asdict())
        with pytest.raises(runs.RunError, match="wrong.npz is corrupt"):
            whole_photo.load_statistics(tmp_path / "wrong.npz")


def test_missing_files_of_the_project_are_to_be_restored(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "PRETRAINED", tmp_path)
    with pytest.raises(runs.RunError, match="restore it"):
        whole_photo.load(tmp_path / "whole_photo")


@pytest.mark.parametrize("is_novel", [False, True])
@pytest.mark.parametrize("confidence", [0.2, 0.99])
def test_a_novel_photograph_is_uncertain_with_one_warning(is_novel, confidence):
    settings = calibration.Calibration(1, 0.5, 0.9, 0.9, 0.9, 100)
    prediction = np.full(10, (1 - confidence) / 9)
    prediction[3] = confidence
    network = classifier.Classifier(
        run=None,
        model=None,
        flips=True,
        shifts=False,
        temperature=1,
        label_smoothing=0,
        known=None,
        on_photographs=calibration.Calibrations(settings, settings),
        predict=lambda images: np.tile(prediction, (len(images), 1)),
    )
    whole = photo.WholePrediction(prediction, is_novel)
    picture, images = np.zeros((20, 20, 3), np.uint8), np.zeros((2, 28, 28, 1), np.float32)
    converted = photo.Photo(picture, images, np.ones((20, 20), bool), [], whole)
    [outcome] = network.classify_photographs([converted])
    is_low = confidence < 0.5
    expected = [classifier.LOW_CONFIDENCE] if is_low else []
    if is_novel:
        expected = [classifier.NOVEL]
    assert outcome.warnings == expected and outcome.uncertain == (is_novel or is_low)
    # Nothing is known of a photograph on a plain background.
    [outcome] = network.classify_photographs([converted._replace(whole=None)])
    assert outcome.uncertain == is_low


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_without_evaluation_only_images_of_the_data_set_are_not_calibrated(is_calibrated):
    settings = calibration.Calibration(1, 0.5, 0.9, 0.9, 0.9, 100)
    calibrations = calibration.Calibrations(settings, settings) if is_calibrated else None
    network = classifier.Classifier(
        runs.BEST, None, True, False, 1, 0, None, calibrations, lambda images: None
    )
    both = classifier.PhotoClassifier(network, network, None, None)
    hint = both.description().splitlines()[1]
    assert hint.startswith("The last epoch of this run is not evaluated")
    assert ("for images of 28 × 28 pixels" in hint) == is_calibrated


def segment(picture):
    """Take the left half of a picture for the item."""
    return np.repeat([np.linspace(1, 0, picture.shape[1])], picture.shape[0], axis=0)


def no_prediction(picture):
    raise AssertionError("the whole photograph was classified")


def test_the_whole_photograph_is_classified_unless_the_background_is_plain():
    prediction = photo.WholePrediction(np.eye(10)[3], False)
    cluttered = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    converted = photo.convert(cluttered, segment, lambda picture: prediction)
    assert len(converted.images) == 1 and converted.whole is prediction
    assert photo.convert(cluttered, segment).whole is None
    # Nothing is classified if no item is found.
    nothing = photo.convert(cluttered, lambda picture: np.zeros((60, 80)), no_prediction)
    assert nothing.mask is None and nothing.whole is None

    plain = np.full((60, 80, 3), 230, np.uint8)
    plain[20:40, 30:50] = 20
    converted = photo.convert(plain, no_prediction, no_prediction)
    assert len(converted.images) == 1 and converted.whole is None
    assert converted.mask[20:40, 30:50].all() and converted.mask.sum() == 400


def test_all_predictions_count_alike():
    outputs = np.eye(10)[:2]
    np.testing.assert_allclose(photo.combined(outputs[:1], None), np.eye(10)[0])
    np.testing.assert_allclose(photo.combined(outputs, None)[:2], 1 / 2)
    np.testing.assert_allclose(
        photo.combined(outputs, photo.WholePrediction(np.eye(10)[2], False))[:3], 1 / 3
    )
