import keras
import numpy as np
import pytest

from fmnist.inference.numpy_predictor import predictor
from fmnist.training.fast_model import accelerate
from model import MODELS, build_model

OURS = [name for name in MODELS if name != "mobilenet"]
IMAGES = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)


@pytest.mark.parametrize("name, ensemble_size", [*((name, 1) for name in OURS), ("deep_cnn", 2)])
def test_the_predictor_gives_what_predict_gives(name, ensemble_size):
    model = build_model(name, ensemble_size=ensemble_size)
    for weight in model.weights:
        # Before training a deep network's answers hardly differ.
        weight.assign(weight + 0.1 if len(weight.shape) == 1 else weight * 1.5)
    predict = predictor(model)
    expected = model.predict(IMAGES, verbose=0)
    assert expected.std(axis=0).max() > 1e-4  # the images differ
    for image, probabilities in zip(IMAGES, expected, strict=True):
        np.testing.assert_allclose(predict(image), probabilities, atol=1e-6)


@pytest.mark.slow
def test_a_network_that_numpy_does_not_know_is_compiled():
    model = build_model("mobilenet", width=0.35)
    for weight in model.layers[3].trainable_weights:
        weight.assign(2 * weight)  # before training its answers hardly differ
    predict, expected = predictor(model), model.predict(IMAGES, verbose=0)
    assert expected.std(axis=0).max() > 1e-4
    for image, probabilities in zip(IMAGES, expected, strict=True):
        np.testing.assert_allclose(predict(image), probabilities, atol=1e-5)
    np.testing.assert_allclose(accelerate(model, 0, None)(IMAGES), expected, atol=1e-5)
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)


layers = keras.layers
CLASSIFIER = [layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")]
OTHER_NETWORKS = {
    "an activation in a convolution": [layers.Conv2D(4, 3, activation="relu"), *CLASSIFIER],
    "an activation in a dense layer": [
        layers.Flatten(),
        layers.Dense(8, "tanh"),
        layers.Dense(10, "softmax"),
    ],
    "groups": [layers.Conv2D(4, 3), layers.Conv2D(4, 3, groups=2), *CLASSIFIER],
    "holes in a kernel": [layers.Conv2D(4, 3, dilation_rate=2), *CLASSIFIER],
    "oblong kernels": [layers.Conv2D(4, (3, 5), padding="same"), *CLASSIFIER],
    "oblong strides": [layers.Conv2D(4, 3, strides=(1, 2)), *CLASSIFIER],
    "oblong pools": [layers.Conv2D(4, 3), layers.MaxPooling2D((2, 3)), *CLASSIFIER],
    "padded pools": [layers.Conv2D(4, 4), layers.MaxPooling2D(2, padding="same"), *CLASSIFIER],
    "no scale": [layers.Conv2D(4, 3), layers.BatchNormalization(scale=False), *CLASSIFIER],
    "normalised rows": [layers.Conv2D(4, 3), layers.BatchNormalization(axis=1), *CLASSIFIER],
    "a network in the network": [
        keras.Sequential([layers.Conv2D(10, 3), layers.GlobalAveragePooling2D()]),
        layers.Softmax(),
    ],
}


@pytest.mark.parametrize("stack", OTHER_NETWORKS.values(), ids=OTHER_NETWORKS)
def test_the_predictor_answers_for_networks_of_others_too(stack):
    model = keras.models.clone_model(keras.Sequential([keras.Input((28, 28, 1)), *stack]))
    np.testing.assert_allclose(
        predictor(model)(IMAGES[0]), model.predict(IMAGES[:1], verbose=0)[0], atol=1e-6
    )
