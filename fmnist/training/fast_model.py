"""The accelerated training model: the same function and weights, computed faster.

    fast_model = accelerate(model, seed, step)
    fast_model.compile(...)
    fast_model.fit(...)      trains the weights of `model`

It differs from the original model as follows:
    - The two halves of a batch are computed in parallel.
    - Pooling comes before the bias and ReLU, which then have a quarter of the values to process.
    - Pixels that pooling ignores are not computed.
    - Batch normalisation is a single fused operation.
    - Dropout uses a random byte per value instead of a random float.

The accelerated model is never saved.
"""

import itertools

import keras
import tensorflow as tf
from keras import Sequential, layers

from fmnist.networks import can_pool_first, members_of
from fmnist.training.data_pruning import DataPruning
from fmnist.training.plain_model import MemberwiseModel


def accelerate(
    model: keras.Model, seed: int, step: keras.Variable, pruning: DataPruning | None = None
) -> "SplitBatchModel":
    """Return a model that shares the weights of `model`, computes the same and trains faster.

    One difference remains: in training, batch normalisation computes mean and variance over each
    half of a batch separately.

    Args:
        model: network from model.build_model().
        seed: random seed of dropout.
        step: variable that increases with every batch, such as `iterations` of an optimizer; with
            the seed, it determines which values dropout sets to zero.
        pruning: data pruning that records the losses of the images. The batches must then come from
            data.batches() with the same object.
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
    """Return a network that shares the weights of `model` and computes the same faster.

    Args:
        model: a network that is not an ensemble.
        seed: two integers, the random seed of dropout.
        step: see accelerate().
    """
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
            accelerated.append(fused(layer))
        elif isinstance(layer, keras.Model):  # such as residual blocks
            accelerated.append(with_fused_batch_norm(layer))
        elif isinstance(layer, layers.Dropout):
            accelerated.append(
                ByteDropout(layer.rate, (seed[0], 1000 * seed[1] + next(dropouts)), step)
            )
        else:
            accelerated.append(layer)
    return Sequential(accelerated)


def fused(layer: layers.Layer) -> layers.Layer:
    """Return fused batch normalisation for a layer of batch normalisation, others unchanged."""
    if not isinstance(layer, layers.BatchNormalization):
        return layer
    # Both halves of a batch update the moving averages, so each uses the square root.
    return FusedBatchNormalization(layer, layer.momentum**0.5)


def with_fused_batch_norm(model: keras.Model) -> keras.Model:
    """Return a model with the same layers, except for fused batch normalisation."""
    return keras.models.clone_model(
        model,
        clone_function=fused,
        # Keras passes a mask to layers of batch normalisation, which the fused ones do not accept.
        call_function=lambda layer, values, **options: layer(values),
    )


class SplitBatchModel(MemberwiseModel):
    """A model that computes the two halves of a batch in parallel.

    It contains two accelerated networks for every ensemble member, one for each half of a batch,
    which share the weights of the member.
    """

    def __init__(
        self, first: list[keras.Model], second: list[keras.Model], pruning: DataPruning | None
    ) -> None:
        """Create the model.

        Args:
            first: networks for the first half of a batch, one per ensemble member.
            second: networks for the second half of a batch, one per ensemble member.
            pruning: data pruning that records the losses of the images; None without data pruning.
        """
        super().__init__(first, pruning)
        self.second = second

    def member_outputs(self, images: tf.Tensor, training: bool) -> list[tf.Tensor]:
        """Return the output (N, 10) of every member for images (N, 28, 28, 1)."""
        count = tf.shape(images)[0]
        # A single image is used as both halves, because batch normalisation cannot compute the
        # mean of an empty half. The second output is then removed.
        halves = images[: tf.maximum(count // 2, 1)], images[count // 2 :]
        return [
            tf.concat(
                [
                    network(half, training=training)
                    for network, half in zip(pair, halves, strict=True)
                ],
                axis=0,
            )[:count]
            for pair in zip(self.members, self.second, strict=True)
        ]


def unused_rows(model: keras.Model) -> int:
    """Return the number of last pixel rows that do not affect the output.

    Non-overlapping pooling ignores an odd last row. The same holds for columns, but oneDNN is
    slower if the columns are removed as well.
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
    """Convolution, pooling and bias, without the activation.

    An odd last row and column, which the pooling ignores, are not computed. The bias is added after
    the pooling, to a quarter of the values, because max(x) + b = max(x + b).
    """

    def __init__(self, convolution: layers.Conv2D, pooling: layers.MaxPooling2D) -> None:
        super().__init__()
        self.convolution, self.pooling = convolution, pooling

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Return the pooled feature maps, bias included."""
        layer, padding = self.convolution, self.convolution.padding
        odd = images.shape[1] % 2
        if padding == "same" and odd:
            before, after = (layer.kernel_size[0] - 1) // 2, layer.kernel_size[0] // 2 - odd
            images = tf.pad(images, [(0, 0), (before, after), (before, after), (0, 0)])
            padding = "valid"
        maps = self.pooling(keras.ops.conv(images, layer.kernel, padding=padding))
        return maps + layer.bias if layer.use_bias else maps


class FusedBatchNormalization(layers.Layer):
    """Batch normalisation as a single operation, in float32; Keras uses several.

    Args:
        keras_layer: layer whose weights are used.
        momentum: momentum of the moving averages.
    """

    def __init__(self, keras_layer: layers.BatchNormalization, momentum: float) -> None:
        super().__init__(dtype="float32")  # also in mixed precision, like that of Keras
        self.keras_layer, self.momentum = keras_layer, momentum

    def call(self, values: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the normalised values; in training, also update the moving averages."""
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
        # The operation returns the unbiased variance (divisor count - 1); Keras uses the biased one
        # (divisor count).
        count = tf.cast(tf.size(maps) // maps.shape[-1], variance.dtype)
        for moving, batch in (
            (layer.moving_mean, mean),
            (layer.moving_variance, variance * (count - 1) / count),
        ):
            moving.assign(self.momentum * moving + (1 - self.momentum) * batch)
        return tf.reshape(maps, tf.shape(values))


class ByteDropout(layers.Layer):
    """Dropout with a random byte per value instead of a float.

    Args:
        rate: dropout rate, rounded to a multiple of 1/256.
        seed: two integers, the random seed.
        step: variable that changes the dropped values when it changes.
    """

    def __init__(self, rate: float, seed: tuple[int, int], step: keras.Variable) -> None:
        super().__init__()
        self.dropped, self.seed, self.step = min(round(256 * rate), 255), seed, step

    def call(self, values: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the values; in training, some are set to zero and the others scaled up."""
        if not training or not self.dropped:
            return values
        count = tf.size(values)
        seed = tf.random.fold_in(tf.constant(self.seed), self.step.value)
        words = tf.random.stateless_uniform([-(-count // 4)], seed, None, None, tf.int32)
        kept = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count] >= self.dropped
        scale = 256 / (256 - self.dropped)
        return values * tf.reshape(tf.cast(kept, values.dtype) * scale, tf.shape(values))
