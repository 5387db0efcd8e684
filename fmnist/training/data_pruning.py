"""Which images an epoch trains on: the hard ones every time, the easy ones in turn.

Qin and others, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
https://arxiv.org/abs/2303.04947
"""

import keras
import tensorflow as tf

EASY = 0.75  # share of the images


class Focus:
    """Knows the last loss of every training image.

    losses: variable (count,); 0 for an image that was not trained on yet.
    size: number of images of an epoch.
    """

    def __init__(self, count, easy_every):
        """easy_every: the EASY share of images, those of the lowest losses, trains in each such epoch."""
        self.easy, self.every = int(EASY * count), easy_every
        self.kept = self.easy // easy_every
        self.size = count - self.easy + self.kept
        self.losses = keras.Variable(tf.zeros(count), trainable=False)

    def choose(self, epoch):
        """Return numbers, turns and weights, each (size,), of the images of an epoch.

        turns: how often an image has had its turn, if it was as easy or hard as now all the time.
        weights: of mean one; the easy images count as much as if all of them were there.
        """
        rank = tf.argsort(self.losses.value, stable=True)
        easy, hard = rank[:self.easy], rank[self.easy:]
        easy = tf.gather(easy, tf.argsort((easy + epoch) % self.every, stable=True)[:self.kept])
        weights = tf.concat([tf.fill([self.kept], float(self.every)), tf.ones(tf.shape(hard))], axis=0)
        return (tf.concat([easy, hard], axis=0), tf.concat([(easy + epoch) // self.every, hard + epoch], axis=0),
                weights / tf.reduce_mean(weights))

    def note(self, numbers, losses):
        self.losses.value.scatter_update(tf.IndexedSlices(losses, numbers))
