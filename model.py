"""The convolutional networks by name: MODELS and build_model().

    model = build_model("dropout_cnn")

Each takes images (N, 28, 28, 1) with values in [0, 1] and returns probabilities (N, 10).
All are stock Keras layers, so a saved model opens with keras.models.load_model anywhere.
"""

from keras import Input, Sequential, layers, regularizers

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10


def build_model(name, dropout=None, l2=None):
    """Return the named network, not yet compiled.

    dropout: rate before the last layer; the convolutional part drops half as many.
    l2: factor of the penalty on the square of every kernel.
    None keeps the network's own value. Raises ValueError for an unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(MODELS)}")
    chosen = {key: value for key, value in {"dropout": dropout, "l2": l2}.items() if value is not None}
    return Sequential([Input(IMAGE_SHAPE), *MODELS[name](**chosen)], name=name)


def dropout_cnn(dropout=0.5, l2=0.0):
    """Two convolutions, two dropouts: the network of most tutorials."""
    return [
        *convolution(32, 3, l2, pool=True),
        *convolution(64, 3, l2, pool=True),
        layers.Dropout(dropout / 2),
        layers.Flatten(),
        *dense(128, l2),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def batchnorm_cnn(dropout=0.4, l2=0.0):
    """Two blocks of convolution, batch normalisation and dropout, then a dense layer."""
    return [
        *convolution(32, 3, l2, padding="same", pool=True, batch_norm=True),
        layers.Dropout(dropout / 2),
        *convolution(64, 3, l2, padding="same", pool=True, batch_norm=True),
        layers.Dropout(dropout / 2),
        layers.Flatten(),
        *dense(128, l2, batch_norm=True),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def gap_cnn(dropout=0.3, l2=0.0):
    """Three batch-normalised blocks, then the mean of every channel instead of a flattened map."""
    return [
        *convolution(32, 3, l2, padding="same", pool=True, batch_norm=True),
        layers.Dropout(dropout / 2),
        *convolution(64, 3, l2, padding="same", pool=True, batch_norm=True),
        layers.Dropout(dropout / 2),
        *convolution(128, 3, l2, padding="same", pool=True, batch_norm=True),
        layers.Dropout(dropout / 2),
        layers.GlobalAveragePooling2D(),
        *dense(128, l2),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def lenet_l2(dropout=0.3, l2=1e-4):
    """LeNet-5 with ReLU, max-pooling, more filters, and L2 and dropout against overfitting.

    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
    """
    return [
        *convolution(20, 5, l2, padding="same", pool=True),
        *convolution(50, 5, l2, pool=True),
        layers.Dropout(dropout / 2),
        layers.Flatten(),
        *dense(120, l2),
        layers.Dropout(dropout),
        *dense(84, l2),
        layers.Dropout(dropout),
        classifier(l2),
    ]


MODELS = {build.__name__: build for build in (dropout_cnn, batchnorm_cnn, gap_cnn, lenet_l2)}


def convolution(filters, size, l2, padding="valid", pool=False, batch_norm=False):
    """Return the layers of one block: convolution, 2×2 max-pooling, batch normalisation, ReLU.

    Pooling first is the same function, as max(relu(x)) = relu(max(x)), on a quarter of the pixels.
    """
    block = [layers.Conv2D(filters, size, padding=padding, use_bias=not batch_norm,
                           kernel_regularizer=penalty(l2))]
    if pool:
        block.append(layers.MaxPooling2D())
    return block + normalised_relu(batch_norm)


def dense(units, l2, batch_norm=False):
    return [layers.Dense(units, use_bias=not batch_norm, kernel_regularizer=penalty(l2)),
            *normalised_relu(batch_norm)]


def normalised_relu(batch_norm):
    # The default momentum of 0.99 needs more steps to settle than an epoch has.
    return [layers.BatchNormalization(momentum=0.9)] * batch_norm + [layers.ReLU()]


def classifier(l2):
    return layers.Dense(CLASSES, activation="softmax", kernel_regularizer=penalty(l2))


def penalty(l2):
    return regularizers.L2(l2) if l2 else None
