"""The network for whole photographs: the class of the item in a photograph, without a cut-out.

An EfficientNet-Lite0 that was trained on ImageNet, whose photographs show clothes, shoes and bags
of all kinds, from all sides. tools/train_whole_photo.py trains its last layer for the classes
of Fashion-MNIST. The features before this layer also show whether a photograph is of anything else:
the principal components of the features of photographs of clothes cannot reconstruct them.
"""

import functools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from fmnist import cli, runs
from fmnist.inference.photo import WholePrediction

SIDE = 224  # height and width of the network's input, in pixels
FEATURES = 1280
FOLDER = runs.PRETRAINED / "whole_photo"
STATISTICS = "features.npz"


class FeatureStatistics(NamedTuple):
    """Statistics of the features of photographs of clothes, shoes and bags.

    Attributes:
        mean: mean features (FEATURES,).
        components: principal components (N, FEATURES).
        limit: largest reconstruction error of a photograph that is not novel, ().
    """

    mean: np.ndarray
    components: np.ndarray
    limit: np.ndarray

    def reconstruction_error(self, features: np.ndarray) -> np.ndarray:
        """Return the error (N,) of the reconstruction of features (N, FEATURES).

        It is the norm of the difference, divided by the norm of the features.
        """
        centred = features - self.mean
        rest = centred - centred @ self.components.T @ self.components
        return np.linalg.norm(rest, axis=1) / np.linalg.norm(features, axis=1).clip(1e-6)


@functools.cache
def load(folder: Path = FOLDER) -> Callable[[np.ndarray], WholePrediction]:
    """Return a function of a picture (height, width, 3) uint8 that returns its WholePrediction.

    Its mirror image is predicted, too; features and probabilities are the mean of both.

    Args:
        folder: folder with the network, model.keras, and features.npz.

    Raises:
        RunError: a file is missing or corrupt, or has other shapes.
    """
    network = runs.open_model(folder, (SIDE, SIDE, 3), (10,), "whole photographs")
    features = network.layers[-1].input
    if features.shape != (None, FEATURES):
        raise runs.corrupt(folder / runs.MODEL, f"its features are not (None, {FEATURES})")
    statistics = load_statistics(folder / STATISTICS)
    both = keras.Model(network.input, [features, network.output])
    compiled = tf.function(both, input_signature=[tf.TensorSpec((2, SIDE, SIDE, 3))])
    compiled.get_concrete_function()  # compiles it, so that the first photograph takes no longer

    def classify(picture: np.ndarray) -> WholePrediction:
        pixels = resized(picture)
        outputs = compiled(np.stack([pixels, pixels[:, ::-1]]))
        features, probabilities = (output.numpy().mean(axis=0) for output in outputs)
        error = statistics.reconstruction_error(features[None])[0]
        return WholePrediction(probabilities, bool(error > statistics.limit))

    return classify


def load_statistics(path: Path) -> FeatureStatistics:
    """Return the FeatureStatistics in a file. Raises RunError."""
    runs.check_file(path)
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip archive")
        with np.load(path, allow_pickle=False) as saved:
            statistics = FeatureStatistics(**saved)
        if statistics.mean.shape != (FEATURES,) or statistics.limit.shape != ():
            raise ValueError("an array has another shape")
        error = statistics.reconstruction_error(np.ones((1, FEATURES)))[0]
        if not np.isfinite(error + statistics.limit):
            raise ValueError("it contains NaN or infinite values")
        return statistics
    except MemoryError:
        raise
    except Exception as error:  # a corrupt archive raises many kinds
        raise runs.corrupt(path, cli.one_line(error)) from None


def resized(picture: np.ndarray) -> np.ndarray:
    """Return a picture (height, width, 3) uint8 as pixels (SIDE, SIDE, 3) float32 in [0, 1]."""
    image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255
