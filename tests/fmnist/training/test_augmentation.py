import numpy as np
import tensorflow as tf

from fmnist.training.augmentation import ERASED, SHIFT, augment, like_photo

COUNT = 400
# A single bright pixel left of the centre shows how an image was moved.
IMAGES = np.zeros((COUNT, 28, 28, 1), np.float32)
IMAGES[:, 14, 10] = 1


def positions(kind, seed=(1, 2), epoch=0):
    """Return the position (row, column) of the bright pixel in every augmented image."""
    images = augment(tf.constant(IMAGES), tf.constant(seed), tf.range(COUNT) + epoch, kind).numpy()
    assert images.shape == IMAGES.shape
    assert (images.sum(axis=(1, 2, 3)) == 1).all()
    return np.argwhere(images)[:, 1:3]


def test_images_are_mirrored_in_alternate_epochs_and_half_of_them_in_each_epoch():
    for epoch in range(3):
        rows, columns = positions("flip", epoch=epoch).T
        assert set(rows) == {14}
        np.testing.assert_array_equal(
            columns, np.where((np.arange(COUNT) + epoch) % 2 == 0, 17, 10)
        )


def test_shifts_occur_in_all_directions_up_to_the_limit():
    rows, columns = positions("flip+shift").T
    assert set(rows) == set(range(14 - SHIFT, 14 + SHIFT + 1))
    assert set(columns) == {
        middle + shift for middle in (10, 17) for shift in range(-SHIFT, SHIFT + 1)
    }


def test_the_gap_left_by_a_shift_is_black():
    images = augment(
        tf.ones((50, 28, 28, 1)), tf.constant([0, 0]), tf.range(50), "flip+shift"
    ).numpy()
    for image in images[..., 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert image.sum() == len(rows) * len(columns)
        assert min(len(rows), len(columns)) >= 28 - SHIFT
    assert images.min() == 0


def test_the_augmentation_is_determined_by_the_seed():
    np.testing.assert_array_equal(positions("flip+shift"), positions("flip+shift"))
    assert (positions("flip+shift") != positions("flip+shift", (1, 3))).any()


def test_random_erasing_fills_a_rectangle_with_noise_in_half_of_the_images():
    bright = tf.fill((COUNT, 28, 28, 1), 2.0)
    images = augment(bright, tf.constant([0, 0]), tf.range(COUNT), "flip+shift+erase").numpy()[
        ..., 0
    ]
    noise = (0 < images) & (
        images < 1
    )  # an original pixel is 2, a pixel in the gap of a shift is 0
    unchanged = ~noise.any(axis=(1, 2))
    assert 0.4 < unchanged.mean() < 0.6
    # Every row and every column is erased in at least one image.
    assert noise.any(axis=(0, 1)).all() and noise.any(axis=(0, 2)).all()
    for image, mask in zip(images[~unchanged], noise[~unchanged], strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)
        assert (
            ERASED[0] <= min(len(rows), len(columns)) and max(len(rows), len(columns)) <= ERASED[1]
        )
        assert np.unique(image[mask]).size > 0.9 * mask.sum()


def photographs(images, seed=(1, 2)):
    return augment(tf.constant(images), tf.constant(seed), tf.range(len(images)), "photo").numpy()


def test_half_of_the_images_become_similar_to_photographs():
    images = np.zeros((COUNT, 28, 28, 1), np.float32)
    images[:, 4:24, 10:18] = 0.8
    changed = photographs(images)
    assert changed.shape == images.shape and changed.dtype == np.float32
    assert 0 <= changed.min() and changed.max() <= 1
    is_changed = (changed != images).any(axis=(1, 2, 3))
    assert 0.4 < is_changed.mean() < 0.6
    np.testing.assert_array_equal(changed, photographs(images))
    assert (changed != photographs(images, (1, 3))).any()


def test_the_item_stays_in_the_middle_and_some_parts_are_lost_or_left_over():
    images = np.zeros((COUNT, 28, 28, 1), np.float32)
    images[:, 4:24, 10:18] = 0.8
    changed = like_photo(tf.constant(images), tf.constant([0, 0])).numpy()[..., 0]
    assert (changed[:, 12:16, 12:16].mean(axis=(1, 2)) > 0.1).mean() > 0.9
    lost = (changed[:, 12:16, 12:16] == 0).any(axis=(1, 2)).mean()
    left_over = (changed[:, :2] > 0).any(axis=(1, 2)).mean()
    assert 0.05 < lost < 0.5 and 0.05 < left_over < 0.5
