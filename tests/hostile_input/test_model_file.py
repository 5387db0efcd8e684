"""Hostile inputs: model.keras of a run, corrupt, of another network, or with malicious code."""

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
    FILE_CORRUPTIONS,
    repacked_as_zip,
    truncated_at_the_end,
    with_flipped_bit,
)
from tests.hostile_input.rejection import test_the_input_is_rejected  # noqa: F401
from tests.hostile_input.test_config_file import INFINITY, NAN


def change_archive(**changes):
    """Return a function that changes files in the zip archive model.keras.

    Args:
        changes: `config` changes config.json, `weights` changes model.weights.h5. A value is a
            function (of the parsed JSON or of an h5py.File), the new content as bytes, or None,
            which removes the file.
    """
    names = {"config": "config.json", "weights": "model.weights.h5"}

    def corrupt(path):
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

    return corrupt


def change_first_layer(change):
    """Return a function that changes the first layer after the input in config.json."""

    def change_config(config):
        config["config"]["layers"][1] = change(config["config"]["layers"][1])
        return config

    return change_archive(config=change_config)


def change_weights(change):
    """Return a function that changes the values of the first kernel."""

    def change_kernel(weights):
        group = weights["layers/conv2d/vars"]
        values = change(group["0"][:])
        del group["0"]
        group["0"] = values

    return change_archive(weights=change_kernel)


def delete_layer_weights(weights):
    del weights["layers/conv2d"]


def replace_model(make):
    """Return a function that replaces the model. make: returns a Keras model."""

    def corrupt(path):
        make().save(path)

    return corrupt


def small_model(*layers, shape=(28, 28, 1)):
    return lambda: keras.Sequential([keras.Input(shape), *layers])


def malicious_object(_):
    """Return the config of an object that creates a folder when Keras instantiates it."""
    return {
        "module": "os",
        "class_name": "mkdir",
        "registered_name": None,
        "config": {"path": os.path.join(os.environ["KERAS_HOME"], "malicious")},
    }


def malicious_lambda():
    folder = os.path.join(os.environ["KERAS_HOME"], "malicious")
    model = small_model(
        keras.layers.Lambda(lambda images: __import__("os").mkdir(folder) or images),
        keras.layers.Flatten(),
        keras.layers.Dense(10, "softmax"),
    )()
    os.rmdir(folder)  # Keras has called the function to infer the output shape
    return model


def failing_model():
    """Return a model with an embedding of two rows, which fails for bright pixels."""
    return small_model(
        keras.layers.Rescaling(1000),
        keras.layers.Flatten(),
        keras.layers.Embedding(2, 10),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Softmax(),
    )()


def replace_by_object(class_name, module):
    return change_archive(
        config=lambda config: {
            "module": module,
            "class_name": class_name,
            "config": {},
            "registered_name": None,
        }
    )


def replace_by_hdf5(path):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["weights"] = np.zeros(3)
    os.replace(path.with_suffix(".h5"), path)


def model_with_two_outputs():
    images = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, [keras.layers.Dense(10)(flat), keras.layers.Dense(10)(flat)])


MODEL_CORRUPTIONS = {
    "truncated_at_the_end": truncated_at_the_end,
    "a bit flipped": lambda path: path.write_bytes(
        with_flipped_bit(path.read_bytes(), path.stat().st_size // 2)
    ),
    "an HDF5 file": replace_by_hdf5,
    "another zip archive": lambda path: path.write_bytes(
        repacked_as_zip(gzip.compress(b"content"))
    ),
    "no config.json": change_archive(config=None),
    "no weights": change_archive(weights=None),
    "an empty config.json": change_archive(config=b""),
    "a config.json that is a list": change_archive(config=b"[]"),
    "an empty object in config.json": change_archive(config=b"{}"),
    "no layers": change_archive(config=lambda config: config | {"config": {}}),
    "weights that are not HDF5": change_archive(weights=b"weights"),
    "empty weights": change_archive(weights=b""),
    "a layer's weights missing": change_archive(weights=delete_layer_weights),
    "weights of another shape": change_weights(lambda values: values[..., :3]),
    "weights that are text": change_weights(lambda values: "weights"),
    "weights that are NaN": change_weights(lambda values: values * NAN),
    "weights that are infinite": change_weights(lambda values: values * INFINITY),
    "a layer of unknown class": change_first_layer(lambda layer: layer | {"class_name": "Conv5D"}),
    "a layer with an unknown setting": change_first_layer(
        lambda layer: layer | {"config": layer["config"] | {"mixup": 0.2}}
    ),
    "a layer with a setting of the wrong type": change_first_layer(
        lambda layer: layer | {"config": layer["config"] | {"filters": "many"}}
    ),
    "a layer that is a text": change_first_layer(lambda layer: "Conv2D"),
    "a layer of another module": change_first_layer(
        lambda layer: layer | {"module": "antigravity", "registered_name": None}
    ),
    "a function of another module as a layer": change_first_layer(malicious_object),
    "a function of another module as a setting": change_first_layer(
        lambda layer: layer | {"config": layer["config"] | {"activation": malicious_object(None)}}
    ),
    "a Lambda layer": replace_model(malicious_lambda),
    "a TensorFlow graph as a layer": change_first_layer(
        lambda layer: {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "registered_name": None,
            "config": {"filepath": "/tmp", "call_endpoint": "serve", "name": "graph"},
        }
    ),
    "a PyTorch module as a layer": change_first_layer(
        lambda layer: {
            "module": "keras.layers",
            "class_name": "TorchModuleWrapper",
            "registered_name": None,
            "config": {"module": "cGlja2xl", "name": "torch"},
        }
    ),
    "an optimizer of another module": change_archive(
        config=lambda config: (
            config | {"compile_config": {"optimizer": malicious_object(None), "loss": "mse"}}
        )
    ),
    "another input shape": replace_model(
        small_model(keras.layers.Flatten(), keras.layers.Dense(10, "softmax"), shape=(32, 32, 3))
    ),
    "another number of classes": replace_model(
        small_model(keras.layers.Flatten(), keras.layers.Dense(7, "softmax"))
    ),
    "no fixed input shape": replace_model(
        small_model(
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, "softmax"),
            shape=(None, None, 1),
        )
    ),
    "two outputs": replace_model(model_with_two_outputs),
    "a loss instead of a model": replace_by_object("MeanSquaredError", "keras.losses"),
    "an optimizer instead of a model": replace_by_object("Adam", "keras.optimizers"),
    "a layer instead of a model": replace_by_object("Softmax", "keras.layers"),
    "a model that fails on images": replace_model(failing_model),
    "an output without softmax": replace_model(
        small_model(keras.layers.Flatten(), keras.layers.Dense(10))
    ),
}


def model_cases():
    corruptions = {corrupt.__name__: corrupt for corrupt in FILE_CORRUPTIONS} | MODEL_CORRUPTIONS
    yield from run_file_cases("model.keras", corruptions, {"finished": evaluate_finished})


CASES = [*model_cases()]
