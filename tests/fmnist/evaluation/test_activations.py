from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fmnist import runs
from fmnist.evaluation import activations
from model import MODELS, build_model

RUN = Path("run")
IMAGES = np.random.default_rng(0).random((6, 28, 28, 1), np.float32)


def ensemble():
    return build_model("gap_cnn", 2, width=0.25)


@pytest.mark.parametrize("name", MODELS)
def test_the_inner_outputs_lead_to_the_prediction_of_the_network(name):
    model = build_model(name)
    member = activations.inspected_members(RUN, model)[0]
    outputs = member(IMAGES)
    np.testing.assert_allclose(
        keras.ops.softmax(outputs.logits), model.predict_on_batch(IMAGES), atol=1e-5
    )
    np.testing.assert_allclose(
        outputs.features, member.features.predict_on_batch(IMAGES), atol=1e-4
    )
    assert len(outputs.convolutions) == len(member.convolutions) == len(member.receptive_fields)
    for layer, output in zip(member.convolutions, outputs.convolutions, strict=True):
        if not isinstance(layer, layers.DepthwiseConv2D):
            assert output.shape[-1] == layer.filters
    assert outputs.activation.shape[1] >= activations.MIN_RESOLUTION


def test_the_features_of_an_ensemble_are_those_of_its_members_side_by_side():
    members = activations.inspected_members(RUN, ensemble())
    assert len(members) == 2
    both = activations.features(members, IMAGES)
    alone = [activations.features([member], IMAGES) for member in members]
    np.testing.assert_array_equal(both, np.hstack(alone))
    assert not np.allclose(*alone)


@pytest.mark.parametrize(
    "model, reason",
    [
        (lambda: keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(),
                                   layers.Dense(10, activation="softmax")]), "no convolutions"),
        (lambda: keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(10, 28),
                                   layers.Flatten(), layers.Softmax()]), "not a sequential"),
        (lambda: keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(3, 3),
                                   layers.Flatten(), layers.Dense(10)]), "not a sequential"),
        (lambda: keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(3, 3),
                                   layers.Flatten(), layers.Dense(10, activation="softmax")]),
         "no activation function has 7 × 7 positions or more"),
        (lambda: keras.Sequential([keras.Input((28, 28, 1)),
                                   layers.Conv2D(3, 5, 5, activation="relu"),
                                   layers.Flatten(), layers.Dense(10, activation="softmax")]),
         "no activation function has 7 × 7 positions or more"),
    ],
    ids=["no convolutions", "no dense layer", "no softmax", "no activation", "too coarse"],
)  # fmt: skip
def test_a_network_that_cannot_be_inspected_is_an_error(model, reason):
    with pytest.raises(runs.RunError, match=rf"run/model.keras cannot be inspected: .*{reason}"):
        activations.inspected_members(RUN, model())


def test_a_functional_model_with_branches_is_an_error():
    images = keras.Input((28, 28, 1))
    branches = layers.Add()([layers.Conv2D(2, 3)(images), layers.Conv2D(2, 3)(images)])
    output = layers.Dense(10, activation="softmax")(layers.Flatten()(branches))
    with pytest.raises(runs.RunError, match="not a sequential network"):
        activations.inspected_members(RUN, keras.Model(images, output))


@pytest.mark.parametrize(
    "name",
    [
        *("dropout_cnn", "gap_cnn", "allconv_cnn", "deep_cnn"),
        pytest.param("mobilenet", marks=pytest.mark.slow),
    ],
)
def test_a_position_depends_on_exactly_the_pixels_of_its_receptive_field(name):
    """Maximum pooling and ReLU hide pixels, so the gradients of several images are combined."""
    member = activations.inspected_members(RUN, build_model(name, width=0.5))[0]
    images = tf.constant(np.random.default_rng(1).random((16, 28, 28, 1), np.float32))
    fields = list(enumerate(member.receptive_fields))
    for index, field in fields[:: 7 if name == "mobilenet" else 1]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = member(images).convolutions[index]
            row = column = output.shape[1] // 2
            activation = tf.reduce_sum(output[:, row, column])
        used = np.abs(tape.gradient(activation, images)).max(axis=(0, 3)) > 0
        rows = np.flatnonzero(used.any(axis=1))
        low = field.centre + row * field.step - (field.size - 1) / 2
        assert low == int(low)
        expected = max(low, 0), min(low + field.size, 28) - 1
        if field.size < 8:  # nothing is hidden
            assert (rows[0], rows[-1]) == expected
        assert rows[0] >= expected[0] and rows[-1] <= expected[1]


@pytest.mark.parametrize(
    "network",
    [
        [layers.Conv2D(2, 3, padding="same"), layers.AveragePooling2D(2),
         layers.Conv2D(2, 3, padding="same"), layers.AveragePooling2D(2), layers.Conv2D(2, 3)],
        [layers.Conv2D(2, 3, padding="same"), layers.AveragePooling2D(3, 2, padding="same"),
         layers.Conv2D(2, 3, padding="same"), layers.AveragePooling2D(3, 2), layers.Conv2D(2, 2)],
        [layers.ZeroPadding2D(1), layers.Conv2D(2, 3, 2, "same"), layers.ZeroPadding2D(1),
         layers.DepthwiseConv2D(3, 2), layers.Conv2D(2, 3, padding="same")],
        [layers.Conv2D(2, 5), layers.AveragePooling2D(2), layers.Conv2D(2, 4, 2, "same")],
    ],
)  # fmt: skip
def test_the_receptive_field_is_exact_without_maximum_pooling(network):
    """All kernels are positive, so that every pixel in the field has a gradient."""
    model = keras.Sequential([
        keras.Input((28, 28, 1)), *network, layers.Activation("linear"), layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    for weight in model.weights:
        weight.assign(np.ones(weight.shape))
    fields = activations.receptive_fields(model.layers, 28)
    convolutions = [layer for layer in model.layers if isinstance(layer, activations.CONVOLUTIONS)]
    image = tf.ones((1, 28, 28, 1))
    for layer, field in zip(convolutions, fields, strict=True):
        last = layer.output.shape[1] - 1
        for row, column in ((0, 0), (last // 2, last), (last, last // 3)):
            with tf.GradientTape() as tape:
                tape.watch(image)
                values = image
                for other in model.layers[: model.layers.index(layer) + 1]:
                    values = other(values)
                output = values[0, row, column, 0]
            used = tape.gradient(output, image)[0, ..., 0].numpy() > 0
            for axis, position in ((1, row), (0, column)):
                start = field.centre + position * field.step - (field.size - 1) / 2
                expected = [pixel for pixel in range(28) if start <= pixel < start + field.size]
                assert np.flatnonzero(used.any(axis=axis)).tolist() == expected


def test_the_channels_that_separate_the_classes_are_chosen():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    outputs = rng.normal(size=(60, 4, 4, 5)).astype(np.float32)
    outputs[..., 3] += labels[:, None, None]
    outputs[..., 1] += 5 * labels[:, None, None]
    outputs[..., 4] = 7  # constant
    chosen = activations.discriminating_channels(outputs, labels, 2)
    assert chosen.tolist() == [1, 3]
    assert activations.discriminating_channels(outputs, labels, 9).tolist()[-1] == 4


def test_copies_and_negatives_of_a_channel_are_left_out():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    best = rng.normal(size=(60, 4, 4)) + 5 * labels[:, None, None]
    other = rng.normal(size=(60, 4, 4)) + labels[:, None, None]
    outputs = np.stack([best, -best, 2 * best + 1, other], axis=-1)
    assert activations.discriminating_channels(outputs, labels, 3).tolist() == [0, 3]


def test_the_strongest_patches_are_found_in_all_batches(monkeypatch):
    """The convolution is the identity, so that the strongest positions are the brightest pixels."""
    monkeypatch.setattr(activations, "BATCH", 2)
    model = keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(2, 1, use_bias=False), layers.ReLU(),
        layers.Flatten(), layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.layers[0].kernel.assign([[[[1.0, -1.0]]]])
    images = np.full((5, 28, 28, 1), 0.5, np.float32)
    images[3, 4, 7] = 1.0
    images[1, 20, 2] = 0.9
    images[2, 0, 27] = 0.1
    member = activations.inspected_members(RUN, model)[0]
    patches = activations.strongest_patches(member, images, [np.array([0, 1])], 2)[0]
    assert patches.channels.tolist() == [0, 1]
    assert patches.images[0].tolist() == [3, 1] and patches.images[1, 0] == 2
    assert patches.rows[0].tolist() == [4, 20] and patches.columns[0].tolist() == [7, 2]
    assert (patches.rows[1, 0], patches.columns[1, 0]) == (0, 27)


def test_a_patch_outside_the_image_is_nan():
    image = np.arange(784.0).reshape(28, 28)
    field = activations.ReceptiveField(size=5, step=2, centre=0.0)
    inside = activations.patch(image, field, 5, 6)
    np.testing.assert_array_equal(inside, image[8:13, 10:15])
    corner = activations.patch(image, field, 0, 13)
    assert np.isnan(corner[:2]).all()
    np.testing.assert_array_equal(corner[2:, :4], image[:3, 24:])
    outside = activations.patch(image, field._replace(centre=-10.0), 0, 0)
    assert outside.shape == (5, 5) and np.isnan(outside).all()


def test_a_field_larger_than_the_image_shows_the_pixels_inside_it():
    image = np.arange(784.0).reshape(28, 28)
    field = activations.ReceptiveField(size=31, step=4, centre=3.0)
    shown = activations.patch(image, field, 0, 6)  # rows -12 to 18, columns 12 to 42
    np.testing.assert_array_equal(shown[:19, 12:], image[:19, 12:])
    assert np.isnan(shown[19:]).all() and np.isnan(shown[:, :12]).all()
