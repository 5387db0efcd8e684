import keras
import numpy as np
import pytest
import tensorflow as tf

from fmnist.networks import members_of
from fmnist.training.fast_model import ByteDropout, accelerate, accelerated_network, unused_rows
from model import MODELS, build_model

IMAGES = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)


def test_pooling_before_the_activation_does_not_change_the_output():
    model = build_model("dropout_cnn")
    network = accelerated_network(model, (0, 0), None)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds[:5] == [
        "Cropping2D",
        "PooledConvolution",
        "Activation",
        "PooledConvolution",
        "Activation",
    ]
    np.testing.assert_allclose(
        network.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-6
    )


def test_pooling_stays_after_an_activation_that_is_not_monotone():
    convolution, pooling = keras.layers.Conv2D(4, 3, activation="silu"), keras.layers.MaxPooling2D()
    network = keras.Sequential([keras.Input((28, 28, 1)), convolution, pooling])
    layers = accelerated_network(network, (0, 0), None).layers
    assert layers[-2:] == [convolution, pooling]
    np.testing.assert_allclose(
        accelerated_network(network, (0, 0), None)(IMAGES), network(IMAGES), atol=1e-6
    )


@pytest.mark.parametrize(
    "name, ensemble_size",
    [
        *((name, 1) for name in MODELS if name != "mobilenet"),
        pytest.param("mobilenet", 1, marks=pytest.mark.slow),
        ("deep_cnn", 2),
    ],
)
def test_the_accelerated_model_computes_the_same_function_with_the_same_weights(
    name, ensemble_size
):
    options = {"width": 0.35} if name == "mobilenet" else {"l2": 1e-3}
    model = build_model(name, ensemble_size=ensemble_size, **options)
    for weight in model.weights:
        # Biases and moving averages would be zero or one. Smaller kernels keep the probabilities of
        # deep networks away from 0 and 1, where the loss has no gradient.
        weight.assign(weight + 0.1 if len(weight.shape) == 1 else 0.7 * weight)
    fast_model = accelerate(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    np.testing.assert_allclose(fast_model(IMAGES), model(IMAGES), atol=1e-6)
    assert {id(weight) for weight in fast_model.trainable_weights} == {
        id(weight) for weight in model.trainable_weights
    }
    assert float(sum(fast_model.losses)) == pytest.approx(float(sum(model.losses)))

    labels = np.arange(len(IMAGES)) % 10
    gradients = []
    for network in (model, fast_model):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(labels, network(IMAGES))
            )
        gradients.append(tape.gradient(loss, [weight.value for weight in model.trainable_weights]))
    for expected, gradient in zip(*gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["batchnorm_cnn", "gap_cnn", "resnet"])
def test_batch_normalisation_computes_the_same_outputs_and_moving_averages(name):
    keras.utils.set_random_seed(0)
    model = build_model(name, dropout=0.0)
    fast_model = accelerate(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    # Two equal halves, because each half of a batch is normalised separately.
    images = np.concatenate([IMAGES, IMAGES])
    before, gradients, averages = model.get_weights(), [], []
    for network in (model, fast_model):
        model.set_weights(before)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(images, training=True)[:, 0])
        gradients.append(tape.gradient(loss, [weight.value for weight in model.trainable_weights]))
        averages.append([weight.numpy() for weight in model.non_trainable_weights])
    for expected, gradient in zip(*gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-5)
    for expected, average in zip(*averages, strict=True):
        # The moving averages have changed from their initial values, 0 and 1.
        assert not np.array_equal(expected, np.full_like(expected, round(expected.mean())))
        np.testing.assert_allclose(average, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_an_ensemble_predicts_the_mean_of_its_members_and_trains_them_separately():
    model = build_model("allconv_cnn", ensemble_size=3)
    networks = members_of(model)
    outputs = [network.predict(IMAGES, verbose=0) for network in networks]
    np.testing.assert_allclose(
        model.predict(IMAGES, verbose=0), np.mean(outputs, axis=0), atol=1e-6
    )
    assert np.std(outputs, axis=0).max() > 1e-3
    fast_model = accelerate(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    labels, weights = np.eye(10, dtype=np.float32)[: len(IMAGES)], np.float32([1, 2, 3, 4])
    fast_model.compile("sgd", "categorical_crossentropy", weighted_metrics=["accuracy"])
    losses = [
        np.mean(
            keras.losses.categorical_crossentropy(labels, network(IMAGES, training=True)) * weights
        )
        for network in networks
    ]
    loss = fast_model.train_on_batch(
        *(np.concatenate([half, half]) for half in (IMAGES, labels, weights))
    )[0]
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    loss = np.mean(keras.losses.categorical_crossentropy(labels, model.predict(IMAGES, verbose=0)))
    assert fast_model.evaluate(IMAGES, labels, verbose=0)[0] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_accelerated_model_accepts_batches_of_few_images(count):
    model = build_model("batchnorm_cnn", dropout=0.0)
    fast_model = accelerate(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    np.testing.assert_allclose(fast_model(IMAGES[:count]), model(IMAGES[:count]), atol=1e-6)
    assert fast_model(IMAGES[:count], training=True).shape == (count, 10)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_dropout_differs_between_the_halves_of_a_batch():
    model = build_model("dropout_cnn")
    fast_model = accelerate(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    first, second = fast_model(np.repeat(IMAGES[:1], 2, axis=0), training=True)
    assert not np.array_equal(first, second)


def test_rows_that_pooling_ignores_do_not_affect_the_output():
    unused = {name: unused_rows(build_model(name)) for name in MODELS}
    assert unused == dict.fromkeys(MODELS, 0) | {"dropout_cnn": 2}
    model, changed = build_model("dropout_cnn"), IMAGES.copy()
    changed[:, -2:] = 0
    np.testing.assert_array_equal(
        model.predict(changed, verbose=0), model.predict(IMAGES, verbose=0)
    )
    changed[:, -3] = 0
    assert not np.array_equal(model.predict(changed, verbose=0), model.predict(IMAGES, verbose=0))


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.3, 0.999])
def test_dropout_has_the_given_rate_keeps_the_mean_and_depends_on_seed_and_step(rate):
    values = tf.ones((301, 1001))  # their number is not a multiple of four
    step = keras.Variable(0, dtype="int64", trainable=False)
    dropout, other_seed = ByteDropout(rate, (0, 1), step), ByteDropout(rate, (0, 2), step)
    first = dropout(values, training=True).numpy()
    assert (first == 0).mean() == pytest.approx(rate, abs=0.004)
    assert first.mean() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(first, dropout(values, training=True))
    np.testing.assert_array_equal(values, dropout(values))
    seeded = other_seed(values, training=True).numpy()
    step.assign_add(1)
    later = dropout(values, training=True).numpy()
    if rate == 0.25:  # the masks are independent of each other
        for other in (seeded, later):
            assert ((first == 0) & (other == 0)).mean() == pytest.approx(rate**2, abs=0.004)
