"""The optimizers: Adam, Muon for convolutions too, and the learning rate schedules."""

import math

import keras
import tensorflow as tf

from fmnist.config import TrainConfig

# Of the one-cycle schedule: length of the warm-up as a fraction of all steps, and initial learning
# rate as a fraction of the peak.
WARM_UP, START = 0.2, 0.04


def build_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of a config, with its schedule, weight decay and weight averaging."""
    rate, decay = learning_rate(config, steps_per_epoch), config.weight_decay
    ema_steps = config.ema_epochs * steps_per_epoch
    averaging = dict(use_ema=ema_steps > 1, ema_momentum=1 - 1 / max(ema_steps, 1))
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay or None, **averaging)
    else:
        optimizer = ConvolutionMuon(
            rate,
            weight_decay=decay,
            adam_weight_decay=decay,
            momentum=0.9,
            exclude_layers=["classifier"],
            **averaging,
        )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def learning_rate(
    config: TrainConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate, or a schedule that ends at zero after the last epoch."""
    peak, steps = config.learning_rate, config.epochs * steps_per_epoch
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    if config.schedule == "one-cycle":
        return OneCycle(peak, steps)
    return peak


class ConvolutionMuon(keras.optimizers.Muon):
    """Muon for dense kernels, and for convolution kernels as (height · width · inputs, outputs).

    keras.optimizers.Muon applies AdamW to convolution kernels. Muon makes the singular values of
    every step about equal, so that directions with a small gradient are learned as well. AdamW
    updates biases, the parameters of batch normalisation and the layers in `exclude_layers`, with
    the same learning rate.

    Jordan and others, "Muon", https://kellerjordan.github.io/posts/muon/
    Liu and others, "Muon is Scalable for LLM Training", https://arxiv.org/abs/2502.16982, for the
    step size, which makes learning rates of AdamW suitable.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return len(variable.shape) < 2 or any(
            layer in variable.path for layer in self.exclude_layers
        )

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        """Return the approximately nearest semi-orthogonal matrix, in the shape of the kernel.

        Each step of the Newton-Schulz iteration multiplies the matrix X by a polynomial of XᵀX.
        keras.optimizers.Muon computes X after every step. Here, XᵀX and the product of the
        polynomials are computed, which are smaller, and X only at the end.

        Dao AI Lab, "Gram Newton-Schulz", https://dao-lab.ai/blog/2026/gram-newton-schulz
        """
        matrix = tf.reshape(x, (-1, x.shape[-1]))
        is_wide = matrix.shape[0] < matrix.shape[1]
        if is_wide:
            matrix = tf.transpose(matrix)
        matrix /= tf.norm(matrix) + 1e-7  # the singular values are then at most 1
        gram = tf.matmul(matrix, matrix, transpose_a=True)
        identity = product = tf.eye(matrix.shape[1], dtype=matrix.dtype)
        for _ in range(steps):
            factor = self.muon_a * identity + self.muon_b * gram + self.muon_c * gram @ gram
            product @= factor
            gram = factor @ gram @ factor
        matrix @= product
        return tf.reshape(tf.transpose(matrix) if is_wide else matrix, x.shape)

    def lr_adjust(self, x: tf.Tensor) -> tf.Tensor:
        """Return a step, scaled so that learning rates of AdamW are suitable."""
        return x * self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1]))


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to `peak` and then falls linearly to zero.

    Smith and Topin, "Super-Convergence", https://arxiv.org/abs/1708.07120

    Args:
        peak: highest learning rate.
        steps: number of training steps.
    """

    def __init__(self, peak: float, steps: int) -> None:
        super().__init__()
        self.peak, self.steps = peak, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step."""
        progress = tf.cast(step, tf.float32) / self.steps
        return self.peak * tf.minimum(
            START + (1 - START) * progress / WARM_UP, (1 - progress) / (1 - WARM_UP)
        )

    def get_config(self) -> dict[str, float]:
        """Return the arguments of the constructor."""
        return {"peak": self.peak, "steps": self.steps}
