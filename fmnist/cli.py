"""The parts that all commands share: argument parser, option types, exit codes, one-line errors.

This module imports only the standard library, so that `--help` is fast and a missing package
causes a one-line error.
"""

import argparse
import contextlib
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Import names of optional packages, and the extra of pyproject.toml that installs each.
EXTRAS = {
    "distributed": "sweeps",
    "optuna": "sweeps",
    "sqlalchemy": "sweeps",
    "skimage": "inspect",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "tf2onnx": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "ai_edge_litert": "export",
    "cleanlab": "inspect",
    "tensorboard": "tensorboard",
    "torch": "bench",
    "xgboost": "bench",
}
OWN_MODULES = (
    "fmnist",
    "tools",
    "benchmarks",
    "data",
    "model",
    "plots",
    "train_cnn",
    "evaluate_model",
)
# The message of commands that skip finished work when they are run again.
INTERRUPTED = "Interrupted. Run the same command again to resume; finished work is kept."
DATA_DIR_HELP = (
    "folder with the four data files (default: $FASHION_MNIST_DIR, else found or downloaded)"
)
INSTALL = "python -m pip install {} -c constraints.txt"
INSTALL_CORE = INSTALL.format("-r requirements.txt")
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class UserError(Exception):
    """An error that the user can correct.

    The message is one line: what is wrong, where, and what to do.
    """


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, which commands handle like Ctrl-C."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose description is a docstring and whose errors are one line."""

    def __init__(self, docstring: str) -> None:
        super().__init__(
            description=docstring,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            usage=argparse.SUPPRESS,
        )

    def error(self, message: str) -> None:
        """Print the message as one line and exit with code 2."""
        super().error(one_line(message))


# Option types.


def number(kind: type, low: float, below: float = math.inf) -> Callable[[str], float]:
    """Return an argparse type: an int or a float, at least `low` and below `below`."""

    def parse(text: str) -> float:
        return check_range(kind(text), low, below)

    parse.__name__ = kind.__name__  # argparse prints it in its error message
    return parse


def check_range(value: float, low: float, below: float = math.inf) -> float:
    """Return the value. Raises argparse.ArgumentTypeError if it is out of range or NaN."""
    if not low <= value < below:
        upper = f" and below {below:g}" if below < math.inf else ""
        raise argparse.ArgumentTypeError(f"must be at least {low:g}{upper}, not {value}")
    return value


def path(text: str) -> str:
    """Return a path. An argparse type.

    An empty path, for example from an unset shell variable, would mean the current folder and is
    rejected.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return text


def run_name(text: str) -> str:
    """Return the name of a run directory, a single path component. An argparse type."""
    if not RUN_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must consist of letters, digits and . _ + -, not {text!r}"
        )
    return text


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add `--run` and `--runs-dir`, which select the trained network."""
    parser.add_argument(
        "--run",
        type=path,
        metavar="RUN",
        help="run directory (default: the newest finished run, else pretrained/best)",
    )
    add_runs_dir(parser)


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--runs-dir`."""
    parser.add_argument(
        "--runs-dir",
        type=path,
        default="runs",
        metavar="DIR",
        help="folder that is searched for the newest run (default: %(default)s)",
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data-dir`."""
    parser.add_argument("--data-dir", type=path, metavar="DIR", help=DATA_DIR_HELP)


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add the argument PHOTOS, for commands that train on photographs."""
    parser.add_argument(
        "photos",
        type=path,
        metavar="PHOTOS",
        help="folder of labelled photographs, or a CSV file that names them",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add `--seed`."""
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**31),
        default=0,
        metavar="N",
        help="random seed (default: %(default)s)",
    )


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add `--val-size` and `--limit`, for commands that train several networks."""
    parser.add_argument(
        "--val-size",
        type=number(float, 0),
        metavar="SIZE",
        help="size of the validation set: a number of images, or a fraction below 1 "
        "(default: 5000)",
    )
    parser.add_argument(
        "--limit",
        type=number(int, 1),
        metavar="N",
        help="use only this many images for training and validation together (default: all 60,000)",
    )


def sizes(options: argparse.Namespace) -> dict[str, float]:
    """Return those settings of add_sizes() that were given."""
    given = {"val_size": options.val_size, "limit": options.limit}
    return {name: value for name, value in given.items() if value is not None}


# Exit codes and messages.


def exit_code(script: str, work: Callable[[], None], interrupted: str | None = None) -> int:
    """Call `work` and return the exit code: 0 (success), 1 (error), 130 (Ctrl-C) or 143 (SIGTERM).

    Errors that the user can correct are printed on standard error as one line: UserError, OSError,
    MemoryError and missing packages. Other exceptions are defects and propagate.

    Args:
        script: name of the command, which starts an error line.
        work: function that does the work of the command.
        interrupted: message on Ctrl-C and SIGTERM; None for that of the KeyboardInterrupt.
    """

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    open_standard_streams()
    if hasattr(sys.stdout, "reconfigure"):
        # File names may contain characters that the terminal cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Python allows signal handlers in the main thread only.
    handles_signals = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if handles_signals else None
    try:
        work()
        flush_output()
        return 0
    except (UserError, OSError) as error:
        with contextlib.suppress(OSError):
            flush_output()
        print(f"{script}: {one_line(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OWN_MODULES:
            raise
        print(f"{script}: {not_installed(error.name)}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"{script}: out of memory; close other programs and try again", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupted or one_line(interrupt) or 'Interrupted.'}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)
    finally:
        if handles_signals:
            signal.signal(signal.SIGTERM, before)


def open_standard_streams() -> None:
    """Open the null device in place of standard streams that are closed.

    Otherwise the next file that is opened gets the descriptor of a standard stream, and messages
    of libraries are written into it.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
        if is_closed(getattr(sys, name)):
            setattr(sys, name, open(os.devnull, mode))


def flush_output() -> None:
    """Write the buffered output.

    Raises:
        OSError: standard output was closed by its reader, or its disk is full. Further output is
            discarded, so that Python does not fail when it exits.
    """
    try:
        sys.stdout.flush()
    except AttributeError:  # replaced by an object that has no buffer
        pass
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        raise


def is_closed(stream: Any) -> bool:
    """Return whether nothing can be written to a standard stream, which may be replaced."""
    return stream is None or getattr(stream, "closed", False)


def is_terminal(stream: Any) -> bool:
    """Return whether a standard stream, which may be closed or replaced, is a terminal."""
    return not is_closed(stream) and hasattr(stream, "isatty") and stream.isatty()


def verbosity() -> int:
    """Return the verbosity of Keras: 1 (progress bar), 2 (lines), or 0 without standard output."""
    if is_closed(sys.stdout):
        return 0
    return 1 if is_terminal(sys.stdout) else 2


def not_installed(*packages: str) -> str:
    """Return the error message for missing packages, with the command that installs them."""
    extra = EXTRAS.get(packages[0].partition(".")[0])
    command = INSTALL.format(f'-e ".[{extra}]"') if extra else INSTALL_CORE
    return f"not installed: {', '.join(packages)}; run: {command}"


def duration(seconds: float) -> str:
    """Return a time as text, in minutes from 100 seconds on."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def one_line(message: object) -> str:
    """Return a text, or the message of an exception, as one line."""
    if isinstance(message, OSError) and message.strerror:
        message = (
            f"{message.filename}: {message.strerror}" if message.filename else message.strerror
        )
    return " ".join(str(message).split("\n"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal: first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for first, *others in (head, *rows):
        cells = [
            first.ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(others, widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells))
    return "\n".join(lines)


@contextlib.contextmanager
def output_to(log_file: Path) -> Iterator[None]:
    """Append everything that is printed to a file; create its folder if necessary."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log_file, "a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield
