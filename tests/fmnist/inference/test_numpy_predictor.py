import keras
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from fmnist.inference import numpy_predictor
from fmnist.inference.numpy_predictor import predictor
from fmnist.training.fast_model import accelerate
from model import MODELS, build_model

SUPPORTED = [name for name in MODELS if name not in ("resnet", "mobilenet")]
IMAGES = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)


@pytest.mark.parametrize(
    "name, ensemble_size", [*((name, 1) for name in SUPPORTED), ("deep_cnn", 2)]
)
def test_the_predictor_agrees_with_model_predict(name, ensemble_size):
    model = build_model(name, ensemble_size=ensemble_size)
    for weight in model.weights:
        # The outputs of an untrained deep network hardly depend on the image.
        weight.assign(weight + 0.1 if len(weight.shape) == 1 else weight * 1.5)
    predict = predictor(model)
    expected = model.predict(IMAGES, verbose=0)
    assert expected.std(axis=0).max() > 1e-4  # the outputs depend on the image
    for image, probabilities in zip(IMAGES, expected, strict=True):
        np.testing.assert_allclose(predict(image), probabilities, atol=1e-6)


@pytest.mark.slow
def test_a_network_with_unsupported_layers_is_compiled():
    model = build_model("mobilenet", width=0.35)
    for weight in model.layers[3].trainable_weights:
        weight.assign(2 * weight)  # otherwise the outputs hardly depend on the image
    predict, expected = predictor(model), model.predict(IMAGES, verbose=0)
    assert expected.std(axis=0).max() > 1e-4
    for image, probabilities in zip(IMAGES, expected, strict=True):
        np.testing.assert_allclose(predict(image), probabilities, atol=1e-5)
    np.testing.assert_allclose(accelerate(model, 0, None)(IMAGES), expected, atol=1e-5)
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)


layers = keras.layers
CLASSIFIER = [layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")]
OTHER_NETWORKS = {
    "activation in a convolution": [layers.Conv2D(4, 3, activation="relu"), *CLASSIFIER],
    "activation in a dense layer": [
        layers.Flatten(),
        layers.Dense(8, "tanh"),
        layers.Dense(10, "softmax"),
    ],
    "groups": [layers.Conv2D(4, 3), layers.Conv2D(4, 3, groups=2), *CLASSIFIER],
    "dilated kernel": [layers.Conv2D(4, 3, dilation_rate=2), *CLASSIFIER],
    "rectangular kernel": [layers.Conv2D(4, (3, 5), padding="same"), *CLASSIFIER],
    "different strides": [layers.Conv2D(4, 3, strides=(1, 2)), *CLASSIFIER],
    "rectangular pools": [layers.Conv2D(4, 3), layers.MaxPooling2D((2, 3)), *CLASSIFIER],
    "padded pools": [layers.Conv2D(4, 4), layers.MaxPooling2D(2, padding="same"), *CLASSIFIER],
    "batch normalisation without scale": [
        layers.Conv2D(4, 3),
        layers.BatchNormalization(scale=False),
        *CLASSIFIER,
    ],
    "batch normalisation of another axis": [
        layers.Conv2D(4, 3),
        layers.BatchNormalization(axis=1),
        *CLASSIFIER,
    ],
    "nested network": [
        keras.Sequential([layers.Conv2D(10, 3), layers.GlobalAveragePooling2D()]),
        layers.Softmax(),
    ],
}


@pytest.mark.parametrize("network", OTHER_NETWORKS.values(), ids=OTHER_NETWORKS)
def test_the_predictor_supports_networks_with_other_options(network):
    model = keras.models.clone_model(keras.Sequential([keras.Input((28, 28, 1)), *network]))
    np.testing.assert_allclose(
        predictor(model)(IMAGES[0]), model.predict(IMAGES[:1], verbose=0)[0], atol=1e-6
    )


def blas_threads():
    return [
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    ]


def test_matrix_products_use_one_thread_and_the_setting_is_restored(monkeypatch):
    counts = []

    def softmax(values):
        counts.append(blas_threads())
        if len(counts) > 1:
            raise MemoryError
        return values

    monkeypatch.setattr(numpy_predictor, "softmax", softmax)
    predict = predictor(build_model("lenet_l2"))
    with threadpool_limits(3, "blas"):
        before = blas_threads()
        predict(IMAGES[0])
        assert blas_threads() == before
        with pytest.raises(MemoryError):
            predict(IMAGES[0])
        assert blas_threads() == before
    assert counts == [[1] * len(before)] * 2
