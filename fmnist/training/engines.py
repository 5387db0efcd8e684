"""The engines of a training: fast, for CPUs, and plain, for any device; and mixed precision."""

import contextlib
import dataclasses
from collections.abc import Iterator

import keras
import tensorflow as tf

from fmnist import cli, runtime
from fmnist.config import TrainConfig
from fmnist.networks import layers_of
from fmnist.training.data_pruning import DataPruning
from fmnist.training.fast_model import accelerate
from fmnist.training.plain_model import plain


def choose(config: TrainConfig) -> TrainConfig:
    """Return the config with the engine that it uses: `auto` is `plain` on a GPU, else `fast`."""
    if config.engine != "auto":
        return config
    engine = "plain" if tf.config.list_physical_devices("GPU") else "fast"
    return dataclasses.replace(config, engine=engine)


def training_model(
    model: keras.Model, config: TrainConfig, step: keras.Variable, pruning: DataPruning | None
) -> keras.Model:
    """Return the model to fit, which shares the weights of `model`.

    Args:
        model: network from model.build_model(), built within precision().
        config: all settings; choose() has chosen the engine.
        step: variable that increases with every batch, such as `iterations` of an optimizer.
        pruning: data pruning; None without it.
    """
    classify_in_float32(model)
    if config.engine == "plain":
        return plain(model, config.seed, pruning)
    return accelerate(model, config.seed, step, pruning)


@contextlib.contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """Build layers that compute in mixed precision within the context, or in float32.

    The weights are float32 in both cases.

    Raises:
        UserError: the device does not support mixed precision.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(mixed_policy() if mixed else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def mixed_policy() -> str:
    """Return the name of the mixed precision policy for this device. Raises UserError."""
    if tf.config.list_physical_devices("GPU"):
        return "mixed_float16"
    if runtime.processor_kind() == "bfloat16":
        return "mixed_bfloat16"
    raise cli.UserError(
        "--mixed-precision needs a GPU, or a processor with AVX512_BF16 or AMX; leave it out"
    )


def classify_in_float32(model: keras.Model) -> None:
    """Let the last layer of every network compute in float32, also in mixed precision.

    Its softmax would lose most of the digits of small probabilities. Keras documentation, "Mixed
    precision".
    """
    for layer in layers_of(model):
        if layer.name == "classifier":
            layer.dtype_policy = keras.DTypePolicy("float32")
