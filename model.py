"""The convolutional networks by name: MODELS and build_model(); and the same ones in a hurry.

    model = build_model("dropout_cnn")
    twin = training_twin(model, seed, step)           trains the same weights in less time
    probabilities = predictor(model)(image)           one image in a fraction of a millisecond

Each takes images (N, 28, 28, 1) with values in [0, 1] and returns probabilities (N, 10).
All are stock Keras layers, so a saved model opens with keras.models.load_model anywhere.
"""

import functools
import itertools
import os
import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import Input, Sequential, layers, regularizers

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10
PIXEL_MEAN, PIXEL_DEVIATION = 0.2860, 0.3530  # of the training images
FROZEN, FROZEN_SIZE = "whitening", 3  # name and kernel size of the first layer that whiten() makes
PATCHED_IMAGES = 5000  # so many of them, at most, does it look at
MOMENTUM = 0.9  # of batch normalisation: Keras' 0.99 needs more steps to settle than an epoch has
ZERO = np.float32(0)


def build_model(name, members=1, **options):
    """Return the named network, not yet compiled.

    members: number of such networks side by side, each with its own weights, whose mean is the answer.
    options: those of the network's own function; with None it keeps its own value.
        dropout: rate before the last layer; the convolutional part drops half as many.
        l2: factor of the penalty on the square of every kernel.
        width: factor of the numbers of filters and units.
        batch_norm: whether it follows the convolutions, and the dense layer of dropout_cnn and batchnorm_cnn.
        convolutions: number of them, of gap_cnn.
    None of them changes the frozen first layer of allconv_cnn and deep_cnn, which needs whiten() before a training.
    Raises ValueError for an unknown name, TypeError for an option that the network does not have.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(MODELS)}")
    chosen = {key: value for key, value in options.items() if value is not None}
    if members == 1:
        return Sequential([Input(IMAGE_SHAPE), *MODELS[name](**chosen)], name=name)
    images = Input(IMAGE_SHAPE)
    networks = [Sequential(MODELS[name](**chosen), name=f"{name}_{number}") for number in range(members)]
    return keras.Model(images, layers.Average()([network(images) for network in networks]), name=name)


def draw_weights(model, seed):
    """Draw all kernels anew, as their layers say, by `seed` alone.

    Keras draws by Python's global generator, from which any other thread may draw in between, as those of Dask do.
    """
    for number, layer in enumerate(layer for layer in layers_of(model) if hasattr(layer, "kernel")):
        initializer = getattr(layer, "depthwise_initializer", getattr(layer, "kernel_initializer", None))
        if "seed" in (config := initializer.get_config()):
            drawn = np.random.SeedSequence((seed, number)).generate_state(1)[0] // 2
            layer.kernel.assign(type(initializer).from_config(config | {"seed": int(drawn)})(layer.kernel.shape))


def whiten(model, images):
    """Set the filters of the frozen first layer of every member, where it has one, by images (N, 28, 28, 1) in [0, 1].

    They are the principal components of patches, scaled so that their answers vary alike, and their negatives.
    Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", https://arxiv.org/abs/2404.00498
    """
    frozen = [layer for layer in layers_of(model) if layer.name == FROZEN]
    if not frozen:
        return
    pixels = (images[:PATCHED_IMAGES, ..., 0] - PIXEL_MEAN) / PIXEL_DEVIATION
    patches = np.lib.stride_tricks.sliding_window_view(pixels, (FROZEN_SIZE, FROZEN_SIZE), axis=(1, 2))
    patches = patches.reshape(-1, FROZEN_SIZE ** 2)
    variances, components = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = components / np.sqrt(variances + 0.01)  # what varies less is mostly noise
    for layer in frozen:
        layer.kernel.assign(np.concatenate([filters, -filters], axis=1).reshape(layer.kernel.shape))


def layers_of(model):
    """Return all layers, in the models in the model as well."""
    return [each for layer in model.layers for each in (layers_of(layer) if isinstance(layer, keras.Model) else [layer])]


def members_of(model):
    """Return the networks whose mean is the answer of a model of build_model."""
    return [layer for layer in model.layers if isinstance(layer, Sequential)] or [model]


def dropout_cnn(dropout=0.5, l2=0.0, width=1, batch_norm=False):
    """Two convolutions, two dropouts: the network of most tutorials."""
    return [
        *convolution(32 * width, 3, l2, pooling=layers.MaxPooling2D(), batch_norm=batch_norm),
        *convolution(64 * width, 3, l2, pooling=layers.MaxPooling2D(), batch_norm=batch_norm),
        layers.Dropout(dropout / 2),
        layers.Flatten(),
        *dense(128 * width, l2, batch_norm),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def batchnorm_cnn(dropout=0.4, l2=0.0, width=1, batch_norm=True):
    """Two blocks of convolution, batch normalisation and dropout, then a dense layer."""
    return [
        *convolution(32 * width, 3, l2, padding="same", pooling=layers.MaxPooling2D(), batch_norm=batch_norm),
        layers.Dropout(dropout / 2),
        *convolution(64 * width, 3, l2, padding="same", pooling=layers.MaxPooling2D(), batch_norm=batch_norm),
        layers.Dropout(dropout / 2),
        layers.Flatten(),
        *dense(128 * width, l2, batch_norm),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def gap_cnn(dropout=0.3, l2=0.0, width=1, batch_norm=True, convolutions=3):
    """Batch-normalised blocks, each of twice the filters, then the mean of every channel instead of a flattened map.

    convolutions: number of blocks, from 1 to 4.
    """
    blocks = [[*convolution(32 * 2 ** number * width, 3, l2, padding="same", pooling=layers.MaxPooling2D(),
                            batch_norm=batch_norm),
               layers.Dropout(dropout / 2)] for number in range(convolutions)]
    return [
        *(layer for block in blocks for layer in block),
        layers.GlobalAveragePooling2D(),
        *dense(128 * width, l2),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def lenet_l2(dropout=0.3, l2=1e-4, width=1, batch_norm=False):
    """LeNet-5 with ReLU, max-pooling, more filters, and L2 and dropout against overfitting.

    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
    """
    return [
        *convolution(20 * width, 5, l2, padding="same", pooling=layers.MaxPooling2D(), batch_norm=batch_norm),
        *convolution(50 * width, 5, l2, pooling=layers.MaxPooling2D(), batch_norm=batch_norm),
        layers.Dropout(dropout / 2),
        layers.Flatten(),
        *dense(120 * width, l2),
        layers.Dropout(dropout),
        *dense(84 * width, l2),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def allconv_cnn(dropout=0.0, l2=0.0, width=1, batch_norm=True):
    """Five convolutions and nothing else, four of them learnt: the most accurate for a minute of training.

    Springenberg and others, "Striving for Simplicity: The All Convolutional Net", https://arxiv.org/abs/1412.6806
    A stride computes a quarter of what pooling would; but pooling the first maps, through which nothing goes back,
    costs little.
    """
    def block(filters, **options):
        return convolution(filters * width, 3, l2, padding="same", batch_norm=batch_norm, **options)

    return [
        standardisation(),
        *frozen_block(layers.MaxPooling2D()),
        *block(32),
        *block(32, stride=2),
        layers.Dropout(dropout / 2),
        *block(64),
        *block(64, stride=2),
        layers.Flatten(),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def deep_cnn(dropout=0.0, l2=0.0, width=1, batch_norm=True):
    """Eight convolutions with SiLU, seven of them learnt: the most accurate that a few minutes or an hour can train.

    Pools overlap, so that less depends on the very pixel where something is.
    """
    def block(filters, pooling=None):
        return convolution(filters * width, 3, l2, padding="same", pooling=pooling, batch_norm=batch_norm,
                           activation="silu")

    def overlapping(padding):
        # On the last maps, of 7 × 7, "valid" leaves nothing out and makes 3 × 3.
        return layers.MaxPooling2D(3, strides=2, padding=padding)

    return [
        standardisation(),
        *frozen_block(activation="silu"),
        *block(24, overlapping("same")),
        *block(32),
        *block(32),
        *block(48, overlapping("same")),
        layers.Dropout(dropout / 2),
        *block(64),
        *block(64),
        *block(96, overlapping("valid")),
        layers.Flatten(),
        layers.Dropout(dropout),
        classifier(l2),
    ]


def mobilenet(dropout=0.3, width=1):
    """MobileNetV2 as Keras Applications has it, on images enlarged to 32 × 32 by a black margin, in three channels.

    Sandler and others, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", https://arxiv.org/abs/1801.04381
    Its weights are drawn by chance; load_backbone() gives it those of borrowed_weights().
    """
    backbone = backbone_of(width)
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM ** 0.5  # as the twin's halves of a batch both count
    return [
        layers.ZeroPadding2D(2),  # not Resizing, after which all layers train unless they are told not to
        layers.Conv2D(3, 1, use_bias=False, kernel_initializer="ones", trainable=False),  # the same grey three times
        layers.Rescaling(2, offset=-1),
        backbone,
        layers.Dropout(dropout),
        classifier(l2=0),
    ]


def backbone_of(width, weights=None):
    return keras.applications.MobileNetV2((32, 32, 3), alpha=width, include_top=False, weights=weights, pooling="avg")


def borrowed_weights(width, weights):
    """Return ImageNet's weights of the backbone, for "imagenet", or those in a file.

    Raises ValueError where they cannot be had or are of another network.
    """
    if weights != "imagenet" and not os.path.isfile(weights):
        raise ValueError(f"the weights {weights} cannot be had (there is no such file)")
    try:
        with warnings.catch_warnings(action="ignore"):  # that ImageNet has larger images
            return backbone_of(width, weights).get_weights()
    except Exception as error:  # whatever a damaged file, or a network that is not there, makes Keras raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the weights {weights} cannot be had ({reason})") from None


def load_backbone(model, borrowed):
    """Give every member of a `mobilenet` the borrowed weights."""
    for network in members_of(model):
        backbone, = (layer for layer in network.layers if isinstance(layer, keras.Model))
        backbone.set_weights(borrowed)


MODELS = {build.__name__: build for build in
          (dropout_cnn, batchnorm_cnn, gap_cnn, lenet_l2, allconv_cnn, deep_cnn, mobilenet)}


def standardisation():
    """Return a layer after which the pixels of the training images have mean 0 and deviation 1."""
    return layers.Rescaling(1 / PIXEL_DEVIATION, offset=-PIXEL_MEAN / PIXEL_DEVIATION)


def frozen_block(pooling=None, activation="relu"):
    """Return the layers of a first block that is not trained, so that nothing goes back to the largest maps.

    Its filters are random until whiten() sets them.
    """
    return [layers.Conv2D(2 * FROZEN_SIZE ** 2, FROZEN_SIZE, padding="same", use_bias=False, trainable=False,
                          name=FROZEN),
            *([pooling] if pooling else []), layers.Activation(activation)]


def convolution(filters, size, l2, padding="valid", stride=1, pooling=None, batch_norm=False, activation="relu"):
    """Return the layers of one block: convolution, pooling, batch normalisation, activation.

    With ReLU, max-pooling first is the same function, as max(relu(x)) = relu(max(x)), on a quarter of the pixels.
    """
    block = [layers.Conv2D(whole(filters), size, strides=stride, padding=padding, use_bias=not batch_norm,
                           kernel_regularizer=penalty(l2))]
    if pooling:
        block.append(pooling)
    return block + normalised(batch_norm, activation)


def dense(units, l2, batch_norm=False):
    return [layers.Dense(whole(units), use_bias=not batch_norm, kernel_regularizer=penalty(l2)),
            *normalised(batch_norm)]


def whole(number):
    return max(round(number), 1)


def normalised(batch_norm, activation="relu"):
    return [layers.BatchNormalization(momentum=MOMENTUM)] * batch_norm + [layers.Activation(activation)]


def classifier(l2):
    return layers.Dense(CLASSES, activation="softmax", kernel_regularizer=penalty(l2), name="classifier")


def penalty(l2):
    return regularizers.L2(l2) if l2 else None


# The same networks, trained in less time. What follows is never saved.

def training_twin(model, seed, step, focus=None):
    """Return a network on the very weights of `model`, the same function, that trains faster.

    Batch normalisation takes its means and variances from each half of a batch by itself.

    seed, step: two integers, the second a variable that grows with every batch, as an
        optimizer's `iterations` does. They decide what dropout drops.
    focus: a focus.Focus that is told the losses of images; the batches are then those that data.batches makes with it.
    """
    return Halves(*([faster_network(network, (seed, 2 * number + half), step)
                     for number, network in enumerate(members_of(model))] for half in range(2)), focus)


def faster_network(model, seed, step):
    """Return a network on the weights of `model` that computes the same with less. seed: two integers."""
    faster, waiting = [Input(IMAGE_SHAPE), layers.Cropping2D(((0, unseen_rows(model)), (0, 0)))], list(model.layers)
    dropouts = itertools.count()
    while waiting:
        layer = waiting.pop(0)
        if isinstance(layer, layers.Conv2D) and pools_tiles(waiting[0]):
            layer = PooledConvolution(layer, waiting.pop(0))
        elif isinstance(layer, layers.BatchNormalization):
            layer = FusedBatchNormalization(layer, layer.momentum ** 0.5)  # as there are two halves to a step
        elif isinstance(layer, layers.Dropout):
            layer = ByteDropout(layer.rate, (seed[0], 1000 * seed[1] + next(dropouts)), step)
        faster.append(layer)
    return Sequential(faster)


class Halves(keras.Model):
    """All members twice, on the same weights: a half of the images and a core for each, and no waiting in between.

    In training every member learns by itself: what is called gives the answers of one after the other.
    """

    def __init__(self, first, second, focus):
        super().__init__()
        self.first, self.second, self.focus = first, second, focus

    def call(self, images, training=False):
        if isinstance(images, tuple):
            images, _ = images
        count = tf.shape(images)[0]
        # A single image goes both ways, as nothing has no mean, and the second answer is cut off.
        halves = images[:tf.maximum(count // 2, 1)], images[count // 2:]
        answers = [tf.concat([network(half, training=training) for network, half in zip(pair, halves)], axis=0)[:count]
                   for pair in zip(self.first, self.second)]
        return tf.concat(answers, axis=0) if training else tf.add_n(answers) / len(answers)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y, sample_weight = (self._for_every_answer(values, y_pred) for values in (y, sample_weight))
        if isinstance(x, tuple):
            losses = tf.reshape(keras.losses.categorical_crossentropy(y, y_pred), (len(self.first), -1))
            self.focus.note(x[1], tf.reduce_mean(losses, axis=0))
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y, sample_weight = (self._for_every_answer(values, y_pred) for values in (y, sample_weight))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _for_every_answer(self, values, answers):
        if len(self.first) == 1 or values is None:
            return values
        times = tf.shape(answers)[0] // tf.shape(values)[0]
        return tf.tile(values, [times] + [1] * (len(values.shape) - 1))


def pools_tiles(layer):
    """Return whether a layer is a max-pooling of parts that do not overlap, and leaves out what fills no part."""
    return isinstance(layer, layers.MaxPooling2D) and layer.pool_size == layer.strides and layer.padding == "valid"


def unseen_rows(model):
    """Return how many of the last rows of pixels nothing depends on, as pooling leaves out an odd last row.

    There are as many columns, but oneDNN is slower on the narrower maps.
    """
    maps = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D))]
    if any(layer.padding == "same" for layer in maps):
        return 0

    def rows_left(rows):
        shape = (1, rows, *IMAGE_SHAPE[1:])
        for layer in maps:
            shape = layer.compute_output_shape(shape)
        return shape[1]

    rows = IMAGE_SHAPE[0]
    while rows_left(rows - 1) == rows_left(IMAGE_SHAPE[0]):
        rows -= 1
    return IMAGE_SHAPE[0] - rows


class PooledConvolution(layers.Layer):
    """Convolution and pooling: what pooling leaves out of a padded map, an odd last row and column, is not computed.

    As max(x) + b = max(x + b), the bias is added to a quarter of the pixels.
    """

    def __init__(self, convolution, pooling):
        super().__init__()
        self.convolution, self.pooling = convolution, pooling

    def call(self, images):
        layer, padding = self.convolution, self.convolution.padding
        odd = images.shape[1] % 2
        if padding == "same" and odd:
            before, after = (layer.kernel_size[0] - 1) // 2, layer.kernel_size[0] // 2 - odd
            images, padding = tf.pad(images, [(0, 0), (before, after), (before, after), (0, 0)]), "valid"
        maps = self.pooling(keras.ops.conv(images, layer.kernel, padding=padding))
        return maps + layer.bias if layer.use_bias else maps


class FusedBatchNormalization(layers.Layer):
    """Batch normalisation by one operation, where Keras takes many."""

    def __init__(self, keras_layer, momentum):
        super().__init__()
        self.keras_layer, self.momentum = keras_layer, momentum

    def call(self, values, training=False):
        layer = self.keras_layer
        if not training:
            return layer(values)
        maps = values if len(values.shape) == 4 else values[:, None, None]
        maps, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=maps, scale=layer.gamma, offset=layer.beta, mean=[], variance=[], epsilon=layer.epsilon)
        # The operation divides the squares by one less than their number, Keras by their number.
        count = tf.cast(tf.size(maps) // maps.shape[-1], variance.dtype)
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance * (count - 1) / count)):
            moving.assign(self.momentum * moving + (1 - self.momentum) * batch)
        return tf.reshape(maps, tf.shape(values))


class ByteDropout(layers.Layer):
    """Dropout that draws a byte for every value, where Keras draws a float: the rate is one of 256."""

    def __init__(self, rate, seed, step):
        super().__init__()
        self.dropped, self.seed, self.step = min(round(256 * rate), 255), seed, step

    def call(self, values, training=False):
        if not training or not self.dropped:
            return values
        count = tf.size(values)
        seed = tf.random.fold_in(tf.constant(self.seed), self.step.value)
        words = tf.random.stateless_uniform([-(-count // 4)], seed, None, None, tf.int32)
        kept = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count] >= self.dropped
        scale = 256 / (256 - self.dropped)
        return values * tf.reshape(tf.cast(kept, values.dtype) * scale, tf.shape(values))


# One image at a time, in NumPy: TensorFlow takes longer to be called than to compute so little.

def predictor(model):
    """Return a function of one image (28, 28, 1) that gives its probabilities (10,), as model.predict does.

    A network that is not of those here, and has what NumPy does not have here, is compiled by TensorFlow.
    """
    try:
        predictors = [network_predictor(network) for network in members_of(model)]
        if members_of(model) != [model] and not isinstance(model.layers[-1], layers.Average):
            raise TypeError("no mean of networks")
    except TypeError:
        compiled = tf.function(model, input_signature=[tf.TensorSpec((1, *IMAGE_SHAPE))])
        return lambda image: compiled(image[None])[0].numpy()
    if len(predictors) == 1:
        return predictors[0]
    return lambda image: sum(predict(image) for predict in predictors) / np.float32(len(predictors))


def network_predictor(model):
    steps, waiting = [], [layer for layer in model.layers if not isinstance(layer, layers.Dropout)]
    for layer in waiting:
        check_kind(layer)
    while waiting:
        layer = waiting.pop(0)
        if isinstance(layer, layers.Conv2D):
            tiles = pools_tiles(waiting[0])
            steps.append(numpy_convolution(layer, pool=waiting.pop(0).pool_size[0] if tiles else 1))
        elif isinstance(layer, layers.MaxPooling2D):
            steps.append(numpy_pooling(layer))
        else:
            steps.append(numpy_layer(layer))

    def predict(image):
        for step in steps:
            image = step(image)
        return image

    return predict


def check_kind(layer):
    """Raise TypeError for a layer that does more, or other things, than those of the networks here."""
    config = layer.get_config()
    wanted = {layers.Conv2D: {"activation": "linear", "groups": 1, "dilation_rate": (1, 1)},
              layers.BatchNormalization: {"scale": True, "center": True, "axis": -1}}.get(type(layer), {})
    square = all(len(set(config[key])) == 1 for key in ("kernel_size", "strides", "pool_size") if key in config)
    if not square or any(config[key] != value for key, value in wanted.items()):
        raise TypeError(f"no NumPy for this {type(layer).__name__}")


def numpy_layer(layer):
    """Return the layer as a function of one image. Raises TypeError for a kind that no network here has."""
    weights = [np.asarray(weight) for weight in layer.weights]
    if isinstance(layer, layers.Dense):
        kernel, bias = weights if layer.use_bias else (*weights, np.float32(0))
        kernel = np.asfortranarray(kernel)  # one output's weights after the other are read faster
        if layer.activation not in (keras.activations.linear, keras.activations.softmax):
            raise TypeError(f"no NumPy for {layer.activation}")
        softmax = layer.activation is keras.activations.softmax
        return lambda values: numpy_softmax(values @ kernel + bias) if softmax else values @ kernel + bias
    if isinstance(layer, layers.BatchNormalization):
        gamma, beta, mean, variance = weights
        scale = gamma / np.sqrt(variance + layer.epsilon)
        shift = beta - mean * scale
        return lambda values: values * scale + shift
    if isinstance(layer, layers.Rescaling):
        scale, shift = np.float32(layer.scale), np.float32(layer.offset)
        return lambda image: image * scale + shift
    # In place, as what comes before is a new array in every network here.
    kinds = {keras.activations.relu: lambda values: np.maximum(values, ZERO, out=values),
             keras.activations.silu: lambda values: np.divide(values, 1 + np.exp(-values), out=values),
             layers.Flatten: np.ravel,
             layers.GlobalAveragePooling2D: lambda maps: maps.mean(axis=(0, 1)),
             layers.GlobalMaxPooling2D: lambda maps: maps.max(axis=(0, 1))}
    kind = layer.activation if isinstance(layer, layers.Activation) else type(layer)
    if kind not in kinds:
        raise TypeError(f"no NumPy for {type(layer).__name__}")
    return kinds[kind]


def numpy_convolution(layer, pool):
    """Return a convolution and the max-pooling of pool × pool pixels after it as a function of maps.

    It gathers a window of pixels for every pixel to come, in one block for each place in the pools, and
    multiplies all by the kernel: what is pooled lies one block apart, and what pooling leaves out is not computed.
    """
    kernel = np.asarray(layer.kernel)
    size, _, channels, filters = kernel.shape
    matrix, bias = kernel.reshape(-1, filters), np.asarray(layer.bias) if layer.use_bias else np.float32(0)
    _, rows, columns, _ = layer.input.shape
    stride, pixel = layer.strides[0], np.arange(rows * columns).reshape(rows, columns)
    if layer.padding == "same":
        pixel = np.pad(pixel, [margin(length, -(-length // stride), size, stride) for length in pixel.shape],
                       constant_values=pixel.size)  # of a zero behind the last one
    windows = np.lib.stride_tricks.sliding_window_view(pixel, (size, size))[::stride, ::stride]
    height, width = windows.shape[0] // pool, windows.shape[1] // pool
    windows = np.ascontiguousarray([windows[i:height * pool:pool, j:width * pool:pool]
                                    for i in range(pool) for j in range(pool)])
    zero = np.zeros((1, channels), np.float32)

    def convolve(maps):
        pixels = maps.reshape(-1, channels)
        if layer.padding == "same":
            pixels = np.concatenate([pixels, zero])
        # mode="clip" spares a check that takes as long as the gathering.
        pixels = pixels.take(windows, axis=0, mode="clip").reshape(-1, len(matrix)) @ matrix
        maps = np.maximum.reduce(pixels.reshape(pool * pool, height, width, filters))
        maps += bias
        return maps

    return convolve


def margin(before, after, size, stride):
    """Return how much padding before and behind makes so many pixels of so many."""
    missing = max((after - 1) * stride + size - before, 0)
    return missing // 2, missing - missing // 2


def numpy_pooling(layer):
    """Return a max-pooling of parts that overlap as a function of maps.

    Where a part reaches beyond the maps it has their last pixel twice, which changes no maximum.
    """
    size, stride = layer.pool_size[0], layer.strides[0]

    def places(before, after):
        first = np.arange(after) * stride - margin(before, after, size, stride)[0]
        return [np.clip(first + offset, 0, before - 1) for offset in range(size)]

    rows, columns = map(places, layer.input.shape[1:3], layer.output.shape[1:3])

    def pool(maps):
        maps = functools.reduce(np.maximum, [maps.take(each, axis=0) for each in rows])
        return functools.reduce(np.maximum, [maps.take(each, axis=1) for each in columns])

    return pool


def numpy_softmax(values):
    powers = np.exp(values - np.maximum.reduce(values))
    return powers / np.add.reduce(powers)
