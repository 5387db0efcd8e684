"""Prediction of a single image with NumPy.

For one image, calling TensorFlow takes longer than the arithmetic of these networks.

    predict = predictor(model)
    probabilities = predict(image)      a fraction of a millisecond
"""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import activations, layers
from threadpoolctl import ThreadpoolController

from fmnist.networks import can_pool_first, members_of

ZERO = np.float32(0)
Step = Callable[[np.ndarray], np.ndarray]  # a layer, as a function of the output of the last one


def predictor(model: keras.Model) -> Step:
    """Return a function that predicts the class probabilities (10,) of an image (28, 28, 1).

    The function returns the same as model.predict. If this module does not support a layer of the
    model, the function is compiled with TensorFlow instead.
    """
    members = members_of(model)
    try:
        predictors = [network_predictor(member) for member in members]
        if members != [model] and not isinstance(model.layers[-1], layers.Average):
            raise TypeError("the output is not the mean of the members")
    except TypeError:
        compiled = tf.function(model, input_signature=[tf.TensorSpec((1, *model.input_shape[1:]))])
        return lambda image: compiled(image[None])[0].numpy()
    if len(predictors) == 1:
        return in_one_thread(predictors[0])
    return in_one_thread(
        lambda image: sum(predict(image) for predict in predictors) / np.float32(len(predictors))
    )


def in_one_thread(predict: Step) -> Step:
    """Return the same function, with matrix products in a single thread.

    The products are too small for several threads. While other programs use the cores, a thread
    that finds no core would make the others wait for many times the duration of a prediction.
    """
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers

    def predict_in_one_thread(image: np.ndarray) -> np.ndarray:
        threads = [library.get_num_threads() for library in libraries]
        for library in libraries:
            library.set_num_threads(1)
        try:
            return predict(image)
        finally:
            for library, count in zip(libraries, threads, strict=True):
                library.set_num_threads(count)

    return predict_in_one_thread


def network_predictor(model: keras.Model) -> Step:
    """Return the prediction function of a network that is not an ensemble.

    Raises:
        TypeError: a layer is not supported.
    """
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
            steps.append(layer_without_kernel(layer))
    steps = [step for step in steps if step is not identity]

    def predict(image: np.ndarray) -> np.ndarray:
        for step in steps:
            image = step(image)
        return image

    return predict


def check_layer(layer: layers.Layer) -> None:
    """Raise TypeError for a layer with options that the functions below do not support."""
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
        raise TypeError(f"an option of this {type(layer).__name__} is not supported")


def identity(values: np.ndarray) -> np.ndarray:
    """Return the values unchanged."""
    return values


def relu(values: np.ndarray) -> np.ndarray:
    """Compute max(values, 0) in place, which is safe after a layer that returns a new array."""
    return np.maximum(values, ZERO, out=values)


def silu(values: np.ndarray) -> np.ndarray:
    """Compute values · sigmoid(values) in place."""
    return np.divide(values, 1 + np.exp(-values), out=values)


def softmax(values: np.ndarray) -> np.ndarray:
    """Return the class probabilities (classes,) of logits (classes,)."""
    powers = np.exp(values - np.maximum.reduce(values))
    return powers / np.add.reduce(powers)


def activation(function: Callable) -> Step:
    """Return the NumPy function of a Keras activation. Raises TypeError for other functions."""
    known = {
        activations.linear: identity,
        activations.relu: relu,
        activations.silu: silu,
        activations.softmax: softmax,
    }
    if function not in known:
        raise TypeError(f"the activation {function} is not supported")
    return known[function]


def dense(layer: layers.Dense) -> Step:
    """Return the function of a dense layer without its activation."""
    bias = np.asarray(layer.bias) if layer.use_bias else ZERO
    # The product is faster if the weights of each output are contiguous in memory.
    kernel = np.asfortranarray(layer.kernel)
    return lambda values: values @ kernel + bias


def layer_without_kernel(layer: layers.Layer) -> Step:
    """Return the function of a layer without a kernel. Raises TypeError for other layers."""
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
        raise TypeError(f"{type(layer).__name__} is not supported")
    return known[type(layer)]


def convolution(layer: layers.Conv2D, pool: int) -> Step:
    """Return the function of a convolution and a max pooling, without the activation.

    The function gathers the window of input pixels of every output pixel, and multiplies all
    windows by the kernel in one matrix product. The windows are grouped by their position within a
    pool, so that pooling is the maximum over the groups. Pixels that the pooling ignores are not
    computed.

    Args:
        layer: the convolution.
        pool: edge length of the non-overlapping pools; 1 for no pooling.
    """
    kernel = np.asarray(layer.kernel)
    size, _, channels, filters = kernel.shape
    matrix, bias = kernel.reshape(-1, filters), np.asarray(layer.bias) if layer.use_bias else ZERO
    _, rows, columns, _ = layer.input.shape
    stride, indices = layer.strides[0], np.arange(rows * columns).reshape(rows, columns)
    if layer.padding == "same":
        margins = [padding(length, -(-length // stride), size, stride) for length in indices.shape]
        # Padding has the index after the last pixel, where convolve() appends a zero.
        indices = np.pad(indices, margins, constant_values=indices.size)
    windows = np.lib.stride_tricks.sliding_window_view(indices, (size, size))[::stride, ::stride]
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
        # mode="clip" avoids a bounds check that takes as long as the gathering.
        pixels = pixels.take(windows, axis=0, mode="clip").reshape(-1, len(matrix)) @ matrix
        maps = np.maximum.reduce(pixels.reshape(pool * pool, height, width, filters))
        maps += bias
        return maps

    return convolve


def padding(input_length: int, output_length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the numbers of padding pixels before and after the input along an axis.

    Args:
        input_length: number of input pixels.
        output_length: number of output pixels.
        size: edge length of the kernel or pool.
        stride: stride of the kernel or pool.
    """
    missing = max((output_length - 1) * stride + size - input_length, 0)
    return missing // 2, missing - missing // 2


def max_pooling(layer: layers.MaxPooling2D) -> Step:
    """Return the function of a max pooling whose pools may overlap.

    A pool that extends beyond the feature maps contains their border pixels twice, which does not
    change the maximum.
    """
    size, stride = layer.pool_size[0], layer.strides[0]

    def indices_by_offset(input_length: int, output_length: int) -> list[np.ndarray]:
        """Return, for every offset within a pool, the input indices (output_length,)."""
        before, _ = padding(input_length, output_length, size, stride)
        first = np.arange(output_length) * stride - before
        return [np.clip(first + offset, 0, input_length - 1) for offset in range(size)]

    rows, columns = map(indices_by_offset, layer.input.shape[1:3], layer.output.shape[1:3])

    def pool(maps: np.ndarray) -> np.ndarray:
        maps = functools.reduce(np.maximum, [maps.take(indices, axis=0) for indices in rows])
        return functools.reduce(np.maximum, [maps.take(indices, axis=1) for indices in columns])

    return pool
