import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import train_cnn
from model import (
    MODELS, ByteDropout, backbone_of, borrowed_weights, build_model, draw_weights, load_backbone, members_of, predictor,
    training_twin, unseen_rows, whiten)

OURS = [name for name in MODELS if name != "mobilenet"]
IMAGES = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)


def test_the_script_offers_every_model():
    assert train_cnn.MODEL_NAMES == tuple(MODELS)


def test_the_default_network_has_the_published_size():
    assert build_model("dropout_cnn").count_params() == 225_034


@pytest.mark.parametrize("name", MODELS)
def test_every_model_returns_probabilities(name):
    model = build_model(name)
    probabilities = model.predict(IMAGES, verbose=0)
    assert probabilities.shape == (4, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", OURS)
def test_dropout_and_l2_do_something_for_every_model(name):
    assert sorted({layer.rate for layer in build_model(name, dropout=0.2).layers
                   if isinstance(layer, keras.layers.Dropout)}) == [0.1, 0.2]
    assert not build_model(name, l2=0.0).losses
    kernels = [layer for layer in build_model(name).layers if hasattr(layer, "kernel") and layer.trainable]
    assert len(build_model(name, l2=0.1).losses) == len(kernels)


def test_pooling_before_the_activation_is_the_same_function():
    fast = build_model("dropout_cnn")
    textbook = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(32, 3, activation="relu"), keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(64, 3, activation="relu"), keras.layers.MaxPooling2D(),
        keras.layers.Dropout(0.25), keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"), keras.layers.Dropout(0.5),
        keras.layers.Dense(10, activation="softmax"),
    ])
    textbook.set_weights(fast.get_weights())
    np.testing.assert_allclose(fast.predict(IMAGES, verbose=0), textbook.predict(IMAGES, verbose=0), atol=1e-6)


@pytest.mark.parametrize("name, members", [*((name, 1) for name in OURS), ("deep_cnn", 2)])
def test_the_predictor_gives_what_predict_gives(name, members):
    model = build_model(name, members=members)
    for weight in model.weights:
        # Before training a deep network's answers hardly differ.
        weight.assign(weight + 0.1 if len(weight.shape) == 1 else weight * 1.5)
    predict = predictor(model)
    expected = model.predict(IMAGES, verbose=0)
    assert expected.std(axis=0).max() > 1e-4  # the images differ
    for image, probabilities in zip(IMAGES, expected):
        np.testing.assert_allclose(predict(image), probabilities, atol=1e-6)


def test_a_network_that_numpy_does_not_know_is_compiled():
    model = build_model("mobilenet", width=0.35)
    for weight in model.layers[3].trainable_weights:
        weight.assign(2 * weight)  # before training its answers hardly differ
    predict, expected = predictor(model), model.predict(IMAGES, verbose=0)
    assert expected.std(axis=0).max() > 1e-4
    for image, probabilities in zip(IMAGES, expected):
        np.testing.assert_allclose(predict(image), probabilities, atol=1e-5)
    np.testing.assert_allclose(training_twin(model, 0, None)(IMAGES), expected, atol=1e-5)
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)


def test_mobilenet_borrows_the_weights_of_a_file(tmp_path):
    source, model = backbone_of(0.35), build_model("mobilenet", width=0.35)
    source.save_weights(tmp_path / "own.weights.h5")
    load_backbone(model, borrowed_weights(0.35, str(tmp_path / "own.weights.h5")))
    for own, borrowed in zip(model.layers[3].weights, source.weights):
        np.testing.assert_array_equal(own, borrowed)

    (tmp_path / "cut.weights.h5").write_bytes((tmp_path / "own.weights.h5").read_bytes()[:5000])
    for width, file in ((0.35, "cut.weights.h5"), (0.5, "own.weights.h5"), (0.35, "missing.h5")):
        with pytest.raises(ValueError, match="cannot be had") as error:
            borrowed_weights(width, str(tmp_path / file))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", OURS)
def test_width_and_batch_norm_do_something_for_every_model(name):
    def kinds(kind, **options):
        return [layer for layer in build_model(name, **options).layers if isinstance(layer, kind) and layer.trainable]

    assert [layer.filters for layer in kinds(keras.layers.Conv2D, width=1.5)] == [
        round(1.5 * layer.filters) for layer in kinds(keras.layers.Conv2D)]
    assert not kinds(keras.layers.BatchNormalization, batch_norm=False)
    assert len(kinds(keras.layers.BatchNormalization, batch_norm=True)) >= len(kinds(keras.layers.Conv2D))


@pytest.mark.parametrize("name, members", [("deep_cnn", 2), ("mobilenet", 1)])
def test_weights_are_drawn_by_the_seed_alone(name, members):
    one, two = (build_model(name, members) for _ in range(2))  # of whatever Python's generator gives
    as_built = one.get_weights()
    draw_weights(one, 5)
    draw_weights(two, 5)
    for first, second, before in zip(one.get_weights(), two.get_weights(), as_built):
        np.testing.assert_array_equal(first, second)
        if first.ndim > 1 and before.std():
            assert not np.array_equal(first, before) and first.std() == pytest.approx(before.std(), rel=0.5)
    drawn = [weight for weight in one.get_weights() if weight.ndim > 1 and weight.std()]
    assert len({weight.tobytes() for weight in drawn}) == len(drawn)
    draw_weights(two, 6)
    assert not np.array_equal(one.get_weights()[-2], two.get_weights()[-2])


def test_what_the_frozen_layer_lets_through_is_white():
    model = build_model("deep_cnn", members=2)
    random = np.random.default_rng(0)
    images = random.random((50, 7, 7, 1), np.float32).repeat(4, axis=1).repeat(4, axis=2)
    images = (images + random.random((50, 28, 28, 1), np.float32)) / 2
    whiten(model, images)
    for member in members_of(model):
        rescaling, layer = member.layers[:2]
        first, second = np.split(np.asarray(layer(rescaling(images)))[:, 1:-1, 1:-1].reshape(-1, 18), 2, axis=1)
        np.testing.assert_allclose(second, -first, atol=1e-5)
        covariance = first.T @ first / len(first)
        np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
        assert np.diag(covariance).max() == pytest.approx(1, abs=0.01) and np.diag(covariance).min() > 0.9
        assert not layer.trainable


def test_gap_cnn_has_as_many_convolutions_as_it_is_told():
    for number in (1, 2, 3, 4):
        model = build_model("gap_cnn", convolutions=number)
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == number
        assert model(IMAGES).shape == (4, 10)


def test_unknown_models_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="resnet.*dropout_cnn, batchnorm_cnn, gap_cnn, lenet_l2"):
        build_model("resnet")


def test_a_saved_model_opens_without_this_project(tmp_path):
    model = build_model("gap_cnn", l2=1e-4)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    subprocess.run([sys.executable, "-I", "-c",
                    "import keras, numpy as np\n"
                    "model = keras.models.load_model('model.keras')\n"
                    "np.save('probabilities.npy', model.predict(np.load('images.npy'), verbose=0))"],
                   cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), model.predict(IMAGES, verbose=0), atol=1e-6)


@pytest.mark.parametrize("name, members", [*((name, 1) for name in OURS), ("deep_cnn", 2)])
def test_the_training_twin_is_the_same_function_of_the_same_weights(name, members):
    model = build_model(name, l2=1e-3, members=members)
    for weight in model.weights:
        if len(weight.shape) == 1:  # biases and averages, which start at zero
            weight.assign(weight + 0.1)
    twin = training_twin(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    np.testing.assert_allclose(twin(IMAGES), model(IMAGES), atol=1e-6)
    assert {id(weight) for weight in twin.trainable_weights} == {id(weight) for weight in model.trainable_weights}
    assert float(sum(twin.losses)) == pytest.approx(float(sum(model.losses)))

    labels = np.arange(len(IMAGES)) % 10
    gradients = []
    for network in (model, twin):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, network(IMAGES)))
        gradients.append(tape.gradient(loss, [weight.value for weight in model.trainable_weights]))
    for expected, gradient in zip(*gradients):
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["batchnorm_cnn", "gap_cnn"])
def test_the_training_twin_normalises_batches_and_keeps_averages_as_the_network_does(name):
    keras.utils.set_random_seed(0)
    model = build_model(name, dropout=0.0)
    twin = training_twin(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    images = np.concatenate([IMAGES, IMAGES])  # each half of a batch is normalised by itself
    before, gradients, averages = model.get_weights(), [], []
    for network in (model, twin):
        model.set_weights(before)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(images, training=True)[:, 0])
        gradients.append(tape.gradient(loss, [weight.value for weight in model.trainable_weights]))
        averages.append([weight.numpy() for weight in model.non_trainable_weights])
    for expected, gradient in zip(*gradients):
        np.testing.assert_allclose(gradient, expected, atol=1e-5)
    for expected, average in zip(*averages):
        assert not np.array_equal(expected, np.full_like(expected, round(expected.mean())))  # neither 0s nor 1s
        np.testing.assert_allclose(average, expected, rtol=1e-6, atol=1e-6)


def test_the_answer_of_several_members_is_their_mean_and_each_learns_by_itself():
    model = build_model("allconv_cnn", members=3)
    networks = members_of(model)
    answers = [network.predict(IMAGES, verbose=0) for network in networks]
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), np.mean(answers, axis=0), atol=1e-6)
    assert np.std(answers, axis=0).max() > 1e-3
    twin = training_twin(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    labels, weights = np.eye(10, dtype=np.float32)[:len(IMAGES)], np.float32([1, 2, 3, 4])
    twin.compile("sgd", "categorical_crossentropy", weighted_metrics=["accuracy"])
    losses = [np.mean(keras.losses.categorical_crossentropy(labels, network(IMAGES, training=True)) * weights)
              for network in networks]
    loss = twin.train_on_batch(*(np.concatenate([half, half]) for half in (IMAGES, labels, weights)))[0]
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    loss = np.mean(keras.losses.categorical_crossentropy(labels, model.predict(IMAGES, verbose=0)))
    assert twin.evaluate(IMAGES, labels, verbose=0)[0] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_training_twin_takes_few_images(count):
    model = build_model("batchnorm_cnn", dropout=0.0)
    twin = training_twin(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    np.testing.assert_allclose(twin(IMAGES[:count]), model(IMAGES[:count]), atol=1e-6)
    assert twin(IMAGES[:count], training=True).shape == (count, 10)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_the_halves_of_a_batch_drop_different_values():
    model = build_model("dropout_cnn")
    twin = training_twin(model, 0, keras.Variable(0, dtype="int64", trainable=False))
    first, second = twin(np.repeat(IMAGES[:1], 2, axis=0), training=True)
    assert not np.array_equal(first, second)


layers = keras.layers
CLASSIFIER = [layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")]
OTHER_NETWORKS = {
    "an activation in a convolution": [layers.Conv2D(4, 3, activation="relu"), *CLASSIFIER],
    "an activation in a dense layer": [layers.Flatten(), layers.Dense(8, "tanh"), layers.Dense(10, "softmax")],
    "groups": [layers.Conv2D(4, 3), layers.Conv2D(4, 3, groups=2), *CLASSIFIER],
    "holes in a kernel": [layers.Conv2D(4, 3, dilation_rate=2), *CLASSIFIER],
    "oblong kernels": [layers.Conv2D(4, (3, 5), padding="same"), *CLASSIFIER],
    "oblong strides": [layers.Conv2D(4, 3, strides=(1, 2)), *CLASSIFIER],
    "oblong pools": [layers.Conv2D(4, 3), layers.MaxPooling2D((2, 3)), *CLASSIFIER],
    "padded pools": [layers.Conv2D(4, 4), layers.MaxPooling2D(2, padding="same"), *CLASSIFIER],
    "no scale": [layers.Conv2D(4, 3), layers.BatchNormalization(scale=False), *CLASSIFIER],
    "normalised rows": [layers.Conv2D(4, 3), layers.BatchNormalization(axis=1), *CLASSIFIER],
    "a network in the network": [keras.Sequential([layers.Conv2D(10, 3), layers.GlobalAveragePooling2D()]), layers.Softmax()],
}


@pytest.mark.parametrize("stack", OTHER_NETWORKS.values(), ids=OTHER_NETWORKS)
def test_the_predictor_answers_for_networks_of_others_too(stack):
    model = keras.models.clone_model(keras.Sequential([keras.Input((28, 28, 1)), *stack]))
    np.testing.assert_allclose(predictor(model)(IMAGES[0]), model.predict(IMAGES[:1], verbose=0)[0], atol=1e-6)


def test_rows_that_pooling_leaves_out_are_not_computed():
    assert [unseen_rows(build_model(name)) for name in MODELS] == [2, 0, 0, 0, 0, 0, 0]
    model, changed = build_model("dropout_cnn"), IMAGES.copy()
    changed[:, -2:] = 0
    np.testing.assert_array_equal(model.predict(changed, verbose=0), model.predict(IMAGES, verbose=0))
    changed[:, -3] = 0
    assert not np.array_equal(model.predict(changed, verbose=0), model.predict(IMAGES, verbose=0))


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.3, 0.999])
def test_dropout_drops_its_share_keeps_the_mean_and_changes_with_seed_and_step(rate):
    values = tf.ones((301, 1001))  # no multiple of four
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
    if rate == 0.25:  # chance alone brings two masks together
        for other in (seeded, later):
            assert ((first == 0) & (other == 0)).mean() == pytest.approx(rate ** 2, abs=0.004)
