"""The segmentation network: which pixels of a photograph belong to the item.

A small U-Net (Ronneberger, Fischer and Brox, https://arxiv.org/abs/1505.04597) that
tools/train_segmentation.py trains. It is part of the project and not of a run: all networks
classify the same cut-outs.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from fmnist import runs

SIDE = 64  # height and width of the network's input and output, in pixels
FOLDER = runs.PRETRAINED / "segmentation"


@functools.cache
def load(folder: Path = FOLDER) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that segments a picture, see segment().

    Args:
        folder: folder with the network, model.keras.

    Raises:
        RunError: the network is missing or corrupt, or another one.
    """
    network = runs.open_model(folder, (SIDE, SIDE, 3), (SIDE, SIDE, 1), "segmentation")
    return segmenter(network)


def segmenter(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that segments a picture with a network, see segment()."""
    compiled = tf.function(network, input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3))])
    compiled.get_concrete_function()  # compiles it, so that the first picture takes no longer
    return functools.partial(segment, lambda pixels: compiled(pixels).numpy())


def segment(predict: Callable[[np.ndarray], np.ndarray], picture: np.ndarray) -> np.ndarray:
    """Return the probability that each pixel belongs to the item, (height, width) in [0, 1].

    Args:
        predict: function of pixels (1, SIDE, SIDE, 3) in [0, 1] that returns probabilities
            (1, SIDE, SIDE, 1).
        picture: (height, width, 3) uint8.
    """
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    probabilities = predict(np.asarray(small, np.float32)[None] / 255)[0, ..., 0]
    size = picture.shape[1], picture.shape[0]
    return np.asarray(Image.fromarray(probabilities).resize(size, Image.Resampling.BILINEAR))
