"""TensorFlow's settings: fast on a CPU, quiet and repeatable."""

import contextlib
import functools
import os
import sys
import traceback
import types
import warnings
from collections.abc import Iterator

from fmnist import cli


def configure_tensorflow(seed: int | None = None, concurrent_operations: int | None = None) -> None:
    """Import TensorFlow and Keras, fast and quiet; with a seed, also repeatable.

    What the user set in the environment counts. Where TensorFlow is running before, as in a
    notebook, what can still be set is set, and one warning names the rest.

    Args:
        seed: of Python, NumPy and TensorFlow.
        concurrent_operations: number of operations that share the cores, each keeping to its own;
            None leaves it to TensorFlow.

    Raises:
        UserError: where Keras does not start, or runs on another backend.
    """
    was_running = "tensorflow" in sys.modules
    too_late = []
    # TensorFlow leaves oneDNN off on CPUs without AVX-512, where it trains up to twice as fast.
    if was_running and "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
        too_late.append("oneDNN is as TensorFlow has it")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    threads = (
        thread_counts(available_cores(), concurrent_operations) if concurrent_operations else {}
    )
    to_set = {name: count for name, count in threads.items() if name not in os.environ}
    os.environ.update(to_set)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    keras, tf = _import_quietly()
    if was_running and to_set:
        try:
            tf.config.threading.set_inter_op_parallelism_threads(
                int(threads["TF_NUM_INTEROP_THREADS"])
            )
            tf.config.threading.set_intra_op_parallelism_threads(
                int(threads["TF_NUM_INTRAOP_THREADS"])
            )
        except RuntimeError:  # it has computed something
            too_late.append("its threads are as they were")
    if too_late:
        _warn_once(
            f"TensorFlow was running before: {' and '.join(too_late)}, so that training may take "
            "longer. Restart Python and start with this project to avoid it."
        )
    if keras.config.backend() != "tensorflow":
        raise cli.UserError(
            f"Keras runs on {keras.config.backend()}; restart Python with KERAS_BACKEND=tensorflow"
        )
    # A keras.json may say otherwise.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    if seed is not None:
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_counts(cores: int, concurrent_operations: int) -> dict[str, str]:
    """Return the environment in which TensorFlow lets so many operations share so many cores."""
    concurrent_operations = min(concurrent_operations, cores)
    return {
        "TF_NUM_INTEROP_THREADS": str(concurrent_operations),
        "TF_NUM_INTRAOP_THREADS": str(cores // concurrent_operations),
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TensorFlow's messages off standard error, unless the user asked for them.

    They are written from C++ before the log level counts, so the file descriptor itself is moved.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        yield
        return
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _import_quietly() -> tuple[types.ModuleType, types.ModuleType]:
    """Return the modules keras and tensorflow. Raises UserError where a keras.json stops Keras."""
    try:
        with quiet():
            import tensorflow as tf

            tf.config.list_physical_devices()
        import keras

        return keras, tf
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        # Keras' and TensorFlow's.
        readers = (
            os.path.join("backend", "config.py"),
            os.path.join("keras", "backend.py"),
        )
        if not frame.f_code.co_filename.endswith(readers):
            raise
        path = os.path.join(
            os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "keras.json"
        )
        raise cli.UserError(
            f"Keras does not start with the settings in {path}; mend or remove it"
        ) from None


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
