"""The whitening layer of allconv_cnn and deep_cnn, whose filters are computed, not trained."""

import keras
import numpy as np

from fmnist.networks import layers_of
from fmnist.source import PIXEL_MEAN, PIXEL_STD

LAYER = "whitening"  # name of the layer
MAX_IMAGES = 5000  # enough for the covariance of 3 × 3 pixels
NOISE = 0.01  # added to every variance; components of lower variance are mostly noise


def whiten(model: keras.Model, images: np.ndarray) -> None:
    """Set the filters of the whitening layer of every ensemble member that has such a layer.

    The filters are the principal components of image patches, scaled so that all outputs have about
    the same variance, and their negatives. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single
    GPU", https://arxiv.org/abs/2404.00498

    Args:
        model: network from model.build_model().
        images: training images (N, 28, 28, 1) in [0, 1].
    """
    whitening_layers = [layer for layer in layers_of(model) if layer.name == LAYER]
    if not whitening_layers:
        return
    size = whitening_layers[0].kernel_size
    pixels = (images[:MAX_IMAGES, ..., 0] - PIXEL_MEAN) / PIXEL_STD
    patches = np.lib.stride_tricks.sliding_window_view(pixels, size, axis=(1, 2))
    patches = patches.reshape(-1, size[0] * size[1])
    variances, components = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = components / np.sqrt(variances + NOISE)
    for layer in whitening_layers:
        layer.kernel.assign(np.concatenate([filters, -filters], axis=1).reshape(layer.kernel.shape))
