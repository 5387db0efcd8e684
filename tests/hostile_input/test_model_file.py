"""model.keras of a run, spoilt, or of something else, or with code in it."""

import gzip
import io
import json
import os
import zipfile

import h5py
import keras
import numpy as np

from tests.hostile_input.cases import evaluate_finished, run_file_cases
from tests.hostile_input.files import (
    ANY_FILE,
    cut_at_its_end,
    flipped,
    packed_as_zip,
)
from tests.hostile_input.refusal import test_it_is_refused  # noqa: F401
from tests.hostile_input.test_config_file import INFINITY, NAN


def archive_is(**changes):
    """changes: a function of `config` (config.json, parsed), of `weights` (an h5py.File), or what
    either is instead; None for nothing.
    """
    names = {"config": "config.json", "weights": "model.weights.h5"}

    def spoil(path):
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        for word, change in changes.items():
            name = names[word]
            if change is None:
                del contents[name]
            elif isinstance(change, bytes):
                contents[name] = change
            elif word == "weights":
                file = io.BytesIO(contents[name])
                with h5py.File(file, "r+") as weights:
                    change(weights)
                contents[name] = file.getvalue()
            else:
                contents[name] = json.dumps(change(json.loads(contents[name]))).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)

    return spoil


def first_layer(change):
    """Return a way to change the first layer's entry in the archive's config.json, behind the
    input.
    """

    def of_config(config):
        config["config"]["layers"][1] = change(config["config"]["layers"][1])
        return config

    return archive_is(config=of_config)


def weights_are(change):
    """change: of the first kernel's values."""

    def of_file(weights):
        group = weights["layers/conv2d/vars"]
        values = change(group["0"][:])
        del group["0"]
        group["0"] = values

    return archive_is(weights=of_file)


def lose_a_layer(weights):
    del weights["layers/conv2d"]


def model_is(make):
    """make: returns a Keras model."""

    def spoil(path):
        make().save(path)

    return spoil


def small(*layers, shape=(28, 28, 1)):
    return lambda: keras.Sequential([keras.Input(shape), *layers])


def harm(_):
    """The config of an object whose making would leave a folder behind."""
    return {
        "module": "os",
        "class_name": "mkdir",
        "registered_name": None,
        "config": {"path": os.path.join(os.environ["KERAS_HOME"], "harm")},
    }


def a_lambda():
    folder = os.path.join(os.environ["KERAS_HOME"], "harm")
    model = small(
        keras.layers.Lambda(lambda images: __import__("os").mkdir(folder) or images),
        keras.layers.Flatten(),
        keras.layers.Dense(10, "softmax"),
    )()
    os.rmdir(folder)  # the making of the model has called it
    return model


def fails_on_images():
    """Looks bright pixels up in a table of two rows."""
    return small(
        keras.layers.Rescaling(1000),
        keras.layers.Flatten(),
        keras.layers.Embedding(2, 10),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Softmax(),
    )()


def object_is(class_name, module):
    return archive_is(
        config=lambda config: {
            "module": module,
            "class_name": class_name,
            "config": {},
            "registered_name": None,
        }
    )


def hdf5_file(path):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["weights"] = np.zeros(3)
    os.replace(path.with_suffix(".h5"), path)


def two_outputs():
    images = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, [keras.layers.Dense(10)(flat), keras.layers.Dense(10)(flat)])


MODEL_WAYS = {
    "cut_at_its_end": cut_at_its_end,
    "a bit flipped": lambda path: path.write_bytes(
        flipped(path.read_bytes(), path.stat().st_size // 2)
    ),
    "HDF5": hdf5_file,
    "a zip of something else": lambda path: path.write_bytes(
        packed_as_zip(gzip.compress(b"content"))
    ),
    "no config.json": archive_is(config=None),
    "no weights": archive_is(weights=None),
    "an empty config.json": archive_is(config=b""),
    "a config.json that is a list": archive_is(config=b"[]"),
    "a config.json of nothing": archive_is(config=b"{}"),
    "no layers": archive_is(config=lambda config: config | {"config": {}}),
    "weights that are no HDF5": archive_is(weights=b"weights"),
    "empty weights": archive_is(weights=b""),
    "a layer's weights missing": archive_is(weights=lose_a_layer),
    "weights of another shape": weights_are(lambda values: values[..., :3]),
    "weights of text": weights_are(lambda values: "weights"),
    "weights that are no numbers": weights_are(lambda values: values * NAN),
    "weights that are infinite": weights_are(lambda values: values * INFINITY),
    "a layer of unknown class": first_layer(lambda layer: layer | {"class_name": "Conv5D"}),
    "a layer with an unknown setting": first_layer(
        lambda layer: layer | {"config": layer["config"] | {"mixup": 0.2}}
    ),
    "a layer with a setting of the wrong type": first_layer(
        lambda layer: layer | {"config": layer["config"] | {"filters": "many"}}
    ),
    "a layer that is a text": first_layer(lambda layer: "Conv2D"),
    "a layer of another module": first_layer(
        lambda layer: layer | {"module": "antigravity", "registered_name": None}
    ),
    "a function of another module as a layer": first_layer(harm),
    "a function of another module as a setting": first_layer(
        lambda layer: layer | {"config": layer["config"] | {"activation": harm(None)}}
    ),
    "a Lambda layer": model_is(a_lambda),
    "a TensorFlow graph as a layer": first_layer(
        lambda layer: {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "registered_name": None,
            "config": {"filepath": "/tmp", "call_endpoint": "serve", "name": "graph"},
        }
    ),
    "a PyTorch module as a layer": first_layer(
        lambda layer: {
            "module": "keras.layers",
            "class_name": "TorchModuleWrapper",
            "registered_name": None,
            "config": {"module": "cGlja2xl", "name": "torch"},
        }
    ),
    "an optimizer of another module": archive_is(
        config=lambda config: config | {"compile_config": {"optimizer": harm(None), "loss": "mse"}}
    ),
    "other images": model_is(
        small(keras.layers.Flatten(), keras.layers.Dense(10, "softmax"), shape=(32, 32, 3))
    ),
    "other classes": model_is(small(keras.layers.Flatten(), keras.layers.Dense(7, "softmax"))),
    "no fixed shape": model_is(
        small(
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, "softmax"),
            shape=(None, None, 1),
        )
    ),
    "two outputs": model_is(two_outputs),
    "a loss": object_is("MeanSquaredError", "keras.losses"),
    "an optimizer": object_is("Adam", "keras.optimizers"),
    "a layer": object_is("Softmax", "keras.layers"),
    "one that fails on images": model_is(fails_on_images),
    "no probabilities": model_is(small(keras.layers.Flatten(), keras.layers.Dense(10))),
}


def model_cases():
    ways = {spoil.__name__: spoil for spoil in ANY_FILE} | MODEL_WAYS
    yield from run_file_cases("model.keras", ways, {"finished": evaluate_finished})


CASES = [*model_cases()]
