"""Open saved networks with plain Keras, in a process that cannot import this project."""

import subprocess

import keras
import numpy as np

from fmnist import model_file, runs
from model import MODELS, build_model
from tests import ROOT

IMAGES = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
# Warnings become errors only after the imports, because TensorFlow itself causes some.
OPEN = """
import sys, warnings
import keras, numpy
warnings.simplefilter("error")
images = numpy.load("images.npy")
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    numpy.save(path + ".npy", model.predict(images, verbose=0))
    model.evaluate(images, numpy.eye(10)[:4], verbose=0)
"""


def networks():
    """Return a network of every kind, by name, compiled as train_cnn.py does."""
    found = {name: build_model(name) for name in MODELS}
    found["ensemble"] = build_model("deep_cnn", 2)
    found["batch_norm"] = build_model("dropout_cnn", l2=1e-4, batch_norm=True)
    for model in found.values():
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
        model.compile("sgd", loss, metrics=["accuracy"], auto_scale_loss=False)
    return found


def check_that_plain_keras_opens_them(python, folder, names=None):
    """Save networks, open them with another Python, and compare the class probabilities.

    Args:
        python: path of the other Python, which has Keras.
        folder: empty folder.
        names: names of networks(); None for all.
    """
    np.save(folder / "images.npy", IMAGES)
    models = {name: model for name, model in networks().items() if names is None or name in names}
    for name, model in models.items():
        model_file.save(model, folder / f"{name}.keras")
    best = ROOT / "pretrained/best"
    models["best"] = runs.load_model(best)
    (folder / "best.keras").write_bytes((best / runs.MODEL).read_bytes())
    files = [f"{name}.keras" for name in models]
    done = subprocess.run(
        [python, "-I", "-c", OPEN, *files], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, model in models.items():
        np.testing.assert_allclose(
            np.load(folder / f"{name}.keras.npy"),
            model.predict(IMAGES, verbose=0),
            atol=1e-5,
            err_msg=name,
        )
