import numpy as np
import tensorflow as tf

from fmnist.training.augmentation import ERASED, SHIFT, augment

COUNT = 400
# One bright dot left of the middle tells where an image went.
IMAGES = np.zeros((COUNT, 28, 28, 1), np.float32)
IMAGES[:, 14, 10] = 1


def dots(kind, seed=(1, 2), epoch=0):
    images = augment(tf.constant(IMAGES), tf.constant(seed), tf.range(COUNT) + epoch, kind).numpy()
    assert images.shape == IMAGES.shape
    assert (images.sum(axis=(1, 2, 3)) == 1).all()
    return np.argwhere(images)[:, 1:3]


def test_every_image_is_mirrored_in_every_other_epoch_and_half_of_them_in_each():
    for epoch in range(3):
        rows, columns = dots("flip", epoch=epoch).T
        assert set(rows) == {14}
        np.testing.assert_array_equal(
            columns, np.where((np.arange(COUNT) + epoch) % 2 == 0, 17, 10)
        )


def test_shifts_go_every_way_and_no_further():
    rows, columns = dots("flip+shift").T
    assert set(rows) == set(range(14 - SHIFT, 14 + SHIFT + 1))
    assert set(columns) == {
        middle + shift for middle in (10, 17) for shift in range(-SHIFT, SHIFT + 1)
    }


def test_what_comes_in_from_the_edge_is_black():
    images = augment(
        tf.ones((50, 28, 28, 1)), tf.constant([0, 0]), tf.range(50), "flip+shift"
    ).numpy()
    for image in images[..., 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert image.sum() == len(rows) * len(columns)
        assert min(len(rows), len(columns)) >= 28 - SHIFT
    assert images.min() == 0


def test_the_seed_decides():
    np.testing.assert_array_equal(dots("flip+shift"), dots("flip+shift"))
    assert (dots("flip+shift") != dots("flip+shift", (1, 3))).any()


def test_half_of_the_images_lose_a_rectangle_to_noise():
    bright = tf.fill((COUNT, 28, 28, 1), 2.0)
    images = augment(bright, tf.constant([0, 0]), tf.range(COUNT), "flip+shift+erase").numpy()[
        ..., 0
    ]
    erased = (0 < images) & (images < 1)  # 2 is an image, 0 came in from the edge
    whole = ~erased.any(axis=(1, 2))
    assert 0.4 < whole.mean() < 0.6
    assert erased.any(axis=(0, 1)).all() and erased.any(axis=(0, 2)).all()  # anywhere
    for image, where in zip(images[~whole], erased[~whole], strict=True):
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        assert where.sum() == len(rows) * len(columns)
        assert (
            ERASED[0] <= min(len(rows), len(columns)) and max(len(rows), len(columns)) <= ERASED[1]
        )
        assert np.unique(image[where]).size > 0.9 * where.sum()
