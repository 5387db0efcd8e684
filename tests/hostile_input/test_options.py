"""Impossible options of the command line."""

import evaluate_model
import train_cnn
from tests import synthetic_data
from tests.hostile_input.cases import TRAIN, Case, unspoilt
from tests.hostile_input.refusal import test_it_is_refused  # noqa: F401

IN_WORDS = {"--val-size": "val", "--limit": "limit"}  # how some options stand in a message


def option_cases():
    def refused(cause, *arguments, script=train_cnn, word=None):
        command = (*TRAIN, *arguments) if script is train_cnn else (script, *arguments)
        return Case(
            f"option: {cause}",
            " ".join(map(repr, arguments)),
            unspoilt,
            lambda world: command,
            word or IN_WORDS.get(arguments[0], arguments[0].split("=")[0]),
            2,
        )

    positive = ("--epochs", "--batch-size", "--learning-rate", "--val-size", "--limit")
    integers = ("--epochs", "--batch-size", "--patience", "--seed", "--limit")
    numbers = (
        *integers,
        "--learning-rate",
        "--val-size",
        "--ema-epochs",
        "--dropout",
        "--l2",
        "--label-smoothing",
    )
    words = {
        "NaN": "nan",
        "infinite": "inf",
        "endless": "1e400",
        "a word": "many",
        "empty": "",
        "a space": " ",
        "hexadecimal": "0x10",
        "a decimal comma": "0,5",
        "a sum": "1+1",
        "a fullwidth minus": "－1",
        "unicode": "½",
        "a list": "[1]",
    }
    for flag in numbers:
        yield refused("negative", f"{flag}=-1")
        yield refused("without its value", flag)
        for cause, value in words.items():
            yield refused(cause, flag, value)
    for flag in positive:
        yield refused("zero", flag, "0")
    for flag in integers:
        yield refused("a fraction", flag, "1.5")
        yield (
            refused("huge", flag, "1" + 30 * "0")
            if flag != "--limit"
            else refused("huge", flag, "60001")
        )
    for flag, value in (
        ("--dropout", "1"),
        ("--label-smoothing", "1"),
        ("--ema-epochs", "1000"),
        ("--val-size", "1e9"),
        ("--val-size", str(synthetic_data.TRAIN)),
        ("--batch-size", str(synthetic_data.TRAIN)),
    ):
        yield refused("just too much", flag, value)
    yield refused("digits without end", "--epochs", 5000 * "9")
    for flag in ("--model", "--schedule", "--augment"):
        for cause, value in (
            ("no choice of it", "unknown"),
            ("in capitals", "NONE"),
            ("empty", ""),
            ("a choice cut short", "con"),
        ):
            yield refused(cause, flag, value)
    for cause, value in (
        ("empty", ""),
        ("a path", "a/b"),
        ("the folder above", ".."),
        ("the folder itself", "."),
        ("hidden", ".a"),
        ("unicode", "größe"),
        ("a space", "a b"),
        ("a line", "a\nb"),
    ):
        yield refused(f"name: {cause}", "--name", value)
    for flag in ("--data-dir", "--runs-dir", "--resume"):
        yield refused("empty", flag, "")
    for flag in ("--data-dir", "--runs-dir", "--output-dir"):
        yield refused("empty", flag, "", script=evaluate_model)
    yield refused("empty", "", script=evaluate_model, word="RUN")
    yield refused("cut short", "--epoch", "3")
    yield refused("unknown", "--gpu")
    yield refused("unknown", "--gpu", script=evaluate_model)
    yield refused("one too many", "runs/a\nb", word="runs/a b")
    yield refused("one too many", "runs/a", "runs/b", script=evaluate_model, word="runs/b")
    for arguments in (
        ("--epochs", "3"),
        ("--seed", "1"),
        ("--model", "gap_cnn"),
        ("--name", "other"),
    ):
        yield refused("settings beside --resume", "--resume", "run", *arguments)


CASES = [*option_cases()]
