"""Activations of a network: the outputs of its convolutions, and the input of its classifier.

    member, *others = inspected_members(run, model)
    convolutions, activation, features, logits = member(images)

An ensemble has several members, any other network one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fmnist import runs
from fmnist.networks import layers_of, members_of

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU)
POOLINGS = (layers.MaxPooling2D, layers.AveragePooling2D)
BATCH = 250  # images
COPY = 0.9999  # correlation of channels that are copies
# Class activation maps use the last feature maps of at least this height: later ones are too coarse
# to show a place, and earlier ones depend on too small a part of the image.
MIN_RESOLUTION = 7


class ReceptiveField(NamedTuple):
    """The pixels of an image that a position of a feature map depends on, on one axis.

    Attributes:
        size: number of pixels.
        step: distance in pixels between the fields of neighbouring positions.
        centre: pixel coordinate of the centre of the first field.
    """

    size: int
    step: int
    centre: float


class Outputs(NamedTuple):
    """The inner outputs of a network for N images.

    Attributes:
        convolutions: output (N, height, width, channels) of every convolution.
        activation: the same for the last activation function with at least MIN_RESOLUTION
            positions on an axis, which may be that of a convolution.
        features: input (N, D) of the classifier.
        logits: (N, classes).
    """

    convolutions: list[tf.Tensor]
    activation: tf.Tensor
    features: tf.Tensor
    logits: tf.Tensor


class Member:
    """A network whose inner outputs can be computed: member(images) returns Outputs.

    Attributes:
        convolutions: its convolutions, in the order of computation.
        receptive_fields: receptive field of every convolution.
        features: Keras model from images to the input of the classifier.
    """

    def __init__(self, network: keras.Sequential) -> None:
        """Prepare a network whose last layer is dense, with softmax.

        Raises:
            ValueError: no activation function has the resolution of Outputs.activation.
        """
        *hidden, self._classifier = network.layers
        images = values = keras.Input(network.input_shape[1:])
        outputs = {}
        for layer in hidden:
            if isinstance(layer, keras.Model):
                inner = [inner for inner in layers_of(layer) if is_tapped(inner)]
                taps = keras.Model(layer.inputs, [*(tap.output for tap in inner), layer.output])
                *inner_outputs, values = taps(values)
                outputs |= zip(inner, inner_outputs, strict=True)
            else:
                values = layer(values)
                if is_tapped(layer):
                    outputs[layer] = values
        self.convolutions = [layer for layer in outputs if isinstance(layer, CONVOLUTIONS)]
        self.receptive_fields = receptive_fields(layers_of(network), network.input_shape[1])
        self.features = keras.Model(images, values)
        fine = [
            output
            for layer, output in outputs.items()
            if is_activation(layer) and len(output.shape) == 4 and output.shape[1] >= MIN_RESOLUTION
        ]
        if not fine:
            raise ValueError(
                f"no activation function has {MIN_RESOLUTION} × {MIN_RESOLUTION} positions or more"
            )
        self._inner = keras.Model(
            images, ([outputs[layer] for layer in self.convolutions], fine[-1], values)
        )

    def __call__(self, images: tf.Tensor) -> Outputs:
        """Return the inner outputs for images (N, 28, 28, 1)."""
        convolutions, activation, features = self._inner(images, training=False)
        logits = features @ self._classifier.kernel + self._classifier.bias
        return Outputs(convolutions, activation, features, logits)


def is_tapped(layer: layers.Layer) -> bool:
    """Return whether Outputs contains the output of a layer."""
    return isinstance(layer, CONVOLUTIONS) or is_activation(layer)


def is_activation(layer: layers.Layer) -> bool:
    """Return whether a layer is an activation function, or a convolution with one."""
    if isinstance(layer, CONVOLUTIONS):
        return layer.activation is not keras.activations.linear
    return isinstance(layer, ACTIVATIONS)


def inspected_members(run: Path, model: keras.Model) -> list[Member]:
    """Return the members of the model of a run.

    Args:
        run: run directory, named in error messages.
        model: model of the run.

    Raises:
        RunError: the model is not built like those of model.py, or it has no convolutions.
    """
    networks = members_of(model)
    for network in networks:
        last = network.layers[-1]
        if not isinstance(network, keras.Sequential) or not (
            isinstance(last, layers.Dense) and last.activation is keras.activations.softmax
        ):
            raise runs.RunError(
                f"{run / runs.MODEL} cannot be inspected: it is not a sequential network that ends "
                "with a dense layer and softmax, or an ensemble of such networks"
            )
        if not any(isinstance(layer, CONVOLUTIONS) for layer in layers_of(network)):
            raise runs.RunError(f"{run / runs.MODEL} cannot be inspected: it has no convolutions")
    try:
        return [Member(network) for network in networks]
    except ValueError as error:
        raise runs.RunError(f"{run / runs.MODEL} cannot be inspected: {error}") from None


def batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images in batches."""
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def features(members: list[Member], images: np.ndarray) -> np.ndarray:
    """Return the inputs of the classifiers (N, D) for images; those of all members side by side."""
    return np.concatenate(
        [
            np.concatenate([member.features.predict_on_batch(batch) for member in members], axis=1)
            for batch in batches(images)
        ]
    )


def receptive_fields(network: list[layers.Layer], size: int) -> list[ReceptiveField]:
    """Return the receptive field of every convolution of a network.

    Skip connections do not change it: they carry what depends on fewer pixels.

    Args:
        network: layers in the order of computation.
        size: height and width of the images.
    """
    fields, field = [], ReceptiveField(1, 1, 0.0)
    for layer in network:
        if isinstance(layer, layers.ZeroPadding2D):
            before, after = layer.padding[0]
            size += before + after
            field = field._replace(centre=field.centre - before * field.step)
        elif isinstance(layer, CONVOLUTIONS + POOLINGS):
            kernel = getattr(layer, "kernel_size", None) or layer.pool_size
            field, size = _after(field, size, kernel[0], layer.strides[0], layer.padding)
            if isinstance(layer, CONVOLUTIONS):
                fields.append(field)
    return fields


def _after(
    field: ReceptiveField, size: int, kernel: int, stride: int, padding: str
) -> tuple[ReceptiveField, int]:
    """Return the receptive field and the size of a feature map after a convolution or pooling."""
    if padding == "same":
        positions = -(-size // stride)
        before = max((positions - 1) * stride + kernel - size, 0) // 2
    else:
        positions, before = (size - kernel) // stride + 1, 0
    centre = field.centre + ((kernel - 1) / 2 - before) * field.step
    return ReceptiveField(
        field.size + (kernel - 1) * field.step, field.step * stride, centre
    ), positions


def discriminating_channels(outputs: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the channels whose mean activation differs most between the classes.

    The measure is the fraction of the variance between images that is variance between classes. A
    channel that is the copy or the negative of a better one is left out.

    Args:
        outputs: output of a convolution (N, height, width, channels).
        labels: true classes (N,).
        count: number of channels.

    Returns:
        Channel indices (at most `count`), best first.
    """
    means = outputs.mean(axis=(1, 2), dtype=np.float64)
    between = np.zeros(means.shape[1])
    for label in np.unique(labels):
        of_class = means[labels == label]
        between += len(of_class) * (of_class.mean(axis=0) - means.mean(axis=0)) ** 2
    total = len(means) * means.var(axis=0)
    fractions = np.divide(between, total, out=np.zeros_like(total), where=total > 0)
    normalised = (means - means.mean(axis=0)) / np.sqrt(np.maximum(total, 1e-30))
    chosen = []
    for channel in np.argsort(-fractions, kind="stable"):
        correlations = normalised[:, chosen].T @ normalised[:, channel]
        if len(chosen) < count and np.abs(correlations).max(initial=0) < COPY:
            chosen.append(channel)
    return np.array(chosen)


class Patches(NamedTuple):
    """The places where channels of a convolution are most active.

    Attributes:
        channels: channel indices (C,).
        images: indices (C, count) of the images, the strongest first.
        rows: rows (C, count) in the feature map.
        columns: columns (C, count) in the feature map.
    """

    channels: np.ndarray
    images: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def strongest_patches(
    member: Member, images: np.ndarray, channels: list[np.ndarray], count: int
) -> list[Patches]:
    """Return the strongest activations of channels of every convolution, one per image at most.

    Args:
        member: network.
        images: (N, 28, 28, 1).
        channels: channel indices for every convolution.
        count: number of patches per channel.
    """
    strengths, positions = ([[] for _ in channels] for _ in range(2))
    for batch in batches(images):
        for layer, output in enumerate(member(batch).convolutions):
            chosen = output.numpy()[..., channels[layer]]
            flat = chosen.reshape(len(chosen), -1, chosen.shape[-1])
            strengths[layer].append(flat.max(axis=1))
            rows_and_columns = np.divmod(flat.argmax(axis=1), chosen.shape[2])
            positions[layer].append(np.stack(rows_and_columns, axis=-1))
    patches = []
    for layer, indices in enumerate(channels):
        strength = np.concatenate(strengths[layer]).T  # (C, N)
        place = np.concatenate(positions[layer]).transpose(1, 0, 2)  # (C, N, 2)
        best = np.argsort(-strength, axis=1, kind="stable")[:, :count]
        rows, columns = np.take_along_axis(place, best[..., None], axis=1).transpose(2, 0, 1)
        patches.append(Patches(indices, best, rows, columns))
    return patches


def patch(image: np.ndarray, field: ReceptiveField, row: int, column: int) -> np.ndarray:
    """Return the receptive field of a position as an image; NaN is outside the image.

    If the field is larger than the image, return the image with NaN outside the field.

    Args:
        image: (height, width).
        field: receptive field of the convolution.
        row: row in the feature map.
        column: column in the feature map.
    """
    size, width = len(image), field.size
    top, left = (
        round(field.centre + index * field.step - (width - 1) / 2) for index in (row, column)
    )
    if width >= size:
        inside = np.full(image.shape, np.nan)
        area = slice(max(top, 0), top + width), slice(max(left, 0), left + width)
        inside[area] = image[area]
        return inside
    padded = np.pad(image.astype(float), width, constant_values=np.nan)
    # A field that is completely outside the image is NaN everywhere.
    top, left = (min(max(start, -width), size) + width for start in (top, left))
    return padded[top : top + width, left : left + width]
