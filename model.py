"""The convolutional networks, written in plain Keras layers.

    model = build_model("dropout_cnn")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

Every network takes images (N, 28, 28, 1) with values in [0, 1] and returns class probabilities
(N, 10). All layers are built-in Keras layers, so that keras.models.load_model can load a saved
model without this project.

Every function of a network returns its layers. Common arguments:
    dropout: dropout rate before the last layer; the rate between convolutions is half of it.
    l2: L2 regularisation strength of the kernels.
    width: multiplier of the numbers of filters and units.
    batch_norm: whether to use batch normalisation.
"""

import keras
from keras import Input, Sequential, layers, regularizers
from keras.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Rescaling,
)

from fmnist.networks import MOMENTUM, mobilenet_backbone, with_batch_norm, without_batch_norm
from fmnist.source import PIXEL_MEAN, PIXEL_STD

IMAGE_SHAPE = (28, 28, 1)
Layers = list[layers.Layer]


def build_model(name: str, ensemble_size: int = 1, **options: float | bool | None) -> keras.Model:
    """Return an uncompiled network.

    Args:
        name: name of the network, a key of MODELS.
        ensemble_size: number of networks. Above 1, the model is an ensemble of networks with
            separate weights, and its output is their mean output.
        options: arguments of the function that builds the network; None keeps the default.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    network = MODELS[name]
    options = {key: value for key, value in options.items() if value is not None}
    if ensemble_size == 1:
        return Sequential([Input(IMAGE_SHAPE), *network(**options)], name=name)
    images = Input(IMAGE_SHAPE)
    ensemble = [
        Sequential(network(**options), name=f"{name}_{index}") for index in range(ensemble_size)
    ]
    return keras.Model(images, layers.Average()([member(images) for member in ensemble]), name=name)


def convolution_block(
    filters: int, *pooling: layers.Layer, strides: int = 1, activation: str = "relu", **options
) -> Layers:
    """Return a 3 × 3 convolution, pooling if given, batch normalisation and the activation."""
    return [
        Conv2D(filters, 3, strides, "same", **options),
        *pooling,
        BatchNormalization(momentum=MOMENTUM),
        Activation(activation),
    ]


def dropout_cnn(
    dropout: float = 0.5, l2: float = 0.0, width: float = 1, batch_norm: bool = False
) -> Layers:
    """Return a network as in most tutorials: two convolutions, two dense layers, dropout."""
    penalty = regularizers.L2(l2) if l2 else None
    network = [
        Conv2D(round(32 * width), 3, activation="relu", kernel_regularizer=penalty),
        MaxPooling2D(),
        Conv2D(round(64 * width), 3, activation="relu", kernel_regularizer=penalty),
        MaxPooling2D(),
        Dropout(dropout / 2),
        Flatten(),
        Dense(round(128 * width), activation="relu", kernel_regularizer=penalty),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]
    return with_batch_norm(network, (Conv2D, Dense)) if batch_norm else network


def batchnorm_cnn(
    dropout: float = 0.4, l2: float = 0.0, width: float = 1, batch_norm: bool = True
) -> Layers:
    """Return two convolutions and two dense layers with batch normalisation and dropout."""
    penalty = regularizers.L2(l2) if l2 else None
    options = {"use_bias": not batch_norm, "kernel_regularizer": penalty}
    network = [
        *convolution_block(round(32 * width), MaxPooling2D(), **options),
        Dropout(dropout / 2),
        *convolution_block(round(64 * width), MaxPooling2D(), **options),
        Dropout(dropout / 2),
        Flatten(),
        Dense(round(128 * width), **options),
        BatchNormalization(momentum=MOMENTUM),
        Activation("relu"),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]
    return network if batch_norm else without_batch_norm(network)


def gap_cnn(
    dropout: float = 0.3,
    l2: float = 0.0,
    width: float = 1,
    batch_norm: bool = True,
    convolutions: int = 3,
) -> Layers:
    """Return one to four convolutions, each with twice the filters, and global average pooling."""
    penalty = regularizers.L2(l2) if l2 else None
    options = {"use_bias": not batch_norm, "kernel_regularizer": penalty}
    network = []
    for index in range(convolutions):
        filters = round(32 * 2**index * width)
        network += convolution_block(filters, MaxPooling2D(), **options)
        network.append(Dropout(dropout / 2))
    network += [
        GlobalAveragePooling2D(),
        Dense(round(128 * width), activation="relu", kernel_regularizer=penalty),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]
    return network if batch_norm else without_batch_norm(network)


def lenet_l2(
    dropout: float = 0.3, l2: float = 1e-4, width: float = 1, batch_norm: bool = False
) -> Layers:
    """Return LeNet-5 (LeCun et al., 1998) with ReLU, max pooling, more filters, L2 and dropout."""
    penalty = regularizers.L2(l2) if l2 else None
    network = [
        Conv2D(round(20 * width), 5, padding="same", activation="relu", kernel_regularizer=penalty),
        MaxPooling2D(),
        Conv2D(round(50 * width), 5, activation="relu", kernel_regularizer=penalty),
        MaxPooling2D(),
        Dropout(dropout / 2),
        Flatten(),
        Dense(round(120 * width), activation="relu", kernel_regularizer=penalty),
        Dropout(dropout),
        Dense(round(84 * width), activation="relu", kernel_regularizer=penalty),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]
    return with_batch_norm(network, Conv2D) if batch_norm else network


def allconv_cnn(
    dropout: float = 0.0, l2: float = 0.0, width: float = 1, batch_norm: bool = True
) -> Layers:
    """Return an all-convolutional network, the most accurate one for a minute of training.

    The first of its five convolutions is not trained: its filters whiten the pixels. Strided
    convolutions replace most of the pooling, which saves three quarters of their computation.
    Springenberg et al., "Striving for Simplicity", https://arxiv.org/abs/1412.6806
    """
    penalty = regularizers.L2(l2) if l2 else None
    options = {"use_bias": not batch_norm, "kernel_regularizer": penalty}

    def block(filters: int, strides: int = 1) -> Layers:
        return convolution_block(round(filters * width), strides=strides, **options)

    network = [
        Rescaling(1 / PIXEL_STD, offset=-PIXEL_MEAN / PIXEL_STD),
        Conv2D(18, 3, padding="same", use_bias=False, trainable=False, name="whitening"),
        MaxPooling2D(),
        Activation("relu"),
        *block(32),
        *block(32, strides=2),
        Dropout(dropout / 2),
        *block(64),
        *block(64, strides=2),
        Flatten(),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]
    return network if batch_norm else without_batch_norm(network)


def deep_cnn(
    dropout: float = 0.0, l2: float = 0.0, width: float = 1, batch_norm: bool = True
) -> Layers:
    """Return the most accurate network: whitening, seven convolutions, overlapping max pooling."""
    penalty = regularizers.L2(l2) if l2 else None
    options = {"use_bias": not batch_norm, "kernel_regularizer": penalty}

    def block(filters: int, *pooling: layers.Layer) -> Layers:
        return convolution_block(round(filters * width), *pooling, activation="silu", **options)

    network = [
        Rescaling(1 / PIXEL_STD, offset=-PIXEL_MEAN / PIXEL_STD),
        Conv2D(18, 3, padding="same", use_bias=False, trainable=False, name="whitening"),
        Activation("silu"),
        *block(24, MaxPooling2D(3, strides=2, padding="same")),
        *block(32),
        *block(32),
        *block(48, MaxPooling2D(3, strides=2, padding="same")),
        Dropout(dropout / 2),
        *block(64),
        *block(64),
        *block(96, MaxPooling2D(3, strides=2)),  # 7 × 7 to 3 × 3, all pixels used
        Flatten(),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]
    return network if batch_norm else without_batch_norm(network)


def resnet(dropout: float = 0.0, l2: float = 0.0, width: float = 1) -> Layers:
    """Return a residual network of 20 layers with pre-activation.

    He et al., "Identity Mappings in Deep Residual Networks", https://arxiv.org/abs/1603.05027
    """
    penalty = regularizers.L2(l2) if l2 else None
    options = {"use_bias": False, "kernel_initializer": "he_normal", "kernel_regularizer": penalty}
    stages = [round(filters * width) for filters in (16, 32, 64)]

    def activated(maps: keras.KerasTensor) -> keras.KerasTensor:
        return Activation("relu")(BatchNormalization(momentum=MOMENTUM)(maps))

    maps = images = Input((28, 28, stages[0]))
    for stage, filters in enumerate(stages):
        for block in range(3):
            inputs = activated(maps)
            shortcut = maps if block > 0 else inputs
            strides = 2 if stage > 0 and block == 0 else 1
            if strides == 2:
                shortcut = Conv2D(filters, 1, strides, "same", **options)(shortcut)
            outputs = Conv2D(filters, 3, strides, "same", **options)(inputs)
            outputs = Conv2D(filters, 3, 1, "same", **options)(activated(outputs))
            maps = layers.Add()([outputs, shortcut])
    return [
        Rescaling(1 / PIXEL_STD, offset=-PIXEL_MEAN / PIXEL_STD),
        Conv2D(stages[0], 3, padding="same", **options),
        keras.Model(images, activated(maps), name="residual_blocks"),
        GlobalAveragePooling2D(),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]


def mobilenet(dropout: float = 0.3, width: float = 1) -> Layers:
    """Return MobileNetV2 (https://arxiv.org/abs/1801.04381) for images padded to 32 × 32."""
    return [
        layers.ZeroPadding2D(2),
        # Repeat the grey values in three channels.
        Conv2D(3, 1, use_bias=False, kernel_initializer="ones", trainable=False),
        Rescaling(2, offset=-1),
        mobilenet_backbone(width),
        Dropout(dropout),
        Dense(10, activation="softmax", name="classifier"),
    ]


NETWORKS = dropout_cnn, batchnorm_cnn, gap_cnn, lenet_l2, allconv_cnn, deep_cnn, resnet, mobilenet
MODELS = {network.__name__: network for network in NETWORKS}
