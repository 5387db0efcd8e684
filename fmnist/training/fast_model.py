"""The accelerated training model: the same function and weights, in half of the time.

    fast_model = accelerate(model, seed, step)
    fast_model.compile(...); fast_model.fit(...)      trains the weights of `model`

What it does differently: each half of a batch is computed on a core of its own; pooling comes
before the bias and ReLU, on a quarter of the elements; what pooling leaves out is not computed;
batch normalisation is one fused operation, and dropout draws a byte for a value. It is never saved.
"""

import itertools

import keras
import tensorflow as tf
from keras import Sequential, layers

from fmnist.networks import can_pool_first, members_of
from fmnist.training.data_pruning import DataPruning

Batch = tf.Tensor | tuple[tf.Tensor, tf.Tensor]  # images, with data pruning and their indices


def accelerate(
    model: keras.Model, seed: int, step: keras.Variable, pruning: DataPruning | None = None
) -> "SplitBatchModel":
    """Return a model on the weights of `model` that computes the same and trains faster.

    In training, batch normalisation takes its means and variances from each half of a batch by
    itself.

    Args:
        model: of model.build_model().
        seed: with `step`, it decides what dropout drops.
        step: a variable that grows with every batch, as an optimizer's `iterations` does.
        pruning: is given the losses of the images; the batches are then those that data.batches()
            makes with it.
    """
    members = members_of(model)
    halves = [
        [
            accelerated_network(member, (seed, 2 * index + half), step)
            for index, member in enumerate(members)
        ]
        for half in range(2)
    ]
    return SplitBatchModel(*halves, pruning)


def accelerated_network(
    model: keras.Model, seed: tuple[int, int], step: keras.Variable
) -> Sequential:
    """Return a network on the weights of `model` that computes the same with less."""
    accelerated = [
        keras.Input(model.input_shape[1:]),
        layers.Cropping2D(((0, unused_rows(model)), (0, 0))),
    ]
    remaining, dropouts = list(model.layers), itertools.count()
    while remaining:
        layer = remaining.pop(0)
        if isinstance(layer, layers.Conv2D) and remaining and can_pool_first(layer, remaining[0]):
            accelerated.append(PooledConvolution(layer, remaining.pop(0)))
            if layer.activation is not keras.activations.linear:
                accelerated.append(layers.Activation(layer.activation))
        elif isinstance(layer, layers.BatchNormalization):
            # The momentum of a step is shared by its two halves.
            accelerated.append(FusedBatchNormalization(layer, layer.momentum**0.5))
        elif isinstance(layer, layers.Dropout):
            accelerated.append(
                ByteDropout(layer.rate, (seed[0], 1000 * seed[1] + next(dropouts)), step)
            )
        else:
            accelerated.append(layer)
    return Sequential(accelerated)


class SplitBatchModel(keras.Model):
    """Every ensemble member twice, on the same weights: each half of a batch has a core.

    In training every member learns by itself: the output is that of one member after the other.
    """

    def __init__(
        self, first: list[keras.Model], second: list[keras.Model], pruning: DataPruning | None
    ) -> None:
        """Put the two networks of every member side by side.

        Args:
            first: a network for every member, for the first half of a batch.
            second: the same for the second half.
            pruning: receives the losses of the images; None without data pruning.
        """
        super().__init__()
        self.first, self.second, self.pruning = first, second, pruning

    def compile(self, *arguments, **options) -> None:
        """Compile as Keras does, and make the variables of the metrics.

        A step that makes any is traced twice.
        """
        super().compile(*arguments, **options)
        one_output = tf.zeros((1, *self.first[0].output_shape[1:]))
        self.compute_metrics(None, one_output, one_output)

    def call(self, images: Batch, training: bool = False) -> tf.Tensor:
        """Return the outputs of all members, or their mean where it is not training."""
        if isinstance(images, tuple):
            images, _ = images
        count = tf.shape(images)[0]
        # A single image goes into both halves, as nothing has no mean, and the second output is
        # cut off.
        halves = images[: tf.maximum(count // 2, 1)], images[count // 2 :]
        outputs = [
            tf.concat(
                [
                    network(half, training=training)
                    for network, half in zip(pair, halves, strict=True)
                ],
                axis=0,
            )[:count]
            for pair in zip(self.first, self.second, strict=True)
        ]
        return tf.concat(outputs, axis=0) if training else tf.add_n(outputs) / len(outputs)

    def compute_loss(
        self,
        x: Batch | None = None,
        y: tf.Tensor | None = None,
        y_pred: tf.Tensor | None = None,
        sample_weight: tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Return the loss, and give the losses of the images to the data pruning."""
        y, sample_weight = (self._for_every_member(values, y_pred) for values in (y, sample_weight))
        if isinstance(x, tuple):
            losses = tf.reshape(
                keras.losses.categorical_crossentropy(y, y_pred), (len(self.first), -1)
            )
            self.pruning.record(x[1], tf.reduce_mean(losses, axis=0))
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Batch, y: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Return the metrics over the outputs of all members."""
        y, sample_weight = (self._for_every_member(values, y_pred) for values in (y, sample_weight))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _for_every_member(self, values: tf.Tensor | None, outputs: tf.Tensor) -> tf.Tensor | None:
        if len(self.first) == 1 or values is None:
            return values
        times = tf.shape(outputs)[0] // tf.shape(values)[0]
        return tf.tile(values, [times] + [1] * (len(values.shape) - 1))


def unused_rows(model: keras.Model) -> int:
    """Return how many of the last rows of pixels nothing depends on.

    Pooling leaves out an odd last row. There are as many columns, but oneDNN is slower on the
    narrower maps.
    """
    maps = [
        layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D))
    ]
    if any(layer.padding == "same" for layer in maps):
        return 0
    height, width, channels = model.input_shape[1:]

    def output_rows(rows: int) -> int:
        shape = (1, rows, width, channels)
        for layer in maps:
            shape = layer.compute_output_shape(shape)
        return shape[1]

    rows = height
    while output_rows(rows - 1) == output_rows(height):
        rows -= 1
    return height - rows


class PooledConvolution(layers.Layer):
    """Convolution and pooling, without what pooling leaves out: an odd last row and column.

    As max(x) + b = max(x + b), the bias is added to a quarter of the pixels. The activation is left
    to the next layer.
    """

    def __init__(self, convolution: layers.Conv2D, pooling: layers.MaxPooling2D) -> None:
        super().__init__()
        self.convolution, self.pooling = convolution, pooling

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Return the pooled maps with their bias."""
        layer, padding = self.convolution, self.convolution.padding
        odd = images.shape[1] % 2
        if padding == "same" and odd:
            before, after = (layer.kernel_size[0] - 1) // 2, layer.kernel_size[0] // 2 - odd
            images = tf.pad(images, [(0, 0), (before, after), (before, after), (0, 0)])
            padding = "valid"
        maps = self.pooling(keras.ops.conv(images, layer.kernel, padding=padding))
        return maps + layer.bias if layer.use_bias else maps


class FusedBatchNormalization(layers.Layer):
    """Batch normalisation by one operation, where Keras takes many."""

    def __init__(self, keras_layer: layers.BatchNormalization, momentum: float) -> None:
        super().__init__()
        self.keras_layer, self.momentum = keras_layer, momentum

    def call(self, values: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return normalised values, and update the moving averages in training."""
        layer = self.keras_layer
        if not training:
            return layer(values)
        maps = values if len(values.shape) == 4 else values[:, None, None]
        maps, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=maps,
            scale=layer.gamma,
            offset=layer.beta,
            mean=[],
            variance=[],
            epsilon=layer.epsilon,
        )
        # The operation divides the squares by one less than their number, Keras by their number.
        count = tf.cast(tf.size(maps) // maps.shape[-1], variance.dtype)
        for moving, batch in (
            (layer.moving_mean, mean),
            (layer.moving_variance, variance * (count - 1) / count),
        ):
            moving.assign(self.momentum * moving + (1 - self.momentum) * batch)
        return tf.reshape(maps, tf.shape(values))


class ByteDropout(layers.Layer):
    """Dropout that draws a byte for every value, not a float: the rate is a multiple of 1/256."""

    def __init__(self, rate: float, seed: tuple[int, int], step: keras.Variable) -> None:
        super().__init__()
        self.dropped, self.seed, self.step = min(round(256 * rate), 255), seed, step

    def call(self, values: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the values, in training with some of them 0 and the others scaled."""
        if not training or not self.dropped:
            return values
        count = tf.size(values)
        seed = tf.random.fold_in(tf.constant(self.seed), self.step.value)
        words = tf.random.stateless_uniform([-(-count // 4)], seed, None, None, tf.int32)
        kept = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count] >= self.dropped
        scale = 256 / (256 - self.dropped)
        return values * tf.reshape(tf.cast(kept, values.dtype) * scale, tf.shape(values))
