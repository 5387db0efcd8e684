"""history.csv of a run, spoilt."""

from fmnist import runs
from tests.hostile_input.cases import evaluate_finished, run_file_cases
from tests.hostile_input.files import ANY_FILE
from tests.hostile_input.refusal import test_it_is_refused  # noqa: F401


def history_is(change):
    """change: of the lines, the header first, in lists of cells."""

    def spoil(path):
        lines = change([line.split(",") for line in path.read_text().splitlines()])
        path.write_text("".join(",".join(cells) + "\n" for cells in lines))

    return spoil


def cell(line, column, value):
    def change(lines):
        lines[line][runs.HISTORY.index(column)] = value
        return lines

    return history_is(change)


HISTORY_WAYS = {
    "only a header": history_is(lambda lines: lines[:1]),
    "no header": history_is(lambda lines: lines[1:]),
    "a line cut off": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "a column missing": history_is(lambda lines: [line[:3] + line[4:] for line in lines]),
    "a column of another name": history_is(lambda lines: [["epochs", *lines[0][1:]], *lines[1:]]),
    "semicolons": lambda path: path.write_text(path.read_text().replace(",", ";")),
    "decimal commas": lambda path: path.write_text(path.read_text().replace(".", ",")),
    "a word": cell(1, "loss", "low"),
    "an empty cell": cell(1, "val_loss", ""),
    "no losses": history_is(
        lambda lines: [lines[0], *([*line[:3], "nan", *line[4:]] for line in lines[1:])]
    ),
    "epochs out of order": history_is(lambda lines: [lines[0], *lines[:0:-1]]),
    "an epoch twice": history_is(lambda lines: [*lines, lines[-1]]),
    "an epoch lost": history_is(lambda lines: [lines[0], *lines[2:]]),
    "half an epoch": cell(1, "epoch", "1.5"),
    "an epoch too high to count": cell(1, "epoch", "1e400"),
    "an accuracy above one": cell(1, "val_accuracy", "93.1"),
    "an accuracy that is no number": cell(1, "accuracy", "nan"),
    "endless seconds": cell(1, "seconds", "inf"),
    "a negative loss": cell(1, "loss", "-1"),
    "a loss beyond all floats": cell(1, "val_loss", "1e308"),
    "a negative rate": cell(1, "learning_rate", "-0.1"),
    "a NUL": lambda path: path.write_bytes(path.read_bytes().replace(b".", b"\0", 1)),
    "Latin-1": lambda path: path.write_bytes(path.read_bytes().replace(b".", b"\xe4", 1)),
    "an endless cell": cell(1, "loss", '"' + "1" * 200_000 + '"'),
}


def history_cases():
    ways = {spoil.__name__: spoil for spoil in ANY_FILE} | HISTORY_WAYS
    yield from run_file_cases("history.csv", ways, {"finished": evaluate_finished})


CASES = [*history_cases()]
