import keras
import numpy as np
import pytest
import tensorflow as tf

import data
from fmnist.training.data_pruning import EASY_SHARE, DataPruning
from fmnist.training.fast_model import accelerate
from model import build_model

COUNT = 80
RNG = np.random.default_rng(0)


@pytest.fixture
def pruning():
    """One that knows losses: the first EASY_SHARE of the images are the easy ones."""
    pruning = DataPruning(COUNT, every=2)
    pruning.record(tf.range(COUNT), tf.range(COUNT, dtype=tf.float32))
    return pruning


def test_hard_images_train_in_every_epoch_and_easy_ones_in_turn(pruning):
    easy = int(EASY_SHARE * COUNT)
    first, second, third = (
        [array.numpy() for array in pruning.choose(epoch)] for epoch in (4, 5, 6)
    )
    for numbers, _, _ in (first, second):
        assert len(set(numbers)) == len(numbers) == pruning.size == COUNT - easy // 2
        assert set(range(easy, COUNT)) <= set(numbers)
    assert set(first[0]) | set(second[0]) == set(range(COUNT))
    for (numbers, turns, _), (later_numbers, later_turns, _), images in (
        (first, second, range(easy, COUNT)),
        (first, third, range(0, easy, 2)),
    ):
        for image in images:  # the next time it is the next turn
            assert later_turns[later_numbers == image] == turns[numbers == image] + 1


def test_weights_make_up_for_the_easy_images_that_are_not_there(pruning):
    numbers, _, weights = (array.numpy() for array in pruning.choose(0))
    assert weights.mean() == pytest.approx(1)
    assert weights[numbers < EASY_SHARE * COUNT].sum() / weights.sum() == pytest.approx(EASY_SHARE)


def test_only_the_losses_of_these_images_are_noted(pruning):
    pruning.record(tf.constant([3, 1]), tf.constant([30.0, 10.0]))
    assert pruning.losses.numpy()[:5].tolist() == [0, 10, 2, 30, 4]


def test_the_batches_of_pruned_data_are_its_images_with_their_labels_and_weights(pruning):
    part = data.Part(RNG.random((COUNT, 28, 28, 1), np.float32), RNG.integers(0, 10, COUNT))
    stream = tf.Variable([0, 3])
    batches = data.batches(part, 16, shuffle=stream, pruning=pruning)
    assert len(batches) == -(-pruning.size // 16)
    (images, numbers), labels, weights = tf.nest.map_structure(
        lambda *parts: np.concatenate(parts), *batches.as_numpy_iterator()
    )
    wanted, _, wanted_weights = (array.numpy() for array in pruning.choose(3))
    assert sorted(numbers) == sorted(wanted) and list(numbers) != sorted(numbers)
    np.testing.assert_array_equal(images, part.images[numbers])
    np.testing.assert_array_equal(labels.argmax(axis=1), part.labels[numbers])
    np.testing.assert_array_equal(weights[np.argsort(numbers)], wanted_weights[np.argsort(wanted)])


def test_training_notes_every_image_s_loss():
    part = data.Part(RNG.random((COUNT, 28, 28, 1), np.float32), RNG.integers(0, 10, COUNT))
    pruning = DataPruning(COUNT, every=2)
    model, optimizer = build_model("lenet_l2", dropout=0), keras.optimizers.SGD(0.0)
    fast_model = accelerate(model, 0, optimizer.iterations, pruning)
    fast_model.compile(optimizer, "categorical_crossentropy")
    batches = data.batches(part, 16, shuffle=tf.Variable([0, 0]), pruning=pruning)
    fast_model.fit(batches, verbose=0, shuffle=False)
    probabilities = model.predict(part.images, verbose=0)[np.arange(COUNT), part.labels]
    known = pruning.losses.numpy()
    assert (known > 0).sum() == pruning.size
    np.testing.assert_allclose(known[known > 0], -np.log(probabilities)[known > 0], rtol=1e-4)
