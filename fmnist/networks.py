"""Helpers for Keras networks: layers, ensemble members, initial and pretrained weights."""

import os
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fmnist import runs

# Momentum of the moving averages of batch normalisation. With the default of Keras, 0.99, they need
# more than an epoch to converge.
MOMENTUM = 0.9
PREDICT_BATCH = 256  # images


def layers_of(model: keras.Model) -> list[layers.Layer]:
    """Return all layers of a model, including the layers of nested models."""
    found = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def members_of(model: keras.Model) -> list[keras.Model]:
    """Return the members of an ensemble, or a list of the model itself if it is not an ensemble."""
    return [layer for layer in model.layers if isinstance(layer, keras.Sequential)] or [model]


def training_conditions(model: keras.Model, augment: str) -> list[str]:
    """Return what makes training harder than validation: dropout, augmentation, both or nothing.

    Args:
        model: a trained network.
        augment: the setting `augment` of its training.
    """
    conditions = []
    if any(isinstance(layer, layers.Dropout) and layer.rate > 0 for layer in layers_of(model)):
        conditions.append("dropout")
    if augment != "none":
        conditions.append("augmentation")
    return conditions


def class_probabilities(run: Path, model: keras.Model, batches: tf.data.Dataset) -> np.ndarray:
    """Return the class probabilities (N, 10) that the model of a run predicts.

    Args:
        run: run directory, named in error messages.
        model: model of the run.
        batches: batches of images.

    Raises:
        RunError: the model fails, or its outputs are not probabilities.
        MemoryError: out of memory.
    """
    try:
        probabilities = model.predict(batches, verbose=0)
    except tf.errors.ResourceExhaustedError:
        raise MemoryError from None
    except tf.errors.OpError as error:
        reason = error.op or type(error).__name__
        raise runs.corrupt(run / runs.MODEL, f"prediction fails: {reason}") from None
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        raise runs.corrupt(run / runs.MODEL, "its outputs are not probabilities")
    return probabilities


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the outputs of a model for images (N, 28, 28, 1).

    Unlike model.predict, this needs no input pipeline, whose threads print messages.
    """
    parts = range(0, len(images), PREDICT_BATCH)
    return np.concatenate(
        [model.predict_on_batch(images[start : start + PREDICT_BATCH]) for start in parts]
    )


def initialise(model: keras.Model, seed: int) -> None:
    """Initialise all kernels again, with their own initializers and seeds derived from `seed`.

    The seeds of Keras come from Python's global random generator. Other threads, such as those of
    Dask, use the same generator, so the initial weights would not be reproducible.
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
    """Return the layers with batch normalisation before the activation of layers of these types.

    If pooling follows such a layer, batch normalisation comes after the pooling, where it has to
    normalise only a quarter of the values. The classifier is not changed.
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
    """Return the layers except those of batch normalisation."""
    return [layer for layer in network if not isinstance(layer, layers.BatchNormalization)]


def can_pool_first(convolution: layers.Conv2D, layer: layers.Layer) -> bool:
    """Return whether pooling can come before the bias and activation of a convolution.

    The result is the same if the activation is ReLU or linear, because max(relu(x)) = relu(max(x)).
    The code that uses this order supports only non-overlapping pooling without padding.

    Args:
        convolution: the convolution.
        layer: the layer after the convolution.
    """
    monotone = convolution.activation in (keras.activations.linear, keras.activations.relu)
    return monotone and is_non_overlapping_pooling(layer)


def is_non_overlapping_pooling(layer: layers.Layer) -> bool:
    """Return whether a layer is non-overlapping max pooling without padding."""
    return (
        isinstance(layer, layers.MaxPooling2D)
        and layer.pool_size == layer.strides
        and layer.padding == "valid"
    )


def mobilenet_backbone(width: float, weights: str | None = None) -> keras.Model:
    """Return MobileNetV2 without its classifier.

    Args:
        width: multiplier of the numbers of filters.
        weights: "imagenet", or a weights file; None for random initialisation.
    """
    backbone = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=width, include_top=False, weights=weights, pooling="avg"
    )
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return backbone


def pretrained_weights(width: float, weights: str) -> list[np.ndarray]:
    """Return pretrained weights for mobilenet_backbone().

    Args:
        width: multiplier of the numbers of filters.
        weights: "imagenet" (downloaded by Keras), or a weights file.

    Raises:
        ValueError: the weights cannot be loaded, or belong to another network.
    """
    if weights != "imagenet" and not os.path.isfile(weights):
        raise ValueError(f"the weights {weights} cannot be loaded (no such file)")
    try:
        # Keras warns that the images of ImageNet are larger.
        with warnings.catch_warnings(action="ignore"):
            return mobilenet_backbone(width, weights).get_weights()
    except Exception as error:  # a corrupt file or a failed download raises many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the weights {weights} cannot be loaded ({reason})") from None


def set_backbone_weights(model: keras.Model, weights: list[np.ndarray]) -> None:
    """Set the weights of the backbone of every ensemble member of a `mobilenet`."""
    for member in members_of(model):
        backbone = next(layer for layer in member.layers if isinstance(layer, keras.Model))
        backbone.set_weights(weights)
