"""Inject faults into training and evaluation and check that no result is lost or changed.

    python -m benchmarks.fault_injection                      all parts, half an hour
    python -m benchmarks.fault_injection kills --kills 20     one part, fewer kills

The parts: kills (`kill -9` of trainings), evaluations (`kill -9` of evaluations), disks (full
disks, which needs root to mount small ones), overhead (the time that saving and determinism take)
and inputs (corrupt input). Prints a table and saves benchmarks/results/fault_injection.json. The
exit code is 1 if a check fails.
"""

import contextlib
import itertools
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import train_cnn
from benchmarks import measure_speed
from benchmarks.measure_speed import ROOT
from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig
from fmnist.recipes import ADAM
from fmnist.training import checkpoint

EPOCHS = 8
# Options of short trainings that together use everything that a checkpoint has to store: learning
# rate schedules, averaged weights, early stopping, augmentation.
TRAININGS = {
    "dropout_cnn": (
        "--optimizer adam --schedule plateau --ema-epochs 0.5 --prune-every 1 --patience 3"
    ),
    "batchnorm_cnn": "--schedule one-cycle --ema-epochs 2 --patience 0",
    "gap_cnn": "--schedule cosine --augment flip+shift --ema-epochs 0 --patience 0",
    "lenet_l2": "--schedule constant --learning-rate 0.001 --batch-size 32 --patience 0",
    "allconv_cnn": "--recipe quick --augment flip+shift+erase",
}
Outcome = tuple[list[runs.Row], list[np.ndarray]]  # history and weights of a finished run
KILL_COUNTS = (
    "trials",
    "passed",
    "after the second epoch",
    "during a write",
    "during training",
    "during start-up",
    "runs compared",
)
START_UP = 8  # approximate seconds before the first batch
# Sizes of small disks in kB. Those from 5000 on have space for the first epoch, 4.5 MB, but not for
# the second, whose checkpoint of 3.6 MB is written before that of the first is removed.
DISK_SIZES = (100, 1000, 4000, 5000, 6000, 7500)
# Free space in kB on the disks on which an evaluation runs.
FREE_SPACES = (20, 200, 800)


class Violation(Exception):
    """A command lost or changed a result, or did not report a fault."""


# Kills.


def kill_trainings(kills: int, generator: random.Random, folder: Path) -> dict[str, Any]:
    """Kill trainings and compare the resumed runs with uninterrupted ones.

    The kills are divided among the trainings of TRAININGS.
    """
    tally = dict.fromkeys(KILL_COUNTS, 0)
    kills_per_training = math.ceil(kills / len(TRAININGS))
    for model, options in TRAININGS.items():
        command = [
            "--model",
            model,
            "--limit",
            "3000",
            "--epochs",
            EPOCHS,
            *options.split(),
            "--runs-dir",
            folder,
        ]
        uninterrupted = folder / f"{model}-uninterrupted"
        expect_success("train_cnn.py", *command, "--name", uninterrupted.name)
        reference, remaining_kills = outcome(uninterrupted), kills_per_training
        for number in itertools.count(1):
            run = folder / f"{model}-{number}"

            def arguments(run=run, command=command):
                return ["--resume", run] if run.exists() else [*command, "--name", run.name]

            while remaining_kills and not runs.is_finished(run):
                before = epochs_saved(run)
                moment = kill_one(run, arguments(), generator)
                if moment is None:
                    break  # the training ended first
                remaining_kills -= 1
                tally["trials"] += 1
                tally[moment] += 1
                saved = epochs_saved(run)
                tally["after the second epoch"] += saved >= 2
                check_run(run, reference)
                if saved < before:
                    raise Violation(f"{run} had {before} epochs and has {saved}")
                tally["passed"] += 1
                print(f"{model}: killed {moment}, {saved} epochs are saved", flush=True)
            expect_success("train_cnn.py", *arguments())
            if not same(outcome(run), reference):
                raise Violation(f"{run} differs from {uninterrupted}")
            tally["runs compared"] += 1
            if not remaining_kills:
                break
    return tally


def kill_one(run: Path, arguments: Sequence[Any], generator: random.Random) -> str | None:
    """Start or resume a training and kill it at a random moment.

    Returns:
        The moment, one of KILL_COUNTS; None if the training ended before the kill.
    """
    saved = epochs_saved(run)
    plan = generator.choice(("any moment", "after some epochs", "during a write", "during a write"))
    with process("train_cnn.py", *arguments) as child:
        if plan == "any moment":
            wait(child, lambda: False, generator.uniform(0, 1.5 * START_UP))
        else:
            target = saved + generator.choice((0, 1, 1))
            wait(
                child,
                lambda: runs.is_finished(run) or epochs_done(run) >= target and child.is_training(),
            )
            if plan == "during a write":
                wait(child, lambda: temporary_files(run, child))
                wait(child, lambda: False, generator.choice((0, 0, generator.uniform(0, 0.02))))
            else:
                wait(child, lambda: False, generator.uniform(0, 1))
        if child.poll() is not None:
            if child.returncode:
                raise Violation(f"the training of {run} failed with exit code {child.returncode}")
            return None
        was_training = child.is_training()
        child.kill()
        child.wait()
    if temporary_files(run, child):
        return "during a write"
    return "during training" if was_training else "during start-up"


def temporary_files(run: Path, child: subprocess.Popen) -> list[Path]:
    """Return the temporary files of a process, which exist during a write only."""
    with contextlib.suppress(FileNotFoundError):  # a folder may be removed meanwhile
        return [
            path
            for folder in (run, run / runs.CHECKPOINT)
            for path in folder.glob(f"{atomic_io.TEMPORARY_PREFIX}{child.pid}-*")
        ]
    return []


def epochs_done(run: Path) -> int:
    """Return the number of epochs in the history, which may be incomplete at this moment."""
    with contextlib.suppress(OSError):
        return (run / runs.HISTORY_FILE).read_text().count("\n") - 1
    return 0


def epochs_saved(run: Path) -> int:
    """Return the number of epochs in the checkpoint, or in the history of a finished run."""
    return (
        len(checkpoint.load_state(run)[1]) if (run / runs.CHECKPOINT).exists() else epochs_done(run)
    )


def check_run(run: Path, reference: Outcome) -> None:
    """Raise Violation if a file is corrupt, or if the history differs from the reference."""
    if not run.exists():
        return
    runs.load_config(run)
    histories = []
    if (run / runs.CHECKPOINT).exists():
        histories.append(checkpoint.load_state(run)[1])
    if (run / runs.HISTORY_FILE).exists():
        histories.append(runs.load_history(run))
    for history in histories:
        if as_written(history) != as_written(reference[0])[: len(history)]:
            raise Violation(f"the history of {run} differs from that of an uninterrupted run")
    if (run / runs.MODEL).exists():
        try:
            with zipfile.ZipFile(run / runs.MODEL) as archive:
                defect = archive.testzip()
        except zipfile.BadZipFile as error:
            defect = error
        if defect:
            raise Violation(f"{run / runs.MODEL} is corrupt: {defect}")


def without_seconds(history: list[runs.Row]) -> list[runs.Row]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def as_written(history: list[runs.Row]) -> list[dict[str, str]]:
    """Return the rows with the digits that history.csv has."""
    return [{key: f"{value:.9g}" for key, value in row.items()} for row in without_seconds(history)]


def outcome(run: Path) -> Outcome:
    """Return history and weights of a finished run. Raises Violation for unexpected files."""
    names = {path.name for path in run.iterdir()} - {
        "metrics.json",
        "predictions.npz",
        "novelty.npz",
        "report.html",
        "figures",
    }
    if names != {runs.CONFIG, runs.MODEL, runs.HISTORY_FILE}:
        raise Violation(f"{run} contains {sorted(names)}")
    return without_seconds(runs.load_history(run)), runs.load_model(run).get_weights()


def same(outcome: Outcome, other: Outcome) -> bool:
    """Return whether two outcomes are equal, bit for bit."""
    return (
        outcome[0] == other[0]
        and len(outcome[1]) == len(other[1])
        and all(
            array.tobytes() == other_array.tobytes()
            for array, other_array in zip(outcome[1], other[1], strict=True)
        )
    )


def kill_evaluations(kills: int, generator: random.Random, folder: Path) -> dict[str, Any]:
    """Kill evaluations that would replace other results, and check the files.

    All files must belong to one evaluation, the one before or the killed one.
    """
    run = folder / "evaluated"
    expect_success(
        "train_cnn.py", "--limit", "3000", "--epochs", "2", "--runs-dir", folder, "--name", run.name
    )
    expect_success("evaluate_model.py", run)
    plain = results(run)
    expect_success("evaluate_model.py", run, "--test-time-flips")
    flipped = results(run)
    tally = {"trials": 0, "passed": 0, "during a write": 0}
    while tally["trials"] < kills:
        options = ["--test-time-flips"] if results(run) == plain else []
        with process("evaluate_model.py", run, *options) as child:
            if generator.random() < 0.3:
                wait(child, lambda: False, generator.uniform(0, 2 * START_UP))
            else:
                wait(child, lambda: temporary_files(run, child))
                wait(child, lambda: False, generator.uniform(0, 3))
            if child.poll() == 0:
                continue
            child.kill()
            if child.wait() != -signal.SIGKILL:
                raise Violation(f"the evaluation of {run} failed with exit code {child.returncode}")
        tally["trials"] += 1
        tally["during a write"] += bool(temporary_files(run, child))
        if results(run) not in (plain, flipped):
            raise Violation(f"the files in {run} belong to two evaluations")
        tally["passed"] += 1
        print(f"evaluation: killed, {len(plain)} files belong to one evaluation", flush=True)
    expect_success("evaluate_model.py", run)
    if results(run) != plain or [*run.glob(f"{atomic_io.TEMPORARY_PREFIX}*")]:
        raise Violation(f"the next evaluation of {run} has other results or left temporary files")
    return tally


def results(run: Path) -> dict[Path, Any]:
    """Return the content of all files of a run by path.

    The content of predictions.npz is its arrays, because the file contains the time of writing.
    """
    content = {}
    for path in sorted(
        path
        for path in run.rglob("*")
        if path.is_file() and atomic_io.TEMPORARY_PREFIX not in str(path)
    ):
        content[path.relative_to(run)] = path.read_bytes()
    with np.load(run / "predictions.npz") as arrays:
        content[Path("predictions.npz")] = {name: array.tobytes() for name, array in arrays.items()}
    return content


# Full disks.


def fill_disks(folder: Path) -> dict[str, Any]:
    """Train and evaluate on disks that are too small; then enlarge them and resume."""
    if os.geteuid():
        return {"skipped": "mounting a small disk needs root"}
    reference_run = folder / "disk-reference"
    # A checkpoint with the variables of Adam and averaged weights is the largest.
    command = [*TRAININGS["dropout_cnn"].split(), "--limit", "3000", "--epochs", "4"]
    command += ["--patience", "0"]
    expect_success("train_cnn.py", *command, "--runs-dir", folder, "--name", reference_run.name)
    reference = outcome(reference_run)
    tally = {"full disks": 0, "passed": 0, "resumed runs": 0}
    expect_success("evaluate_model.py", reference_run)
    for kilobytes in DISK_SIZES:
        with small_disk(folder / "disk", kilobytes) as disk:
            run = disk / "run"
            expect_full_disk("train_cnn.py", *command, "--runs-dir", disk, "--name", run.name)
            tally["full disks"] += 1
            if [*disk.glob(f"**/{atomic_io.TEMPORARY_PREFIX}*")]:
                raise Violation(f"temporary files are left on a disk of {kilobytes} kB")
            check_run(run, reference)
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
            tally["resumed runs"] += run.exists()
            expect_success(
                "train_cnn.py",
                *(
                    ["--resume", run]
                    if run.exists()
                    else [*command, "--runs-dir", disk, "--name", run.name]
                ),
            )
            if not same(outcome(run), reference):
                raise Violation(
                    f"the run on a disk of {kilobytes} kB differs from an uninterrupted one"
                )
            tally["passed"] += 1
            print(f"training on {kilobytes} kB: stopped, then completed with more", flush=True)
    for kilobytes in FREE_SPACES:
        with small_disk(folder / "disk", 100_000) as disk:
            subprocess.run(["cp", "-r", *reference_run.iterdir(), disk], check=True)
            before = results(disk)
            used = sum(path.stat().st_blocks for path in disk.rglob("*")) // 2
            (disk / "ballast").write_bytes(bytes(1024 * (100_000 - used - kilobytes - 100)))
            expect_full_disk("evaluate_model.py", disk)
            tally["full disks"] += 1
            (disk / "ballast").unlink()
            if results(disk) != before:
                raise Violation(
                    f"an evaluation with {kilobytes} kB of free space changed the earlier results"
                )
            tally["passed"] += 1
            print(
                f"evaluation with {kilobytes} kB of free space: stopped, earlier results unchanged",
                flush=True,
            )
    return tally


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a disk of this size at `folder` and yield the folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


# Overhead of saving and of determinism.


def overhead(folder: Path) -> dict[str, Any]:
    """Measure the time of saving after each epoch of the default training, and of determinism."""
    epochs, spent = 6, []

    def timed(save):
        def call(*arguments):
            begin = time.perf_counter()
            save(*arguments)
            spent.append(time.perf_counter() - begin)

        return call

    with contextlib.ExitStack() as stack:
        for module, name in ((checkpoint, "save_state"), (runs, "save_epoch")):
            stack.enter_context(mock.patch.object(module, name, timed(getattr(module, name))))
        config = TrainConfig(**ADAM, schedule="plateau", epochs=epochs, runs_dir=folder)
        run = train_cnn.train(config)
    epoch = statistics.median(row["seconds"] for row in runs.load_history(run))
    sides = {
        name: (name, "dropout_cnn")
        for name in ("project_training", "project_training_without_determinism")
    }
    _, measurements = measure_speed.measure_in_turns(sides)
    deterministic, nondeterministic = (
        measure_speed.summary(
            [1e6 * turn["seconds"] / turn["images"] for turn in measurements[name]]
        )
        for name in sides
    )
    return {
        "epoch, s": epoch,
        "saving, s": sum(spent) / epochs,
        "saving, fraction": sum(spent) / epochs / epoch,
        "µs per image": deterministic,
        "µs per image without determinism": nondeterministic,
    }


# Corrupt inputs.


def corrupt_inputs() -> dict[str, Any]:
    """Run all tests of tests/hostile_input and count the inputs."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--all-inputs",
            "-vv",
            "--numprocesses",
            "0",
            "tests/hostile_input",
            "-k",
            "test_the_input_is_rejected",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    trials = re.findall(
        r"test_the_input_is_rejected\[(.*?) \| .* (PASSED|FAILED|ERROR)", done.stdout
    )
    tally = {
        "trials": len(trials),
        "passed": sum(word == "PASSED" for _, word in trials),
        "causes": len({cause for cause, _ in trials}),
    }
    if done.returncode or not trials:
        raise Violation(f"{tally}; {done.stdout[-2000:]}")
    return tally


# Processes.


@contextlib.contextmanager
def process(script: str, *arguments: Any) -> Iterator[subprocess.Popen]:
    """Start a script and yield its Popen; kill it at the end.

    The method is_training() of the Popen returns whether the first epoch has begun.
    """
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            [sys.executable, ROOT / script, *map(str, arguments)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=measure_speed.default_environment(),
        )

        def is_training():
            return b"Epoch " in os.pread(log.fileno(), 100_000, 0)

        child.is_training = is_training
        try:
            yield child
        finally:
            child.kill()
            child.wait()


def wait(child: subprocess.Popen, condition: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until the condition is true, the process ends or the time is over."""
    end = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < end and not condition():
        time.sleep(0.0005)


def expect_success(script: str, *arguments: Any) -> None:
    """Run a script. Raises Violation if it fails."""
    done = subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode:
        raise Violation(f"{script} {' '.join(map(str, arguments))}: {done.stderr}")


def expect_full_disk(script: str, *arguments: Any) -> None:
    """Run a script on a full disk. Raises Violation unless it reports the full disk in one line."""
    done = subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode != 1 or done.stderr.count("\n") != 1 or "No space left" not in done.stderr:
        raise Violation(
            f"on a full disk, {script} ended with exit code {done.returncode} and printed: "
            f"{done.stderr}"
        )


def table(report: dict[str, Any]) -> str:
    """Return the report as Markdown.

    The line of a part with a violation, or of a part that did not run, contains the reason.
    """
    lines = ["| fault | trials | result |", "|---|---|---|"]
    rows = {
        "kills": (
            "`kill -9` of a training",
            "{trials}: {during a write} during a write, {during training} at other moments of an "
            "epoch, {during start-up} during start-up; {after the second epoch} of them after the "
            "second epoch",
            "{passed} passed: no saved epoch is lost; the {runs compared} resumed runs are equal "
            "to uninterrupted runs, bit for bit",
        ),
        "evaluations": (
            "`kill -9` of an evaluation that would replace other results",
            "{trials}: {during a write} during a write",
            "{passed} passed: all files belong to one evaluation",
        ),
        "disks": (
            "a full disk",
            "{full disks}",
            "{passed} passed: one line of error and intact files; trainings resume when there is "
            "space",
        ),
        "inputs": (
            "a corrupt input",
            "{trials}, of {causes} causes",
            "{passed} passed: rejected with one line and the right exit code",
        ),
    }
    for part, (fault, trials, result) in rows.items():
        tally = report.get(part, {"skipped": "not run yet"})
        problems = [
            f"{word}: {text}" for word, text in tally.items() if word in ("violation", "skipped")
        ]
        cells = (
            (problems[0], "") if problems else (trials.format_map(tally), result.format_map(tally))
        )
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    times = report.get("overhead", {"violation": ""})
    if "violation" not in times:
        deterministic = times["µs per image"]
        nondeterministic = times["µs per image without determinism"]
        lines.append(
            f"\nSaving after an epoch of the default training takes {times['saving, s']:.2f} s of "
            f"{times['epoch, s']:.1f} s, which is {times['saving, fraction']:.1%}. Determinism "
            "changes the time of an epoch by "
            f"{deterministic['median'] / nondeterministic['median'] - 1:+.1%} "
            f"({deterministic['median']:.0f} and {nondeterministic['median']:.0f} µs per image; "
            f"interquartile range {deterministic['spread']:.0%} and "
            f"{nondeterministic['spread']:.0%} of the median)."
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parts = ("kills", "evaluations", "disks", "overhead", "inputs")
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "part",
        nargs="?",
        choices=parts,
        metavar="PART",
        help=f"part to run: {', '.join(parts)} (default: all)",
    )
    parser.add_argument(
        "--kills",
        type=int,
        default=64,
        metavar="N",
        help="minimum number of killed trainings, divided equally among the networks; a quarter as "
        "many evaluations are killed (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed of the moments of the kills (default: %(default)s)",
    )
    options = parser.parse_args(argv)

    runtime.configure_tensorflow()
    generator = random.Random(options.seed)
    path = ROOT / "benchmarks/results/fault_injection.json"
    path.parent.mkdir(exist_ok=True)
    report, code = json.loads(path.read_text()) if path.exists() else {}, 0
    with tempfile.TemporaryDirectory() as folder:
        work = {
            "kills": lambda: kill_trainings(options.kills, generator, Path(folder)),
            "evaluations": lambda: kill_evaluations(options.kills // 4, generator, Path(folder)),
            "disks": lambda: fill_disks(Path(folder)),
            "overhead": lambda: overhead(Path(folder)),
            "inputs": corrupt_inputs,
        }
        for part in [options.part] if options.part else parts:
            try:
                report[part] = work[part]()
            except (Violation, runs.RunError, subprocess.CalledProcessError) as error:
                report[part], code = {"violation": str(error)}, 1
            print(f"{part}: {json.dumps(report[part], ensure_ascii=False)}", flush=True)
            atomic_io.write_json(path, report)
    print(table(report))
    return code


if __name__ == "__main__":
    sys.exit(main())
