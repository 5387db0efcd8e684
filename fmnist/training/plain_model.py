"""The training model of the engine `plain`: the network as it is, for any device.

plain_model = plain(model, seed)
plain_model.compile(...)
plain_model.fit(...)      trains the weights of `model`
"""

import keras
import numpy as np
import tensorflow as tf

from fmnist.networks import layers_of, members_of
from fmnist.training.data_pruning import DataPruning

Batch = tf.Tensor | tuple[tf.Tensor, tf.Tensor]  # images; with data pruning, also their indices


def plain(model: keras.Model, seed: int, pruning: DataPruning | None = None) -> keras.Model:
    """Return a model that shares the layers of `model`.

    For a network that is not an ensemble, without data pruning, it is a stock keras.Model.

    Args:
        model: network from model.build_model().
        seed: random seed of dropout.
        pruning: data pruning that records the losses of the images. The batches must then come from
            data.batches() with the same object.
    """
    for index, state in enumerate(dropout_states(model)):
        state.assign(np.random.SeedSequence((seed, index)).generate_state(2).astype(state.dtype))
    members = members_of(model)
    if members == [model] and not pruning:
        return keras.Model(model.inputs, model.outputs)
    return MemberwiseModel(members, pruning)


def dropout_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the random generators of all dropout layers, shape (2,) each."""
    return [
        layer.seed_generator.state for layer in layers_of(model) if hasattr(layer, "seed_generator")
    ]


class MemberwiseModel(keras.Model):
    """A model that trains every ensemble member with its own loss, and supports data pruning.

    In training, the output (members · N, 10) is the concatenation of the outputs of all members,
    and labels and sample weights are repeated to match. In inference, the output (N, 10) is the
    mean over the members.
    """

    def __init__(self, members: list[keras.Model], pruning: DataPruning | None) -> None:
        """Create the model.

        Args:
            members: the networks; a list of one network that is not an ensemble.
            pruning: data pruning that records the losses of the images; None without data pruning.
        """
        super().__init__()
        self.members, self.pruning = members, pruning

    def compile(self, *arguments, **options) -> None:
        """Compile the model, and create the variables of the metrics.

        Otherwise the first training step would create them and would be traced twice. XLA cannot
        compile the step, because data pruning keeps its losses on the CPU.
        """
        super().compile(*arguments, jit_compile=False, **options)
        one_output = tf.zeros((1, *self.members[0].output_shape[1:]))
        self.compute_metrics(None, one_output, one_output)

    def call(self, images: Batch, training: bool = False) -> tf.Tensor:
        """Return the outputs of all members in training, otherwise their mean."""
        if isinstance(images, tuple):
            images, _ = images
        outputs = self.member_outputs(images, training)
        return tf.concat(outputs, axis=0) if training else tf.add_n(outputs) / len(outputs)

    def member_outputs(self, images: tf.Tensor, training: bool) -> list[tf.Tensor]:
        """Return the output (N, 10) of every member for images (N, 28, 28, 1)."""
        return [member(images, training=training) for member in self.members]

    def compute_loss(
        self,
        x: Batch | None = None,
        y: tf.Tensor | None = None,
        y_pred: tf.Tensor | None = None,
        sample_weight: tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Return the loss, and record the losses of the images for data pruning."""
        y, sample_weight = (self._for_every_member(values, y_pred) for values in (y, sample_weight))
        if isinstance(x, tuple):
            losses = tf.reshape(
                keras.losses.categorical_crossentropy(y, y_pred), (len(self.members), -1)
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
        """Return labels or sample weights, repeated as often as the outputs contain members."""
        if len(self.members) == 1 or values is None:
            return values
        repeats = tf.shape(outputs)[0] // tf.shape(values)[0]
        return tf.tile(values, [repeats] + [1] * (len(values.shape) - 1))
