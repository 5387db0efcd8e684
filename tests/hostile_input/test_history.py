"""Hostile inputs: history.csv of a run."""

from fmnist import runs
from tests.hostile_input.cases import evaluate_finished, run_file_cases
from tests.hostile_input.files import FILE_CORRUPTIONS
from tests.hostile_input.rejection import test_the_input_is_rejected  # noqa: F401


def change_history(change):
    """Return a function that corrupts a history.

    Args:
        change: maps the lines, the header first, to new lines; a line is a list of cells.
    """

    def corrupt(path):
        lines = change([line.split(",") for line in path.read_text().splitlines()])
        path.write_text("".join(",".join(cells) + "\n" for cells in lines))

    return corrupt


def cell(line, column, value):
    def change(lines):
        lines[line][runs.HISTORY.index(column)] = value
        return lines

    return change_history(change)


HISTORY_CORRUPTIONS = {
    "only a header": change_history(lambda lines: lines[:1]),
    "the last epoch missing": change_history(lambda lines: lines[:-1]),
    "no header": change_history(lambda lines: lines[1:]),
    "a truncated line": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "a column missing": change_history(lambda lines: [line[:3] + line[4:] for line in lines]),
    "a column of another name": change_history(
        lambda lines: [["epochs", *lines[0][1:]], *lines[1:]]
    ),
    "semicolons": lambda path: path.write_text(path.read_text().replace(",", ";")),
    "decimal commas": lambda path: path.write_text(path.read_text().replace(".", ",")),
    "a word": cell(1, "loss", "low"),
    "an empty cell": cell(1, "val_loss", ""),
    "no losses": change_history(
        lambda lines: [lines[0], *([*line[:3], "nan", *line[4:]] for line in lines[1:])]
    ),
    "epochs out of order": change_history(lambda lines: [lines[0], *lines[:0:-1]]),
    "an epoch twice": change_history(lambda lines: [*lines, lines[-1]]),
    "an epoch missing": change_history(lambda lines: [lines[0], *lines[2:]]),
    "a fractional epoch": cell(1, "epoch", "1.5"),
    "an infinite epoch": cell(1, "epoch", "1e400"),
    "an accuracy above one": cell(1, "val_accuracy", "93.1"),
    "an accuracy of NaN": cell(1, "accuracy", "nan"),
    "infinite seconds": cell(1, "seconds", "inf"),
    "a negative loss": cell(1, "loss", "-1"),
    "a loss above the float32 range": cell(1, "val_loss", "1e308"),
    "a negative learning rate": cell(1, "learning_rate", "-0.1"),
    "a null byte": lambda path: path.write_bytes(path.read_bytes().replace(b".", b"\0", 1)),
    "Latin-1": lambda path: path.write_bytes(path.read_bytes().replace(b".", b"\xe4", 1)),
    "a very long cell": cell(1, "loss", '"' + "1" * 200_000 + '"'),
}


def history_cases():
    corruptions = {corrupt.__name__: corrupt for corrupt in FILE_CORRUPTIONS} | HISTORY_CORRUPTIONS
    yield from run_file_cases("history.csv", corruptions, {"finished": evaluate_finished})


CASES = [*history_cases()]
