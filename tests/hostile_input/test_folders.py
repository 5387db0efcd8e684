"""Hostile inputs: folders that are missing, invalid or inaccessible, and existing run names."""

import os
import shutil

import evaluate_model
import train_cnn
from fmnist import source
from tests.hostile_input.cases import TRAIN, Case, evaluate_finished, resume_unfinished, unchanged
from tests.hostile_input.rejection import test_the_input_is_rejected  # noqa: F401


def create_file(place):
    def corrupt(environment):
        (environment.root / place).write_text("user file")

    return corrupt


def create_link(place, target):
    def corrupt(environment):
        (environment.root / place).symlink_to(target)

    return corrupt


def create_folder(place):
    def corrupt(environment):
        (environment.root / place).mkdir()

    return corrupt


def replace_folder_by_file(name):
    def corrupt(environment):
        path = environment.finished / name if name == "figures" else environment.unfinished / name
        shutil.rmtree(path, ignore_errors=True)
        path.write_text("user file")

    return corrupt


def folder_cases():
    for name, command, word in (
        ("figures", evaluate_finished, "figures"),
        ("checkpoint", resume_unfinished, "state.npz"),
    ):
        yield Case("folder: replaced by a file", name, replace_folder_by_file(name), command, word)
    for name in ("report.html", "metrics.json", "predictions.npz", "figures/curves.png"):
        yield Case(
            "folder: instead of a file",
            name,
            lambda environment, name=name: (environment.finished / name).mkdir(parents=True),
            evaluate_finished,
            name,
        )
    places = {
        "missing": ("x", unchanged),
        "a file": ("x", create_file("x")),
        "below a file": ("x/y", create_file("x")),
        "a dangling link": ("x", create_link("x", "nowhere")),
        "a link to itself": ("x", create_link("x", "x")),
        "a name too long": ("x" * 300, unchanged),
        "without the files": ("x", create_folder("x")),
        "of an unknown user": ("~nobody-has-this-name", unchanged),
    }
    commands = {
        "data for training": lambda path, environment: (*TRAIN, "--data-dir", path),
        "data for evaluation": lambda path, environment: (
            evaluate_model,
            environment.finished,
            "--data-dir",
            path,
        ),
        "a run": lambda path, environment: (evaluate_model, path),
        "a run to resume": lambda path, environment: (train_cnn, "--resume", path),
        "runs, to find the newest run": lambda path, environment: (
            evaluate_model,
            "--runs-dir",
            path,
        ),
        "runs, to resume the newest run": lambda path, environment: (
            train_cnn,
            "--resume",
            "--runs-dir",
            path,
        ),
    }
    for cause, (place, corrupt) in places.items():
        for input, command in commands.items():
            yield Case(
                f"folder: {cause}",
                input,
                corrupt,
                lambda environment, place=place, command=command: command(
                    place if place.startswith("~") else environment.root / place, environment
                ),
                place.split("/")[0],
            )
    output_commands = {
        "runs, to create a run": lambda path, environment: (*TRAIN, "--runs-dir", path),
        "results": lambda path, environment: (
            evaluate_model,
            environment.finished,
            "--output-dir",
            path,
        ),
    }
    for cause in ("a file", "below a file", "a link to itself", "a name too long"):
        place, corrupt = places[cause]
        for input, command in output_commands.items():
            yield Case(
                f"output folder: {cause}",
                input,
                corrupt,
                lambda environment, place=place, command=command: command(
                    environment.root / place, environment
                ),
                place[0],
            )
    for cause, corrupt in (
        ("a run", unchanged),
        ("a file", create_file("runs/taken")),
        ("an empty folder", create_folder("runs/taken")),
        ("a dangling link", create_link("runs/taken", "nowhere")),
    ):
        yield Case(
            f"run name that exists: {cause}",
            "",
            corrupt,
            lambda environment, cause=cause: (
                *TRAIN,
                "--runs-dir",
                environment.root / "runs",
                "--name",
                "finished" if cause == "a run" else "taken",
            ),
            "exists already",
        )


def permission_cases():
    """Yield cases that run as an unprivileged user; see rejection.unprivileged()."""

    def mode(name, bits):
        return lambda environment: os.chmod(environment.root / name, bits)

    # Relative paths, because the user may not be allowed to enter the parent folders.
    def evaluate(environment):
        return evaluate_model, "runs/finished"

    def resume(environment):
        return train_cnn, "--resume", "runs/unfinished"

    def train(environment):
        return (*TRAIN, "--runs-dir", "runs")

    for cause, bits in (("unreadable file", 0o000), ("write-only file", 0o222)):
        for name, command in (
            ("runs/finished/config.json", evaluate),
            ("runs/finished/history.csv", evaluate),
            ("runs/finished/model.keras", evaluate),
            ("runs/unfinished/config.json", resume),
            ("runs/unfinished/checkpoint/state.npz", resume),
            *((f"data/{name}.gz", train) for name in source.FILES),
        ):
            yield Case(f"permission: {cause}", name, mode(name, bits), command, name.split("/")[-1])
    for cause, bits in (
        ("inaccessible folder", 0o000),
        ("list-only folder", 0o444),
    ):
        for name, command in (
            ("runs/finished", evaluate),
            ("runs/unfinished", resume),
            ("data", train),
            ("runs/unfinished/checkpoint", resume),
        ):
            yield Case(f"permission: {cause}", name, mode(name, bits), command, name.split("/")[-1])
    for name, command in (
        ("runs", train),
        ("runs/finished", evaluate),
        ("runs/unfinished", resume),
    ):
        yield Case("permission: read-only folder", name, mode(name, 0o555), command, name)


CASES = [*folder_cases(), *permission_cases()]
