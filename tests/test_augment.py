import numpy as np
import tensorflow as tf

from augment import SHIFT, augment

COUNT = 400
# One bright dot left of the middle tells where an image went.
IMAGES = np.zeros((COUNT, 28, 28, 1), np.float32)
IMAGES[:, 14, 10] = 1


def dots(kind, seed=(1, 2)):
    images = augment(tf.constant(IMAGES), tf.constant(seed), kind).numpy()
    assert images.shape == IMAGES.shape
    assert (images.sum(axis=(1, 2, 3)) == 1).all()
    return np.argwhere(images)[:, 1:3]


def test_about_half_of_the_images_are_mirrored():
    rows, columns = dots("flip").T
    assert set(rows) == {14} and set(columns) == {10, 17}
    assert 0.4 < np.mean(columns == 17) < 0.6


def test_shifts_go_every_way_and_no_further():
    rows, columns = dots("flip+shift").T
    assert set(rows) == set(range(14 - SHIFT, 14 + SHIFT + 1))
    assert set(columns) == {middle + shift for middle in (10, 17) for shift in range(-SHIFT, SHIFT + 1)}


def test_what_comes_in_from_the_edge_is_black():
    images = augment(tf.ones((50, 28, 28, 1)), tf.constant([0, 0]), "flip+shift").numpy()
    for image in images[..., 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert image.sum() == len(rows) * len(columns)
        assert min(len(rows), len(columns)) >= 28 - SHIFT
    assert images.min() == 0


def test_the_seed_decides():
    np.testing.assert_array_equal(dots("flip+shift"), dots("flip+shift"))
    assert (dots("flip+shift") != dots("flip+shift", (1, 3))).any()
