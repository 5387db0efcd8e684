"""The class probabilities of one image, in NumPy.

TensorFlow takes longer to be called than these networks take to compute.

    probabilities = predictor(model)(image)           a fraction of a millisecond
"""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import activations, layers

from fmnist.networks import can_pool_first, members_of

ZERO = np.float32(0)
Step = Callable[[np.ndarray], np.ndarray]


def predictor(model: keras.Model) -> Step:
    """Return a function of one image (28, 28, 1) that gives its class probabilities (10,).

    They are those of model.predict. A network that has what is not written in NumPy here is
    compiled by TensorFlow.
    """
    members = members_of(model)
    try:
        predictors = [network_predictor(member) for member in members]
        if members != [model] and not isinstance(model.layers[-1], layers.Average):
            raise TypeError("not the mean of networks")
    except TypeError:
        compiled = tf.function(model, input_signature=[tf.TensorSpec((1, *model.input_shape[1:]))])
        return lambda image: compiled(image[None])[0].numpy()
    if len(predictors) == 1:
        return predictors[0]
    return lambda image: sum(predict(image) for predict in predictors) / np.float32(len(predictors))


def network_predictor(model: keras.Model) -> Step:
    """Return the function of one network. Raises TypeError where NumPy lacks a part of it."""
    steps: list[Step] = []
    remaining = [layer for layer in model.layers if not isinstance(layer, layers.Dropout)]
    for layer in remaining:
        check_layer(layer)
    while remaining:
        layer = remaining.pop(0)
        if isinstance(layer, layers.Conv2D):
            pools = remaining and can_pool_first(layer, remaining[0])
            steps.append(convolution(layer, pool=remaining.pop(0).pool_size[0] if pools else 1))
            steps.append(activation(layer.activation))
        elif isinstance(layer, layers.MaxPooling2D):
            steps.append(max_pooling(layer))
        elif isinstance(layer, layers.Dense):
            steps += [dense(layer), activation(layer.activation)]
        elif isinstance(layer, layers.Activation):
            steps.append(activation(layer.activation))
        else:
            steps.append(other_layer(layer))
    steps = [step for step in steps if step is not identity]

    def predict(image: np.ndarray) -> np.ndarray:
        for step in steps:
            image = step(image)
        return image

    return predict


def check_layer(layer: layers.Layer) -> None:
    """Raise TypeError for a layer that does more than those of the networks here."""
    config = layer.get_config()
    expected = {
        layers.Conv2D: {"groups": 1, "dilation_rate": (1, 1)},
        layers.BatchNormalization: {"scale": True, "center": True, "axis": -1},
    }.get(type(layer), {})
    square = all(
        len(set(config[key])) == 1
        for key in ("kernel_size", "strides", "pool_size")
        if key in config
    )
    if not square or any(config[key] != value for key, value in expected.items()):
        raise TypeError(f"this {type(layer).__name__} is not written in NumPy")


def identity(values: np.ndarray) -> np.ndarray:
    """Return the values: what no activation does."""
    return values


def relu(values: np.ndarray) -> np.ndarray:
    """Return max(values, 0), in place: what comes before is a new array in every network here."""
    return np.maximum(values, ZERO, out=values)


def silu(values: np.ndarray) -> np.ndarray:
    """Return values · sigmoid(values), in place."""
    return np.divide(values, 1 + np.exp(-values), out=values)


def softmax(values: np.ndarray) -> np.ndarray:
    """Return probabilities from logits (classes,)."""
    powers = np.exp(values - np.maximum.reduce(values))
    return powers / np.add.reduce(powers)


def activation(function: Callable) -> Step:
    """Return the NumPy function of an activation of Keras. Raises TypeError for others."""
    known = {
        activations.linear: identity,
        activations.relu: relu,
        activations.silu: silu,
        activations.softmax: softmax,
    }
    if function not in known:
        raise TypeError(f"{function} is not written in NumPy")
    return known[function]


def dense(layer: layers.Dense) -> Step:
    """Return a dense layer without its activation as a function of values (inputs,)."""
    bias = np.asarray(layer.bias) if layer.use_bias else ZERO
    kernel = np.asfortranarray(layer.kernel)  # one output's weights after the other are read faster
    return lambda values: values @ kernel + bias


def other_layer(layer: layers.Layer) -> Step:
    """Return a layer without kernels as a function. Raises TypeError for others."""
    if isinstance(layer, layers.BatchNormalization):
        gamma, beta, mean, variance = (np.asarray(weight) for weight in layer.weights)
        scale = gamma / np.sqrt(variance + layer.epsilon)
        shift = beta - mean * scale
        return lambda values: values * scale + shift
    if isinstance(layer, layers.Rescaling):
        scale, shift = np.float32(layer.scale), np.float32(layer.offset)
        return lambda image: image * scale + shift
    known = {
        layers.Flatten: np.ravel,
        layers.GlobalAveragePooling2D: lambda maps: maps.mean(axis=(0, 1)),
        layers.GlobalMaxPooling2D: lambda maps: maps.max(axis=(0, 1)),
    }
    if type(layer) not in known:
        raise TypeError(f"{type(layer).__name__} is not written in NumPy")
    return known[type(layer)]


def convolution(layer: layers.Conv2D, pool: int) -> Step:
    """Return a convolution and a max-pooling of pool × pool pixels, without activation.

    It gathers a window of pixels for every pixel to come, in one block for each place in the pools,
    and multiplies all by the kernel: what is pooled lies one block apart, and what pooling leaves
    out is not computed.
    """
    kernel = np.asarray(layer.kernel)
    size, _, channels, filters = kernel.shape
    matrix, bias = kernel.reshape(-1, filters), np.asarray(layer.bias) if layer.use_bias else ZERO
    _, rows, columns, _ = layer.input.shape
    stride, pixel = layer.strides[0], np.arange(rows * columns).reshape(rows, columns)
    if layer.padding == "same":
        margins = [margin(length, -(-length // stride), size, stride) for length in pixel.shape]
        # The index of a zero behind the last pixel.
        pixel = np.pad(pixel, margins, constant_values=pixel.size)
    windows = np.lib.stride_tricks.sliding_window_view(pixel, (size, size))[::stride, ::stride]
    height, width = windows.shape[0] // pool, windows.shape[1] // pool
    windows = np.ascontiguousarray(
        [
            windows[i : height * pool : pool, j : width * pool : pool]
            for i in range(pool)
            for j in range(pool)
        ]
    )
    zero = np.zeros((1, channels), np.float32)

    def convolve(maps: np.ndarray) -> np.ndarray:
        pixels = maps.reshape(-1, channels)
        if layer.padding == "same":
            pixels = np.concatenate([pixels, zero])
        # mode="clip" spares a check that takes as long as the gathering.
        pixels = pixels.take(windows, axis=0, mode="clip").reshape(-1, len(matrix)) @ matrix
        maps = np.maximum.reduce(pixels.reshape(pool * pool, height, width, filters))
        maps += bias
        return maps

    return convolve


def margin(before: int, after: int, size: int, stride: int) -> tuple[int, int]:
    """Return how much padding, in front and behind, makes `after` pixels of `before`."""
    missing = max((after - 1) * stride + size - before, 0)
    return missing // 2, missing - missing // 2


def max_pooling(layer: layers.MaxPooling2D) -> Step:
    """Return a max-pooling whose pools may overlap as a function of maps.

    Where a pool reaches beyond the maps it has their last pixel twice, which changes no maximum.
    """
    size, stride = layer.pool_size[0], layer.strides[0]

    def places(before: int, after: int) -> list[np.ndarray]:
        first = np.arange(after) * stride - margin(before, after, size, stride)[0]
        return [np.clip(first + offset, 0, before - 1) for offset in range(size)]

    rows, columns = map(places, layer.input.shape[1:3], layer.output.shape[1:3])

    def pool(maps: np.ndarray) -> np.ndarray:
        maps = functools.reduce(np.maximum, [maps.take(indices, axis=0) for indices in rows])
        return functools.reduce(np.maximum, [maps.take(indices, axis=1) for indices in columns])

    return pool
