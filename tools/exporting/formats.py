"""The export formats: how each is written, and how it is loaded in its own runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fmnist import runtime

CALIBRATION = 500  # training images that calibrate the ranges of 8-bit activations
Predict = Callable[[np.ndarray], np.ndarray]


class Format(NamedTuple):
    """An export format.

    Attributes:
        path: path of the export in the output folder.
        modules: modules that writing and loading need.
        write: function that writes an export, given model, path and training images.
        load: function that returns the predict function of an export, given path and batch size.
        exact: whether the export computes in float32.
    """

    path: str
    modules: tuple[str, ...]
    write: Callable[[keras.Model, Path, np.ndarray], None]
    load: Callable[[Path, int], Predict]
    exact: bool


def write_saved_model(model: keras.Model, path: Path, images: np.ndarray) -> None:
    """Write a SavedModel."""
    model.export(path, format="tf_saved_model", verbose=False)


def load_saved_model(path: Path, batch: int) -> Predict:
    """Return the predict function of a SavedModel."""
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    name = next(iter(serve.structured_outputs))
    return lambda images: serve(tf.constant(images))[name].numpy()


def write_onnx(model: keras.Model, path: Path, images: np.ndarray) -> None:
    """Write an ONNX file."""
    model.export(path, format="onnx", verbose=False)


def load_onnx(path: Path, batch: int) -> Predict:
    """Return the predict function of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    return lambda images: session.run(None, {image.name: images})[0]


def write_litert(model: keras.Model, path: Path, images: np.ndarray) -> None:
    """Write a LiteRT file."""
    model.export(path, format="litert", verbose=False)


def write_litert_int8(model: keras.Model, path: Path, images: np.ndarray) -> None:
    """Write a LiteRT file with weights and activations of 8 bits."""
    model.export(
        path,
        format="litert",
        verbose=False,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in images[:CALIBRATION]),
    )


def load_litert(path: Path, batch: int) -> Predict:
    """Return the predict function of a LiteRT file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=runtime.available_cores())
    image, probabilities = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(image["index"], (batch, *image["shape"][1:]))
    interpreter.allocate_tensors()

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    return run


FORMATS = {
    "saved_model": Format("saved_model/1", (), write_saved_model, load_saved_model, exact=True),
    "onnx": Format(
        "model.onnx", ("tf2onnx", "onnx", "onnxruntime"), write_onnx, load_onnx, exact=True
    ),
    "litert": Format("model.tflite", ("ai_edge_litert",), write_litert, load_litert, exact=True),
    "litert_int8": Format(
        "model_int8.tflite", ("ai_edge_litert",), write_litert_int8, load_litert, exact=False
    ),
}
