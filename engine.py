"""The settings that TensorFlow needs before its first import, in one place.

A script imports this before all else, so that a missing package is one line and no traceback, and
calls `start()` once it has read its options, so that `--help` need not wait.
"""

import contextlib
import importlib.util
import os

NEEDED = ("tensorflow", "keras", "numpy", "sklearn", "matplotlib")
missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
if missing:
    raise SystemExit(f"not installed: {', '.join(missing)}; try: python -m pip install -r requirements.txt")


def start(seed=None):
    """Import TensorFlow, fast and quiet; with a seed, make all that it computes repeatable.

    What the user set in the environment wins, but for Keras' backend, which has to be TensorFlow.
    """
    # TensorFlow leaves oneDNN off on CPUs without AVX-512, where it trains up to twice as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _quiet_start_up():
        import tensorflow as tf
        tf.config.list_physical_devices()
    import keras

    # A keras.json in the user's home may say otherwise.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    if seed is not None:
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _quiet_start_up():
    """Keep TensorFlow's chatter about missing GPUs off stderr, unless the user asked for it.

    It is written from C++ before the log level counts, so the file descriptor itself is moved.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        yield
        return
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
