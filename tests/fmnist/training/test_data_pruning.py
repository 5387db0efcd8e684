import keras
import numpy as np
import pytest
import tensorflow as tf

import data
from fmnist.training.data_pruning import EASY, Focus
from model import build_model, training_twin

COUNT = 80
RNG = np.random.default_rng(0)


@pytest.fixture
def focus():
    """One that knows losses: the first EASY images are the easy ones."""
    focus = Focus(COUNT, easy_every=2)
    focus.note(tf.range(COUNT), tf.range(COUNT, dtype=tf.float32))
    return focus


def test_hard_images_train_in_every_epoch_and_easy_ones_in_turn(focus):
    easy = int(EASY * COUNT)
    first, second, third = ([array.numpy() for array in focus.choose(epoch)] for epoch in (4, 5, 6))
    for numbers, _, _ in (first, second):
        assert len(set(numbers)) == len(numbers) == focus.size == COUNT - easy // 2
        assert set(range(easy, COUNT)) <= set(numbers)
    assert set(first[0]) | set(second[0]) == set(range(COUNT))
    for (numbers, turns, _), (later_numbers, later_turns, _), images in (
            (first, second, range(easy, COUNT)), (first, third, range(0, easy, 2))):
        for image in images:  # the next time it is the next turn
            assert later_turns[later_numbers == image] == turns[numbers == image] + 1


def test_weights_make_up_for_the_easy_images_that_are_not_there(focus):
    numbers, _, weights = (array.numpy() for array in focus.choose(0))
    assert weights.mean() == pytest.approx(1)
    assert weights[numbers < EASY * COUNT].sum() / weights.sum() == pytest.approx(EASY)


def test_only_the_losses_of_these_images_are_noted(focus):
    focus.note(tf.constant([3, 1]), tf.constant([30.0, 10.0]))
    assert focus.losses.numpy()[:5].tolist() == [0, 10, 2, 30, 4]


def test_the_batches_of_a_focus_are_its_images_with_their_labels_and_weights(focus):
    part = data.Part(RNG.random((COUNT, 28, 28, 1), np.float32), RNG.integers(0, 10, COUNT))
    stream = tf.Variable([0, 3])
    batches = data.batches(part, 16, shuffle=stream, focus=focus)
    assert len(batches) == -(-focus.size // 16)
    (images, numbers), labels, weights = (
        tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches.as_numpy_iterator()))
    wanted, _, wanted_weights = (array.numpy() for array in focus.choose(3))
    assert sorted(numbers) == sorted(wanted) and list(numbers) != sorted(numbers)
    np.testing.assert_array_equal(images, part.images[numbers])
    np.testing.assert_array_equal(labels.argmax(axis=1), part.labels[numbers])
    np.testing.assert_array_equal(weights[np.argsort(numbers)], wanted_weights[np.argsort(wanted)])


def test_training_notes_every_image_s_loss():
    part = data.Part(RNG.random((COUNT, 28, 28, 1), np.float32), RNG.integers(0, 10, COUNT))
    focus = Focus(COUNT, easy_every=2)
    model, optimizer = build_model("lenet_l2", dropout=0), keras.optimizers.SGD(0.0)
    twin = training_twin(model, 0, optimizer.iterations, focus)
    twin.compile(optimizer, "categorical_crossentropy")
    batches = data.batches(part, 16, shuffle=tf.Variable([0, 0]), focus=focus)
    twin.fit(batches, verbose=0, shuffle=False)
    probabilities = model.predict(part.images, verbose=0)[np.arange(COUNT), part.labels]
    known = focus.losses.numpy()
    assert (known > 0).sum() == focus.size
    np.testing.assert_allclose(known[known > 0], -np.log(probabilities)[known > 0], rtol=1e-4)
