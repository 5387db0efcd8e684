"""Helpers on Keras networks: layers, ensemble members, initial and pretrained weights."""

import os
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fmnist import runs

MOMENTUM = 0.9  # of batch normalisation: Keras' 0.99 needs more steps to settle than an epoch has


def layers_of(model: keras.Model) -> list[layers.Layer]:
    """Return all layers, those of the models in the model included."""
    found = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def members_of(model: keras.Model) -> list[keras.Model]:
    """Return the ensemble members of a model: the model itself where it is no ensemble."""
    return [layer for layer in model.layers if isinstance(layer, keras.Sequential)] or [model]


def class_probabilities(run: Path, model: keras.Model, batches: tf.data.Dataset) -> np.ndarray:
    """Return the outputs (N, 10) of the model of a run. Raises RunError where it fails."""
    try:
        probabilities = model.predict(batches, verbose=0)
    except tf.errors.ResourceExhaustedError:
        raise MemoryError from None
    except tf.errors.OpError as error:
        reason = error.op or type(error).__name__
        raise runs.RunError(f"{run / runs.MODEL} is broken: it fails at {reason}") from None
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        raise runs.RunError(f"{run / runs.MODEL} is broken: what it returns is no probabilities")
    return probabilities


def initialise(model: keras.Model, seed: int) -> None:
    """Set all kernels anew, as their layers say, by `seed` alone.

    Keras draws them by Python's global generator, from which other threads may draw in between, as
    those of Dask do.
    """
    for index, layer in enumerate(layer for layer in layers_of(model) if hasattr(layer, "kernel")):
        initializer = getattr(
            layer, "depthwise_initializer", getattr(layer, "kernel_initializer", None)
        )
        if "seed" in (config := initializer.get_config()):
            layer_seed = np.random.SeedSequence((seed, index)).generate_state(1)[0] // 2
            initializer = type(initializer).from_config(config | {"seed": int(layer_seed)})
            layer.kernel.assign(initializer(layer.kernel.shape))


def with_batch_norm(
    network: list[layers.Layer], kinds: type | tuple[type, ...]
) -> list[layers.Layer]:
    """Return the layers with batch normalisation before the activation of layers of these kinds.

    Pooling comes first, so that a quarter of the pixels is normalised. The classifier stays as it
    is.
    """
    normalised, pending = [], []
    for layer in network:
        if not isinstance(layer, layers.MaxPooling2D):
            normalised += pending
            pending = []
        if isinstance(layer, kinds) and layer.name != "classifier":
            pending = [
                layers.BatchNormalization(momentum=MOMENTUM),
                layers.Activation(layer.activation),
            ]
            layer = type(layer).from_config(
                layer.get_config() | {"activation": "linear", "use_bias": False}
            )
        normalised.append(layer)
    return normalised


def without_batch_norm(network: list[layers.Layer]) -> list[layers.Layer]:
    """Return the layers without those of batch normalisation."""
    return [layer for layer in network if not isinstance(layer, layers.BatchNormalization)]


def can_pool_first(convolution: layers.Conv2D, layer: layers.Layer) -> bool:
    """Return whether a pooling after a convolution can come before its bias and activation.

    It can with ReLU, or without an activation, as max(relu(x)) = relu(max(x)), and where pools do
    not overlap.
    """
    monotone = convolution.activation in (keras.activations.linear, keras.activations.relu)
    return monotone and pools_tiles(layer)


def pools_tiles(layer: layers.Layer) -> bool:
    """Return whether a layer is a max-pooling of tiles, and leaves out what fills no tile."""
    return (
        isinstance(layer, layers.MaxPooling2D)
        and layer.pool_size == layer.strides
        and layer.padding == "valid"
    )


def mobilenet_backbone(width: float, weights: str | None = None) -> keras.Model:
    """Return MobileNetV2 without its classifier.

    Args:
        width: factor of the numbers of filters.
        weights: None, "imagenet", or a file of its weights.
    """
    return keras.applications.MobileNetV2(
        (32, 32, 3), alpha=width, include_top=False, weights=weights, pooling="avg"
    )


def pretrained_weights(width: float, weights: str) -> list[np.ndarray]:
    """Return the weights of mobilenet_backbone(): ImageNet's, for "imagenet", or those in a file.

    Raises:
        ValueError: where they cannot be had, or are of another network.
    """
    if weights != "imagenet" and not os.path.isfile(weights):
        raise ValueError(f"the weights {weights} cannot be had (there is no such file)")
    try:
        with warnings.catch_warnings(action="ignore"):  # that ImageNet has larger images
            return mobilenet_backbone(width, weights).get_weights()
    # Whatever a damaged file, or a network that is not there, makes Keras raise.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the weights {weights} cannot be had ({reason})") from None


def set_backbone_weights(model: keras.Model, weights: list[np.ndarray]) -> None:
    """Give the backbone of every member of a `mobilenet` these weights."""
    for member in members_of(model):
        backbone = next(layer for layer in member.layers if isinstance(layer, keras.Model))
        backbone.set_weights(weights)
