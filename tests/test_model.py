import subprocess
import sys

import keras
import numpy as np
import pytest

import train_cnn
from model import MODELS, build_model

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


@pytest.mark.parametrize("name", MODELS)
def test_dropout_and_l2_do_something_for_every_model(name):
    assert sorted({layer.rate for layer in build_model(name, dropout=0.2).layers
                   if isinstance(layer, keras.layers.Dropout)}) == [0.1, 0.2]
    assert not build_model(name, l2=0.0).losses
    kernels = [layer for layer in build_model(name).layers if hasattr(layer, "kernel")]
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
