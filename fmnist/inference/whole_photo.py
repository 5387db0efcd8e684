"""The network for whole photographs: the class of the item in a photograph, without a cut-out.

An EfficientNet-Lite0 that was trained on ImageNet, so it has seen photographs of clothes, shoes and
bags of all kinds, from all sides. tools/train_whole_photo.py trains its last layer for the classes
of Fashion-MNIST. The features before this layer also show whether a photograph is of anything else:
the principal components of the features of photographs of clothes cannot reconstruct them.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from fmnist import cli, runs
from fmnist.inference.photo import Whole

SIDE = 224  # height and width of the network's input, in pixels
FEATURES = 1280
FOLDER = runs.PRETRAINED / "whole_photo"
KNOWN = "features.npz"


class Known(NamedTuple):
    """Statistics of the features of photographs of clothes, shoes and bags.

    Attributes:
        mean: mean features (FEATURES,).
        components: principal components (N, FEATURES).
        limit: largest error of a photograph that is not novel, see error().
    """

    mean: np.ndarray
    components: np.ndarray
    limit: np.ndarray

    def error(self, features: np.ndarray) -> np.ndarray:
        """Return the reconstruction errors (N,) of features (N, FEATURES), relative to these."""
        centred = features - self.mean
        rest = centred - centred @ self.components.T @ self.components
        return np.linalg.norm(rest, axis=1) / np.linalg.norm(features, axis=1).clip(1e-6)


@functools.cache
def load(folder: Path = FOLDER) -> Callable[[np.ndarray], Whole]:
    """Return a function of a picture (height, width, 3) uint8 that returns its Whole.

    Its mirror image is predicted, too; features and probabilities are the mean of both.

    Args:
        folder: folder with the network, model.keras, and features.npz.

    Raises:
        RunError: a file is missing or corrupt, or belongs to another network.
    """
    network = runs.open_model(folder, (SIDE, SIDE, 3), (10,), "whole photographs")
    known = load_known(folder / KNOWN)
    both = keras.Model(network.input, [network.layers[-2].output, network.output])
    compiled = tf.function(both, input_signature=[tf.TensorSpec((2, SIDE, SIDE, 3))])

    def classify(picture: np.ndarray) -> Whole:
        pixels = resized(picture)
        outputs = compiled(np.stack([pixels, pixels[:, ::-1]]))
        features, probabilities = (output.numpy().mean(axis=0) for output in outputs)
        return Whole(probabilities, bool(known.error(features[None])[0] > known.limit))

    return classify


def load_known(path: Path) -> Known:
    """Return the Known in a file. Raises RunError."""
    runs.check_file(path)
    try:
        with np.load(path, allow_pickle=False) as saved:
            known = Known(**saved)
        if not np.isfinite(known.error(np.ones((1, FEATURES))) + known.limit).all():
            raise ValueError("it contains NaN or infinite values")
        return known
    except MemoryError:
        raise
    except Exception as error:  # a corrupt archive raises many kinds
        raise runs.RunError(
            f"{path} is corrupt ({cli.one_line(error)}); create it: "
            "python -m tools.train_whole_photo PHOTOS"
        ) from None


def resized(picture: np.ndarray) -> np.ndarray:
    """Return a picture (height, width, 3) uint8 as pixels (SIDE, SIDE, 3) float32 in [0, 1]."""
    image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255
