import keras
import numpy as np
import pytest
import tensorflow as tf

import data
from fmnist.training.data_pruning import EASY_FRACTION, DataPruning
from fmnist.training.fast_model import accelerate
from model import build_model

COUNT = 80
RNG = np.random.default_rng(0)


@pytest.fixture
def pruning():
    """Return data pruning with recorded losses, in which the first images are the easy ones."""
    pruning = DataPruning(COUNT, every=2)
    pruning.record(tf.range(COUNT), tf.range(COUNT, dtype=tf.float32))
    return pruning


def test_hard_images_are_used_in_every_epoch_and_easy_images_in_alternate_epochs(pruning):
    easy = int(EASY_FRACTION * COUNT)
    first, second, third = (
        [array.numpy() for array in pruning.choose(epoch)] for epoch in (4, 5, 6)
    )
    for indices, _, _ in (first, second):
        assert len(set(indices)) == len(indices) == pruning.size == COUNT - easy // 2
        assert set(range(easy, COUNT)) <= set(indices)
    assert set(first[0]) | set(second[0]) == set(range(COUNT))
    # The turn of an image increases by one each time the image is used.
    for (indices, turns, _), (later_indices, later_turns, _), images in (
        (first, second, range(easy, COUNT)),
        (first, third, range(0, easy, 2)),
    ):
        for image in images:
            assert later_turns[later_indices == image] == turns[indices == image] + 1


def test_selected_easy_images_weigh_as_much_as_all_easy_images(pruning):
    indices, _, weights = (array.numpy() for array in pruning.choose(0))
    assert weights.mean() == pytest.approx(1)
    easy_weight = weights[indices < EASY_FRACTION * COUNT].sum()
    assert easy_weight / weights.sum() == pytest.approx(EASY_FRACTION)


def test_only_the_losses_of_the_given_images_are_recorded(pruning):
    pruning.record(tf.constant([3, 1]), tf.constant([30.0, 10.0]))
    assert pruning.losses.numpy()[:5].tolist() == [0, 10, 2, 30, 4]


def test_batches_contain_the_selected_images_with_their_labels_and_weights(pruning):
    part = data.Part(RNG.random((COUNT, 28, 28, 1), np.float32), RNG.integers(0, 10, COUNT))
    stream = tf.Variable([0, 3])
    batches = data.batches(part, 16, shuffle=stream, pruning=pruning)
    assert len(batches) == -(-pruning.size // 16)
    (images, indices), labels, weights = tf.nest.map_structure(
        lambda *parts: np.concatenate(parts), *batches.as_numpy_iterator()
    )
    selected, _, expected = (array.numpy() for array in pruning.choose(3))
    assert sorted(indices) == sorted(selected) and list(indices) != sorted(indices)
    np.testing.assert_array_equal(images, part.images[indices])
    np.testing.assert_array_equal(labels.argmax(axis=1), part.labels[indices])
    np.testing.assert_array_equal(weights[np.argsort(indices)], expected[np.argsort(selected)])


def test_training_records_the_loss_of_every_image():
    part = data.Part(RNG.random((COUNT, 28, 28, 1), np.float32), RNG.integers(0, 10, COUNT))
    pruning = DataPruning(COUNT, every=2)
    model, optimizer = build_model("lenet_l2", dropout=0), keras.optimizers.SGD(0.0)
    fast_model = accelerate(model, 0, optimizer.iterations, pruning)
    fast_model.compile(optimizer, "categorical_crossentropy")
    batches = data.batches(part, 16, shuffle=tf.Variable([0, 0]), pruning=pruning)
    fast_model.fit(batches, verbose=0, shuffle=False)
    probabilities = model.predict(part.images, verbose=0)[np.arange(COUNT), part.labels]
    losses = pruning.losses.numpy()
    used = losses > 0
    assert used.sum() == pruning.size
    np.testing.assert_allclose(losses[used], -np.log(probabilities)[used], rtol=1e-4)
