"""The optimizer of a config, Muon for convolutions, and the one-cycle schedule."""

import math

import keras
import tensorflow as tf

from fmnist.config import TrainConfig

WARM_UP, START = 0.2, 0.04  # shares of the steps, and of the highest rate


def build_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of a config, with schedule, weight decay and averaging."""
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
    """Return a rate, or a schedule that spans all epochs and ends at zero."""
    peak, steps = config.learning_rate, config.epochs * steps_per_epoch
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    if config.schedule == "one-cycle":
        return OneCycle(peak, steps)
    return peak


class ConvolutionMuon(keras.optimizers.Muon):
    """Muon for convolution kernels, as matrices (height · width · inputs, outputs).

    Keras' own sends them to AdamW. Every step of a kernel has singular values of about the same
    size: what a few directions of the gradient would drown is learned as well. AdamW moves biases,
    scales and the layers in `exclude_layers`, by the same rate.

    Muon: Jordan and others, https://kellerjordan.github.io/posts/muon/
    The size of a step, so that AdamW's rates suit: Liu and others, https://arxiv.org/abs/2502.16982
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return len(variable.shape) < 2 or any(
            layer in variable.path for layer in self.exclude_layers
        )

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        """Return the nearest semi-orthogonal matrix to a kernel."""
        matrix = tf.reshape(x, (-1, x.shape[-1]))
        return tf.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: tf.Tensor) -> tf.Tensor:
        """Return a step in the size that suits AdamW's rates."""
        return x * self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1]))


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises in a straight line to `peak` and falls to zero in another.

    Smith, Topin, "Super-Convergence", https://arxiv.org/abs/1708.07120
    """

    def __init__(self, peak: float, steps: int) -> None:
        super().__init__()
        self.peak, self.steps = peak, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step."""
        done = tf.cast(step, tf.float32) / self.steps
        return self.peak * tf.minimum(
            START + (1 - START) * done / WARM_UP, (1 - done) / (1 - WARM_UP)
        )

    def get_config(self) -> dict[str, float]:
        """Return the arguments of the constructor."""
        return {"peak": self.peak, "steps": self.steps}
