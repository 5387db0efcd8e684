import sys

import numpy as np
import pytest
from scipy import ndimage

import data
from fmnist.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)


def items(count=30):
    """Return images (N, 28, 28, 1) of textured garments and shoes, light on black."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28]
    outlines = [
        (abs(x - 13.5) < 10) & (abs(y - 14) < 12) & ((abs(x - 13.5) < 6) | (y < 15)),  # pullover
        (abs(x - 13.5) < 6) & (abs(y - 14) < 13) & ((abs(x - 13.5) > 1) | (y < 6)),  # trouser
        (y > 12) & (y < 22) & (x > 2) & (x < 26) & (x + 2 * y > 36),  # shoe
    ]
    texture = ndimage.gaussian_filter(rng.random((count, 28, 28)), (0, 2, 2))
    texture = 0.3 + 0.7 * (texture - texture.min()) / np.ptp(texture)
    images = texture * np.resize(outlines, (count, 28, 28))
    moves = rng.integers(-2, 3, (count, 2))
    moved = [ndimage.shift(image, move, order=0) for image, move in zip(images, moves, strict=True)]
    return np.stack(moved)[..., np.newaxis].astype(np.float32)


def distance(images, corrupted):
    return float(np.sqrt(np.mean((images - corrupted) ** 2)))


@every_corruption
def test_corrupted_images_have_the_type_shape_and_range_of_images(name):
    images = items()
    before = images.copy()
    for severity in SEVERITIES:
        corrupted = corrupt(images, name, severity)
        assert corrupted.dtype == np.float32 and corrupted.shape == images.shape
        assert corrupted.min() >= 0 and corrupted.max() <= 1
    np.testing.assert_array_equal(images, before)
    assert corrupt(images[:1], name, 3).shape == (1, 28, 28, 1)


@every_corruption
def test_the_distance_from_the_original_grows_with_the_severity(name):
    for images in (items(), np.random.default_rng(0).random((40, 28, 28, 1), np.float32)):
        distances = [distance(images, corrupt(images, name, level)) for level in SEVERITIES]
        assert 0 < distances[0] and distances == sorted(set(distances)), distances


def test_the_distance_grows_with_the_severity_on_the_real_test_images(real_data):
    test_images = data.read(real_data)[0][2]
    images = test_images[:200, ..., np.newaxis].astype(np.float32) / 255
    for name in CORRUPTIONS:
        distances = [distance(images, corrupt(images, name, level)) for level in SEVERITIES]
        assert 0.02 < distances[0] and distances == sorted(set(distances)), (name, distances)


@every_corruption
def test_the_seed_decides_the_random_draws(name):
    images = items()
    first = corrupt(images, name, 3, seed=1)
    np.testing.assert_array_equal(first, corrupt(images, name, 3, seed=1))
    other = corrupt(images, name, 3, seed=2)
    deterministic = {
        "gaussian_blur", "pixelation", "jpeg", "brightness", "contrast", "inversion", "scale"
    }  # fmt: skip
    assert np.array_equal(first, other) == (name in deterministic)


def test_all_severities_have_the_same_random_draws():
    images = items()
    # A square erased with a severity contains those of lower severities.
    erased = [corrupt(images, "occlusion", severity) == 0 for severity in SEVERITIES]
    for smaller, larger in zip(erased, erased[1:], strict=False):
        assert (smaller <= larger).all()
    half = np.full((10, 28, 28, 1), 0.5, np.float32)
    noise = [(corrupt(half, "gaussian_noise", severity) - 0.5) for severity in (1, 2)]
    inside = abs(noise[1]) < 0.4
    np.testing.assert_allclose(2 * noise[0][inside], noise[1][inside], atol=1e-6)
    black = [corrupt(half, "impulse_noise", severity) == 0 for severity in (1, 5)]
    assert (black[0] <= black[1]).all() and black[0].mean() == pytest.approx(0.01, abs=0.005)


def test_geometric_corruptions_move_a_point_as_described():
    images = np.zeros((200, 28, 28, 1), np.float32)
    images[:, 6:8, 13:15] = 1  # 7 pixels above the centre

    def positions(name, severity):
        """Return the distances (row, column) of the points from the centre."""
        corrupted = corrupt(images, name, severity)[..., 0]
        mass = corrupted.sum(axis=(1, 2))
        rows = (corrupted.sum(axis=2) @ (np.arange(28) - 13.5)) / mass
        columns = (corrupted.sum(axis=1) @ (np.arange(28) - 13.5)) / mass
        return {(round(float(row), 1), round(float(column), 1)) for row, column in zip(
            rows, columns, strict=True)}  # fmt: skip

    def near(found, *expected):
        assert len(found) == len(expected)
        np.testing.assert_allclose(sorted(found), sorted(expected), atol=0.2)

    moves = (-3, 0, 3)
    shifted = [(row - 7, column) for row in moves for column in moves if row or column]
    near(positions("shift", 3), *shifted)
    sine, cosine = np.sin(np.radians(30)), np.cos(np.radians(30))
    near(positions("rotation", 4), (-7 * cosine, -7 * sine), (-7 * cosine, 7 * sine))
    near(positions("scale", 5), (-3.5, 0))
    near(positions("shear", 3), (-7, -2.1), (-7, 2.1))


def test_corruptions_of_light_change_pixels_as_described():
    images = items()
    np.testing.assert_allclose(
        corrupt(images, "brightness", 2), np.minimum(images + 0.2, 1), atol=1e-6
    )
    np.testing.assert_allclose(corrupt(images, "inversion", 5), 1 - images)
    reduced = corrupt(images, "contrast", 2)
    np.testing.assert_allclose(reduced.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(reduced.std(axis=(1, 2)), 0.5 * images.std(axis=(1, 2)), atol=1e-5)


def test_blur_and_pixelation_keep_the_mean_and_remove_detail():
    images = np.zeros((40, 28, 28, 1), np.float32)
    images[:, 14, 14] = 1
    for name in ("gaussian_blur", "motion_blur", "pixelation"):
        for severity in SEVERITIES:
            corrupted = corrupt(images, name, severity)
            np.testing.assert_allclose(corrupted.sum(axis=(1, 2)), 1, rtol=0.03)
            assert corrupted.max() < 0.9
    assert len(np.unique(corrupt(images, "motion_blur", 5).round(4), axis=0)) > 4  # directions


def test_an_unknown_name_or_severity_is_an_error():
    with pytest.raises(ValueError, match="unknown corruption 'fog'; choose from gaussian_noise"):
        corrupt(items(1), "fog", 1)
    for severity in (0, 6, 2.5, "1"):
        with pytest.raises(ValueError, match="must be an integer from 1 to 5"):
            corrupt(items(1), "shift", severity)


def test_most_corruptions_do_not_need_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.util", None)
    with pytest.raises(ModuleNotFoundError, match="skimage"):
        corrupt(items(1), "gaussian_noise", 1)
    assert corrupt(items(1), "rotation", 1).max() > 0


def test_every_corruption_has_a_label_a_description_and_five_strengths():
    for kind in CORRUPTIONS.values():
        assert kind.label and "this" in kind.description
        assert len(kind.strengths) == len(set(kind.strengths)) == len(SEVERITIES)
        assert sorted(kind.strengths) in (list(kind.strengths), list(kind.strengths)[::-1])
