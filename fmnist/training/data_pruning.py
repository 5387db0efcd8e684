"""Data pruning: an epoch trains on all hard images and on the easy ones in turn.

Qin and others, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
https://arxiv.org/abs/2303.04947
"""

import keras
import tensorflow as tf

EASY_SHARE = 0.75  # of the images


class DataPruning:
    """The last loss of every training image, and the choice of an epoch's images by it.

    Attributes:
        losses: variable (count,); 0 for an image that was not trained on yet.
        size: number of images of an epoch.
    """

    def __init__(self, count: int, every: int) -> None:
        """Start without losses.

        The easy images, EASY_SHARE of all, those of the lowest losses, train in every n-th epoch.
        """
        self.easy, self.every = int(EASY_SHARE * count), every
        self.kept = self.easy // every
        self.size = count - self.easy + self.kept
        self.losses = keras.Variable(tf.zeros(count), trainable=False)

    def choose(self, epoch: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return indices, turns and weights, each (size,), of the images of an epoch.

        turns: how often an image has been trained on, if it was as easy or hard as now all the
            time.
        weights: of mean one; the easy images count as much as if all of them were there.
        """
        rank = tf.argsort(self.losses.value, stable=True)
        easy, hard = rank[: self.easy], rank[self.easy :]
        easy = tf.gather(easy, tf.argsort((easy + epoch) % self.every, stable=True)[: self.kept])
        weights = tf.concat(
            [tf.fill([self.kept], float(self.every)), tf.ones(tf.shape(hard))], axis=0
        )
        return (
            tf.concat([easy, hard], axis=0),
            tf.concat([(easy + epoch) // self.every, hard + epoch], axis=0),
            weights / tf.reduce_mean(weights),
        )

    def record(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        """Keep the losses (B,) of the images of a batch."""
        self.losses.value.scatter_update(tf.IndexedSlices(losses, indices))
