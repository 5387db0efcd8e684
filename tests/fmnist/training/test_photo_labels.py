import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fmnist.inference.labelled_photos import SHOE, SHOES, Labelled, classes_of
from fmnist.training import photo_labels, shoes


def labelled(senders):
    return [Labelled(None, (0,), str(sender)) for sender in senders]


def test_no_sender_is_on_both_sides():
    rng = np.random.default_rng(0)
    senders = rng.integers(50, size=1000).astype(str)
    for seed in range(5):
        chosen = photo_labels.held_out(labelled(senders), seed)
        assert 0.15 <= chosen.mean() <= photo_labels.HELD_OUT
        assert not {*senders[chosen]} & {*senders[~chosen]}
    first, second = (photo_labels.held_out(labelled(senders), seed) for seed in (0, 1))
    assert (first != second).any()


def test_a_sender_of_most_photographs_is_trained_on():
    senders = np.array(["a"] * 90 + [f"b{index}" for index in range(10)])
    for seed in range(5):
        chosen = photo_labels.held_out(labelled(senders), seed)
        assert chosen.any() and not chosen[:90].any()


def test_rare_labels_count_more():
    targets = np.eye(10)[[0] * 16 + [1] * 4 + [2]]
    weights = photo_labels.balanced(targets)
    assert weights.mean() == pytest.approx(1)
    assert weights[[16, 20]] / weights[0] == pytest.approx([4**0.75, 16**0.75])


def test_the_loss_of_several_classes_is_that_of_their_sum():
    probabilities = np.full((3, 10), 0.05, np.float32)
    probabilities[:, 5], probabilities[:, 7] = 0.3, 0.3
    targets = np.zeros((3, 11), np.float32)
    targets[0, [5, 7]], targets[1, 5], targets[2, 10] = 1, 1, 1
    several, one, outlier = photo_labels.loss(targets, probabilities).numpy()
    smooth = -np.log(probabilities[0]).mean() * photo_labels.SMOOTHING
    assert several == pytest.approx(-0.95 * np.log(0.6) + smooth, abs=1e-4)
    assert one == pytest.approx(-0.95 * np.log(0.3) + smooth, abs=1e-4)
    assert outlier == pytest.approx(-np.log(probabilities[0]).mean(), abs=1e-4)


def test_the_validation_set_is_split_off():
    pictures = [np.full((2, 2, 3), index, np.uint8) for index in range(100)]
    labels = labelled(np.arange(100) // 4)
    train, validation = photo_labels.split(labels, pictures)
    assert len(train[0]) == len(train[1]) == 80 and len(validation[0]) == 20
    for part in (train, validation):
        assert [int(label.sender) for label in part[0]] == [p[0, 0, 0] // 4 for p in part[1]]
    assert not {label.sender for label in train[0]} & {label.sender for label in validation[0]}


def test_the_loss_does_not_depend_on_classes_without_photographs():
    """A bag is not less probable because no photograph shows one."""
    targets = photo_labels.with_unknown(np.eye(10, dtype=np.float32)[[0, 1, 2, 3, 4, 5, 6, 7, 9]])
    assert (targets[:, 8] == -1).all() and (targets[:, :8] >= 0).all()
    targets = np.pad(targets, ((0, 0), (0, 1)))
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(10), len(targets)).astype(np.float32)
    without = np.delete(probabilities, 8, axis=1)
    without /= without.sum(axis=1, keepdims=True)
    expected = -0.95 * np.log((np.delete(targets[:, :10], 8, axis=1) * without).sum(axis=1))
    expected -= 0.05 * np.log(without).mean(axis=1)
    np.testing.assert_allclose(photo_labels.loss(targets, probabilities), expected, atol=2e-3)
    # With a single label, there would be nothing to learn.
    single = np.eye(10, dtype=np.float32)[[8, 8]]
    np.testing.assert_array_equal(photo_labels.with_unknown(single), single)
    weights = tf.Variable(np.zeros((len(targets), 10), np.float32))
    with tf.GradientTape() as tape:
        value = photo_labels.loss(targets, tf.nn.softmax(weights))
    assert abs(tape.gradient(value, weights).numpy()[:, 8]).max() < 1e-6


def test_the_kind_of_a_shoe_is_found_by_the_look_of_the_photograph(monkeypatch):
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (10, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    bits = shoes.average_hash(picture)
    monkeypatch.setattr(shoes, "known", lambda: (np.array([~bits, bits]), ["Sandal", "Sneaker"]))
    shoe = Labelled(None, classes_of(SHOE), "")
    smaller = np.asarray(Image.fromarray(picture).resize((100, 125), Image.Resampling.BILINEAR))
    for other in (picture, smaller, picture // 2 + 60):
        assert shoes.with_kind(shoe, other).classes == classes_of("Sneaker")
    assert shoes.with_kind(shoe, picture[::-1]) == shoe
    bag = Labelled(None, classes_of("Bag"), "")
    assert shoes.with_kind(bag, picture) == bag


def test_the_known_shoes_are_different_photographs_of_all_kinds():
    hashes, labels = shoes.known()
    assert set(labels) == {*SHOES} and hashes.shape == (len(labels), 256)
    different = (hashes[:, None] != hashes).sum(axis=2)
    assert (different + 256 * np.eye(len(labels)) > shoes.MOST_DIFFERENT).all()
