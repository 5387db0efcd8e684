"""The network for whole photographs: the class of the item in a photograph, without a cut-out.

An EfficientNet-Lite0 that was trained on ImageNet, so it has seen photographs of clothes, shoes and
bags of all kinds, from all sides. tools/train_whole_photo.py trains its last layer for the classes
of Fashion-MNIST.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from fmnist import runs

SIDE = 224  # height and width of the network's input, in pixels
FOLDER = runs.PRETRAINED / "whole_photo"


@functools.cache
def load(folder: Path = FOLDER) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of a picture (height, width, 3) uint8: class probabilities (10,).

    They are the mean for the picture and its mirror image, and not calibrated.

    Args:
        folder: folder with the network, model.keras.

    Raises:
        RunError: the network is missing or corrupt, or another one.
    """
    network = runs.open_model(folder, (SIDE, SIDE, 3), (10,), "whole photographs")
    compiled = tf.function(network, input_signature=[tf.TensorSpec((2, SIDE, SIDE, 3))])

    def classify(picture: np.ndarray) -> np.ndarray:
        pixels = resized(picture)
        return compiled(np.stack([pixels, pixels[:, ::-1]])).numpy().mean(axis=0)

    return classify


def resized(picture: np.ndarray) -> np.ndarray:
    """Return a picture (height, width, 3) uint8 as pixels (SIDE, SIDE, 3) float32 in [0, 1]."""
    image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255
