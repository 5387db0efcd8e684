"""Hostile inputs: config.json of a run, and each of its settings."""

from fmnist import runs
from fmnist.config import ADDED_LATER
from tests.hostile_input.cases import (
    REMOVED,
    Case,
    change_settings,
    evaluate_finished,
    replace_text,
    resume_unfinished,
    run_file_cases,
)
from tests.hostile_input.files import FILE_CORRUPTIONS
from tests.hostile_input.rejection import test_the_input_is_rejected  # noqa: F401

NO_CONFIG = {
    "null": "null",
    "a list": "[]",
    "a number": "3",
    "a text": '"config"',
    "truncated": '{"model": "drop',
    "two values": "{} {}",
    "a comment": "// {}\n{}",
    "single quotes": "{'model': 'gap_cnn'}",
    "UTF-16": '{"model": "gap_cnn"}'.encode("utf-16"),
    "Latin-1": b'{"model": "\xe4"}',
    "nested too deeply": "[" * 100_000,
    "a number with too many digits": '{"seed": ' + "9" * 5000 + "}",
    "no settings": "{}",
}


def config_file_cases():
    corruptions = {corrupt.__name__: corrupt for corrupt in FILE_CORRUPTIONS}
    corruptions |= {cause: replace_text(text) for cause, text in NO_CONFIG.items()}
    yield from run_file_cases(
        "config.json", corruptions, {"finished": evaluate_finished, "unfinished": resume_unfinished}
    )


INTEGERS = ("epochs", "batch_size", "patience", "val_size", "seed", "limit", "fold")
FLOATS = ("learning_rate", "ema_epochs", "dropout", "l2", "label_smoothing")
CHOICES = ("model", "schedule", "augment")
NAN, INFINITY = float("nan"), float("inf")


def setting_cases():
    def resume(cause, key, value):
        return Case(
            f"setting: {cause}",
            f"{key} of a run to resume",
            change_settings("unfinished", **{key: value}),
            resume_unfinished,
            "config.json",
        )

    def evaluate(cause, key, value):
        return Case(
            f"setting: {cause}",
            f"{key} of a run to evaluate",
            change_settings("finished", **{key: value}),
            evaluate_finished,
            {"val_size": "val", "limit": "limit"}.get(key, key),
        )

    for key in (*INTEGERS, *FLOATS, *CHOICES, "name", "data_dir", "runs_dir", "fingerprint"):
        if key not in ADDED_LATER:
            yield resume("missing", key, REMOVED)
    for key in (*INTEGERS, *FLOATS, *CHOICES):
        for cause, value in (
            ("a list", [3]),
            ("an object", {"a": 3}),
            ("a boolean", True),
            ("a word", "many"),
            ("an empty text", ""),
        ):
            yield resume(cause, key, value)
        if key not in ("dropout", "l2", "limit", "fold"):
            yield resume("null", key, None)
    for key in (*INTEGERS, *FLOATS):
        yield resume("negative", key, -1)
        yield resume("huge", key, 10**30 if key in INTEGERS else INFINITY)
        yield resume("not a number", key, NAN)
    for key in INTEGERS:
        yield resume("a fraction", key, 100.5)
    yield resume("an unknown setting", "mixup", 0.2)._replace(word="mixup")
    yield resume("a newer format", "format", 2)
    yield resume("a name that is a path", "name", "../up")
    yield resume("another network", "model", "gap_cnn")._replace(word="another network")
    yield resume("other data", "fingerprint", "0" * 64)._replace(word="other data")
    yield resume("a missing data folder", "data_dir", "/nowhere")._replace(word="/nowhere")
    yield resume("an invalid path of the data folder", "data_dir", "a\0b\nc")._replace(
        word="a\0b c"
    )

    for key in runs.EVALUATION_SETTINGS:
        if key not in ADDED_LATER:
            yield evaluate("missing", key, REMOVED)
        yield evaluate("a list", key, [3])
        yield evaluate("an object", key, {"a": 3})
    for key in ("patience", "seed", "val_size", "limit", "fold"):
        yield evaluate("a word", key, "many")
        yield evaluate("not a number", key, NAN)
        yield evaluate("a fraction", key, 100.5)
    for key in ("seed", "val_size", "limit", "fold"):
        yield evaluate("negative", key, -1)
        yield evaluate("huge", key, 10**30)
    for value in (-0.1, 1, NAN):
        yield evaluate("out of range", "label_smoothing", value)
    yield evaluate("a newer format", "format", 2)
    yield evaluate("other data", "fingerprint", "0" * 64)._replace(word="other data")


CASES = [*config_file_cases(), *setting_cases()]
