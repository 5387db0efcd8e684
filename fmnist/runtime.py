"""What every script needs around its work: TensorFlow's settings, and how it speaks when it ends.

A script imports this before all else, so that a missing package is one line and no traceback, reads
its options with a `Parser`, does its work under `exit_code()`, and calls `start()` in it, so that
`--help` need not wait for TensorFlow.
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
import traceback

NEEDED = ("tensorflow", "keras", "numpy", "sklearn", "matplotlib")
missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
if missing:
    raise SystemExit(f"not installed: {', '.join(missing)}; try: python -m pip install -r requirements.txt")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a script answers as it answers Ctrl-C."""


class Parser(argparse.ArgumentParser):
    """Options after a docstring, where a wrong one is answered with one line and exit code 2."""

    def __init__(self, docstring):
        super().__init__(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter,
                         allow_abbrev=False, usage=argparse.SUPPRESS)

    def error(self, message):
        super().error(one_line(message))


def path_option(text):
    """An argparse type: the empty name that an unset variable leaves would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name")
    return text


def exit_code(script, work, errors):
    """Call work() and return the exit code: 0, or 1, 130 or 143 with a line on stderr.

    errors: classes of exceptions that are the user's to mend, beside OSError and want of memory.
    """
    def terminate(number, frame):
        raise Terminated

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name can hold what no terminal can show
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        work()
        return 0
    except (*errors, OSError) as error:
        print(f"{script}: {one_line(error)}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"{script}: out of memory; close other programs", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"\n{one_line(interrupt) or 'Interrupted.'}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def one_line(message):
    """Return an exception, or a text, as one line."""
    if isinstance(message, OSError) and message.strerror:
        message = f"{message.filename}: {message.strerror}" if message.filename else message.strerror
    return " ".join(str(message).split("\n"))


def start(seed=None, at_once=None):
    """Import TensorFlow, fast and quiet; with a seed, make all that it computes repeatable.

    at_once: number of operations that share the cores, each keeping to its own; None leaves it to TensorFlow.
    What the user set in the environment wins, but for Keras' backend, which has to be TensorFlow.
    """
    # TensorFlow leaves oneDNN off on CPUs without AVX-512, where it trains up to twice as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if at_once:
        for name, number in threads(cores(), at_once).items():
            os.environ.setdefault(name, number)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with quiet():
            import tensorflow as tf
            tf.config.list_physical_devices()
        import keras
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        readers = os.path.join("backend", "config.py"), os.path.join("keras", "backend.py")  # Keras' and TensorFlow's
        if not frame.f_code.co_filename.endswith(readers):
            raise
        path = os.path.join(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "keras.json")
        raise OSError(f"Keras does not start with the settings in {path}; mend or remove it") from None

    # A keras.json may also say otherwise.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    if seed is not None:
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()


def cores():
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(cores, at_once):
    """Return the environment in which TensorFlow lets so many operations share so many cores."""
    at_once = min(at_once, cores)
    return {"TF_NUM_INTEROP_THREADS": str(at_once), "TF_NUM_INTRAOP_THREADS": str(cores // at_once)}


@contextlib.contextmanager
def output_to(path):
    """Append what is printed to a file, whose folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


@contextlib.contextmanager
def quiet():
    """Keep TensorFlow's chatter, about missing GPUs or conversions, off stderr, unless the user asked for it.

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
