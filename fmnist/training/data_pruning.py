"""Data pruning: an epoch uses all hard images, but only every n-th easy image.

The easy images are those with the lowest losses. In n epochs, every easy image is used once.

Qin and others, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
https://arxiv.org/abs/2303.04947
"""

import keras
import tensorflow as tf

EASY_FRACTION = 0.75  # fraction of the images that are easy


def prune(count: int, every: int) -> "DataPruning | None":
    """Return the DataPruning of `count` training images; None if every epoch uses all images."""
    return DataPruning(count, every) if every > 1 else None


class DataPruning:
    """The last loss of every training image, and the selection of the images of an epoch.

    Attributes:
        losses: variable (count,) with the last loss of every image; 0 if it was never used.
        size: number of images in an epoch.
    """

    def __init__(self, count: int, every: int) -> None:
        """Create the variables, with losses of 0.

        Args:
            count: number of training images.
            every: number of epochs in which every easy image is used once.
        """
        self.easy, self.every = int(EASY_FRACTION * count), every
        self.kept = self.easy // every
        self.size = count - self.easy + self.kept
        with tf.device("CPU"):  # the input pipeline, which selects the images, runs on the CPU
            self.losses = keras.Variable(tf.zeros(count), trainable=False)

    def choose(self, epoch: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Select the images of an epoch.

        Returns:
            indices: indices of the selected images (size,).
            turns: integers (size,), see augmentation.augment(). The turn of an image increases by
                one each time the image is used, as long as it stays easy or stays hard.
            weights: sample weights (size,) with a mean of 1. The selected easy images together
                weigh as much as all easy images would.
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
        """Save the losses (B,) of the images with these indices (B,)."""
        self.losses.value.scatter_update(tf.IndexedSlices(losses, indices))
