"""The convolutional networks, in plain Keras layers: MODELS, and build_model() by name.

    model = build_model("dropout_cnn")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

Each takes images (N, 28, 28, 1) with values in [0, 1] and returns class probabilities (N, 10). All
layers are Keras' own, so that a saved model opens with keras.models.load_model anywhere.

`dropout` is the rate before the last layer (half of it between convolutions), `l2` the strength of
L2 regularisation, `width` a factor of the numbers of filters and units, and `batch_norm` says
whether batch normalisation follows the convolutions.
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
from fmnist.source import PIXEL_DEVIATION, PIXEL_MEAN

IMAGE_SHAPE = (28, 28, 1)
Layers = list[layers.Layer]


def build_model(name: str, ensemble_size: int = 1, **options: float | bool | None) -> keras.Model:
    """Return a network of MODELS, not yet compiled.

    Args:
        name: a key of MODELS. Raises ValueError for another one.
        ensemble_size: number of such networks, with weights of their own, whose mean output counts.
        options: arguments of the network's function; None leaves its default.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(MODELS)}")
    network = MODELS[name]
    options = {key: value for key, value in options.items() if value is not None}
    if ensemble_size == 1:
        return Sequential([Input(IMAGE_SHAPE), *network(**options)], name=name)
    images = Input(IMAGE_SHAPE)
    ensemble = [
        Sequential(network(**options), name=f"{name}_{index}") for index in range(ensemble_size)
    ]
    return keras.Model(images, layers.Average()([member(images) for member in ensemble]), name=name)


def dropout_cnn(
    dropout: float = 0.5, l2: float = 0.0, width: float = 1, batch_norm: bool = False
) -> Layers:
    """Two convolutions, two dropouts: the network of most tutorials."""
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
    """Two convolutions and a dense layer, each with batch normalisation and dropout."""
    penalty, use_bias = regularizers.L2(l2) if l2 else None, not batch_norm
    network = [
        Conv2D(round(32 * width), 3, padding="same", use_bias=use_bias, kernel_regularizer=penalty),
        MaxPooling2D(),
        BatchNormalization(momentum=MOMENTUM),
        Activation("relu"),
        Dropout(dropout / 2),
        Conv2D(round(64 * width), 3, padding="same", use_bias=use_bias, kernel_regularizer=penalty),
        MaxPooling2D(),
        BatchNormalization(momentum=MOMENTUM),
        Activation("relu"),
        Dropout(dropout / 2),
        Flatten(),
        Dense(round(128 * width), use_bias=use_bias, kernel_regularizer=penalty),
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
    """One to four convolutions, each of twice the filters, then global average pooling."""
    penalty = regularizers.L2(l2) if l2 else None
    network = []
    for index in range(convolutions):
        filters = round(32 * 2**index * width)
        network += [
            Conv2D(filters, 3, padding="same", use_bias=not batch_norm, kernel_regularizer=penalty),
            MaxPooling2D(),
            BatchNormalization(momentum=MOMENTUM),
            Activation("relu"),
            Dropout(dropout / 2),
        ]
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
    """LeNet-5 (LeCun and others, 1998) with ReLU, max-pooling, more filters, L2 and dropout."""
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
    """Five convolutions, four of them trained: the most accurate for a minute of training.

    Springenberg and others, "Striving for Simplicity", https://arxiv.org/abs/1412.6806
    A stride computes a quarter of what pooling would; the first maps have no gradient and cost
    little.
    """
    penalty = regularizers.L2(l2) if l2 else None

    def block(filters: int, strides: int = 1) -> Layers:
        filters = round(filters * width)
        return [
            Conv2D(
                filters, 3, strides, "same", use_bias=not batch_norm, kernel_regularizer=penalty
            ),
            BatchNormalization(momentum=MOMENTUM),
            Activation("relu"),
        ]

    network = [
        Rescaling(1 / PIXEL_DEVIATION, offset=-PIXEL_MEAN / PIXEL_DEVIATION),
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
    """Eight convolutions, seven of them trained, and overlapping pools: the most accurate."""
    penalty = regularizers.L2(l2) if l2 else None

    def block(filters: int, *pooling: layers.Layer) -> Layers:
        filters = round(filters * width)
        return [
            Conv2D(filters, 3, padding="same", use_bias=not batch_norm, kernel_regularizer=penalty),
            *pooling,
            BatchNormalization(momentum=MOMENTUM),
            Activation("silu"),
        ]

    network = [
        Rescaling(1 / PIXEL_DEVIATION, offset=-PIXEL_MEAN / PIXEL_DEVIATION),
        Conv2D(18, 3, padding="same", use_bias=False, trainable=False, name="whitening"),
        Activation("silu"),
        *block(24, MaxPooling2D(3, strides=2, padding="same")),
        *block(32),
        *block(32),
        *block(48, MaxPooling2D(3, strides=2, padding="same")),
        Dropout(dropout / 2),
        *block(64),
        *block(64),
        *block(96, MaxPooling2D(3, strides=2)),  # makes 3 × 3 of 7 × 7 and leaves nothing out
        Flatten(),
        Dropout(dropout),
        Dense(10, activation="softmax", kernel_regularizer=penalty, name="classifier"),
    ]
    return network if batch_norm else without_batch_norm(network)


def mobilenet(dropout: float = 0.3, width: float = 1) -> Layers:
    """MobileNetV2 (https://arxiv.org/abs/1801.04381) on images of 32 × 32 in three channels."""
    backbone = mobilenet_backbone(width)
    for layer in backbone.layers:
        if isinstance(layer, BatchNormalization):
            layer.momentum = MOMENTUM**0.5  # in training, both halves of a batch count
    return [
        layers.ZeroPadding2D(2),
        # The same grey three times.
        Conv2D(3, 1, use_bias=False, kernel_initializer="ones", trainable=False),
        Rescaling(2, offset=-1),
        backbone,
        Dropout(dropout),
        Dense(10, activation="softmax", name="classifier"),
    ]


MODELS = {
    network.__name__: network
    for network in (dropout_cnn, batchnorm_cnn, gap_cnn, lenet_l2, allconv_cnn, deep_cnn, mobilenet)
}
