"""What every command shares: argument parser, types of options, exit code, one-line errors.

It imports the standard library alone, so that `--help` is quick and a missing package is one line.
"""

import argparse
import contextlib
import math
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# The optional packages by the name they are imported by, and the extra of pyproject.toml that
# installs each.
EXTRAS = {
    "distributed": "sweeps",
    "optuna": "sweeps",
    "sqlalchemy": "sweeps",
    "skimage": "sweeps",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "tf2onnx": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "ai_edge_litert": "export",
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
# of the commands that, run again, do only what is missing
INTERRUPTED = "Interrupted. The same command goes on; what is finished is kept."
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class UserError(Exception):
    """Something that the user can correct.

    The message is one line: what is wrong, where, and what to do.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a command handles as it handles Ctrl-C."""


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


# Types of options.


def number(kind: type, low: float, below: float = math.inf) -> Callable[[str], float]:
    """Return an argparse type: an int or a float, not less than `low` and less than `below`."""

    def parse(text: str) -> float:
        return check_range(kind(text), low, below)

    parse.__name__ = kind.__name__  # argparse names it where the text is no number
    return parse


def check_range(value: float, low: float, below: float = math.inf) -> float:
    """Return the value. Raises argparse.ArgumentTypeError where it is out of range, or NaN."""
    if not low <= value < below:
        upper = f" and below {below:g}" if below < math.inf else ""
        raise argparse.ArgumentTypeError(f"{value} is not a number from {low:g}{upper}")
    return value


def path(text: str) -> str:
    """Return a path.

    An empty one, as an unset variable leaves it, would mean the current folder and is rejected.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty name")
    return text


def run_name(text: str) -> str:
    """Return the name of a run directory, which must not lead elsewhere."""
    if not RUN_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a folder name of letters, digits and . _ + -"
        )
    return text


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add `--run` and `--runs-dir`, by which a command finds the network it uses."""
    parser.add_argument(
        "--run", type=path, help="run directory (the newest finished one, else pretrained/best)"
    )
    parser.add_argument(
        "--runs-dir",
        type=path,
        default="runs",
        help="where to look for the newest run (%(default)s)",
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data-dir`."""
    parser.add_argument(
        "--data-dir",
        type=path,
        help="folder with the four files (FASHION_MNIST_DIR, or found and fetched by itself)",
    )


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add `--val-size` and `--limit` of a command that trains several networks."""
    parser.add_argument(
        "--val-size",
        type=number(float, 0),
        help="validation images: a count, or a fraction below 1 (5000)",
    )
    parser.add_argument(
        "--limit",
        type=number(int, 1),
        help="use so many images for training and validation together",
    )


def sizes(options: argparse.Namespace) -> dict[str, float]:
    """Return the settings of add_sizes() that were given."""
    given = {"val_size": options.val_size, "limit": options.limit}
    return {name: value for name, value in given.items() if value is not None}


# How a command ends.


def exit_code(script: str, work: Callable[[], None], interrupted: str | None = None) -> int:
    """Call `work` and return the exit code: 0, or 1, 130 or 143 with one line on standard error.

    What the user can correct is a line: UserError, OSError, MemoryError and a package that is not
    installed.

    Args:
        script: starts the line of an error.
        work: the command.
        interrupted: the line on Ctrl-C and SIGTERM (the message of the KeyboardInterrupt).
    """

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    if hasattr(sys.stdout, "reconfigure"):
        # A file's name can hold what no terminal can show.
        sys.stdout.reconfigure(errors="backslashreplace")
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        work()
        return 0
    except (UserError, OSError) as error:
        print(f"{script}: {one_line(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OWN_MODULES:
            raise
        print(f"{script}: {not_installed(error.name)}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"{script}: out of memory; close other programs", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupted or one_line(interrupt) or 'Interrupted.'}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def not_installed(*packages: str) -> str:
    """Return the line about packages that are missing, with the command that installs them."""
    extra = EXTRAS.get(packages[0].partition(".")[0])
    wanted = f'-e ".[{extra}]"' if extra else "-r requirements.txt"
    return f"not installed: {', '.join(packages)}; try: python -m pip install {wanted}"


def one_line(message: object) -> str:
    """Return an exception, or a text, as one line."""
    if isinstance(message, OSError) and message.strerror:
        message = (
            f"{message.filename}: {message.strerror}" if message.filename else message.strerror
        )
    return " ".join(str(message).split("\n"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal: the first column to the left, the others to the right."""
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
    """Append what is printed to a file, whose folder is made if need be."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log_file, "a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield
