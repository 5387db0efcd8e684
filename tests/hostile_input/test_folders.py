"""Folders that are missing, in the way, or closed, and names that are taken."""

import os
import shutil

import evaluate_model
import train_cnn
from fmnist import source
from tests.hostile_input.cases import TRAIN, Case, evaluate_finished, resume_unfinished, unspoilt
from tests.hostile_input.refusal import test_it_is_refused  # noqa: F401


def a_file_at(place):
    def spoil(world):
        (world.root / place).write_text("mine")

    return spoil


def a_link_at(place, target):
    def spoil(world):
        (world.root / place).symlink_to(target)

    return spoil


def a_folder_at(place):
    def spoil(world):
        (world.root / place).mkdir()

    return spoil


def a_file_instead(name):
    def spoil(world):
        path = world.finished / name if name == "figures" else world.unfinished / name
        shutil.rmtree(path, ignore_errors=True)
        path.write_text("mine")

    return spoil


def folder_cases():
    for name, command, word in (
        ("figures", evaluate_finished, "figures"),
        ("checkpoint", resume_unfinished, "state.npz"),
    ):
        yield Case("folder: a file in its place", name, a_file_instead(name), command, word)
    for name in ("report.html", "metrics.json", "predictions.npz", "figures/curves.png"):
        yield Case(
            "folder: in the place of a file",
            name,
            lambda world, name=name: (world.finished / name).mkdir(parents=True),
            evaluate_finished,
            name,
        )
    long, loop = "x" * 300, a_link_at("x", "x")
    places = {
        "missing": ("x", unspoilt),
        "a file": ("x", a_file_at("x")),
        "below a file": ("x/y", a_file_at("x")),
        "a dangling link": ("x", a_link_at("x", "nowhere")),
        "a link to itself": ("x", loop),
        "a name too long": (long, unspoilt),
        "without the files": ("x", a_folder_at("x")),
        "of a user that is none": ("~nobody-has-this-name", unspoilt),
    }
    commands = {
        "data to train": lambda path, world: (*TRAIN, "--data-dir", path),
        "data to evaluate": lambda path, world: (
            evaluate_model,
            world.finished,
            "--data-dir",
            path,
        ),
        "a run": lambda path, world: (evaluate_model, path),
        "a run to resume": lambda path, world: (train_cnn, "--resume", path),
        "runs, to find one": lambda path, world: (evaluate_model, "--runs-dir", path),
        "runs, to resume one": lambda path, world: (train_cnn, "--resume", "--runs-dir", path),
    }
    for cause, (place, spoil) in places.items():
        for input, command in commands.items():
            yield Case(
                f"folder: {cause}",
                input,
                spoil,
                lambda world, place=place, command=command: command(
                    place if place.startswith("~") else world.root / place, world
                ),
                place.split("/")[0],
            )
    writing = {
        "runs, to make one": lambda path, world: (*TRAIN, "--runs-dir", path),
        "results": lambda path, world: (evaluate_model, world.finished, "--output-dir", path),
    }
    for cause in ("a file", "below a file", "a link to itself", "a name too long"):
        place, spoil = places[cause]
        for input, command in writing.items():
            yield Case(
                f"folder to write: {cause}",
                input,
                spoil,
                lambda world, place=place, command=command: command(world.root / place, world),
                place[0],
            )
    for cause, spoil in (
        ("a run", unspoilt),
        ("a file", a_file_at("runs/taken")),
        ("an empty folder", a_folder_at("runs/taken")),
        ("a dangling link", a_link_at("runs/taken", "nowhere")),
    ):
        yield Case(
            f"name that is taken by {cause}",
            "",
            spoil,
            lambda world, cause=cause: (
                *TRAIN,
                "--runs-dir",
                world.root / "runs",
                "--name",
                "finished" if cause == "a run" else "taken",
            ),
            "is there already",
        )


def permission_cases():
    """As a user who may read and write nothing that the mode does not allow everyone."""

    def mode(name, bits):
        return lambda world: os.chmod(world.root / name, bits)

    # From the world's own folder, as those above it may be closed to that user.
    def evaluate(world):
        return evaluate_model, "runs/finished"

    def resume(world):
        return train_cnn, "--resume", "runs/unfinished"

    def train(world):
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
    for cause, bits in (("closed folder", 0o000), ("folder to list only", 0o444)):
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
