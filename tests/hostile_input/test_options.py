"""Hostile inputs: invalid command line options."""

import evaluate_model
import train_cnn
from tests import synthetic_data
from tests.hostile_input.cases import TRAIN, Case, unchanged
from tests.hostile_input.rejection import test_the_input_is_rejected  # noqa: F401

# Words for these options in error messages; other options are named themselves.
MESSAGE_WORDS = {"--val-size": "val", "--limit": "limit"}


def option_cases():
    def rejected(cause, *arguments, script=train_cnn, word=None):
        command = (*TRAIN, *arguments) if script is train_cnn else (script, *arguments)
        return Case(
            f"option: {cause}",
            " ".join(map(repr, arguments)),
            unchanged,
            lambda environment: command,
            word or MESSAGE_WORDS.get(arguments[0], arguments[0].split("=")[0]),
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
    invalid_numbers = {
        "NaN": "nan",
        "infinite": "inf",
        "too large for a float": "1e400",
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
        yield rejected("negative", f"{flag}=-1")
        yield rejected("without its value", flag)
        for cause, value in invalid_numbers.items():
            yield rejected(cause, flag, value)
    for flag in positive:
        yield rejected("zero", flag, "0")
    for flag in integers:
        yield rejected("a fraction", flag, "1.5")
        yield (
            rejected("huge", flag, "1" + 30 * "0")
            if flag != "--limit"
            else rejected("huge", flag, "60001")
        )
    for flag, value in (
        ("--dropout", "1"),
        ("--label-smoothing", "1"),
        ("--ema-epochs", "1000"),
        ("--val-size", "1e9"),
        ("--val-size", str(synthetic_data.TRAIN)),
        ("--batch-size", str(synthetic_data.TRAIN)),
    ):
        yield rejected("slightly too large", flag, value)
    yield rejected("too many digits", "--epochs", 5000 * "9")
    for flag in ("--model", "--schedule", "--augment"):
        for cause, value in (
            ("not a choice", "unknown"),
            ("in upper case", "NONE"),
            ("empty", ""),
            ("an abbreviated choice", "con"),
        ):
            yield rejected(cause, flag, value)
    for cause, value in (
        ("empty", ""),
        ("a path", "a/b"),
        ("the parent folder", ".."),
        ("the current folder", "."),
        ("hidden", ".a"),
        ("unicode", "größe"),
        ("a space", "a b"),
        ("a line break", "a\nb"),
    ):
        yield rejected(f"name: {cause}", "--name", value)
    for flag in ("--data-dir", "--runs-dir", "--resume"):
        yield rejected("empty", flag, "")
    for flag in ("--data-dir", "--runs-dir", "--output-dir"):
        yield rejected("empty", flag, "", script=evaluate_model)
    yield rejected("empty", "", script=evaluate_model, word="RUN")
    yield rejected("abbreviated", "--epoch", "3")
    yield rejected("unknown", "--gpu")
    yield rejected("unknown", "--gpu", script=evaluate_model)
    yield rejected("an additional argument", "runs/a\nb", word="runs/a b")
    yield rejected(
        "an additional argument", "runs/a", "runs/b", script=evaluate_model, word="runs/b"
    )
    for arguments in (
        ("--epochs", "3"),
        ("--seed", "1"),
        ("--model", "gap_cnn"),
        ("--name", "other"),
    ):
        yield rejected("a setting together with --resume", "--resume", "run", *arguments)


CASES = [*option_cases()]
