"""Kill trainings and evaluations, fill their disks, break their inputs, and look for anything lost;
half an hour.

    python -m benchmarks.fault_injection                      all of it, as root, who may mount a small disk
    python -m benchmarks.fault_injection kills --kills 20     one part, shorter

Prints what was tried and what held, and adds it to benchmarks/results/fault_injection.json. Exit code 1
where something was lost.
"""

import contextlib
import itertools
import json
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
from fmnist.training import checkpoint

EPOCHS = 8
# Small networks, and every part of a training that has a memory: schedules, averages, early
# stopping, augmentation.
TRAININGS = {
    "dropout_cnn": "--patience 3",
    "batchnorm_cnn": "--schedule one-cycle --ema-epochs 2 --patience 0",
    "gap_cnn": "--schedule cosine --augment flip+shift --ema-epochs 0 --patience 0",
    "lenet_l2": "--schedule constant --label-smoothing 0.1 --batch-size 32 --patience 0",
    "allconv_cnn": "--recipe quick --augment flip+shift+erase",
}
Outcome = tuple[list[runs.Row], list[np.ndarray]]  # history and weights of a finished run
KILL_COUNTS = (
    "tried",
    "survived",
    "after the second epoch",
    "in a write",
    "in training",
    "in start-up",
    "runs compared",
)
START_UP = 8  # seconds before the first batch, about
# kB of a disk that is too small; from 8000 on, for the second epoch.
ROOMS = (
    100,
    1000,
    4000,
    8000,
    9000,
    10_000,
)


class Lost(Exception):
    """Something that a script had to keep, or to say."""


# Kills.


def kill_trainings(kills: int, generator: random.Random, folder: Path) -> dict[str, Any]:
    """Kill every training of TRAININGS until all kills are used up, and compare it with one that
    ran undisturbed.
    """
    tally = dict.fromkeys(KILL_COUNTS, 0)
    share = -(-kills // len(TRAININGS))
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
        whole = folder / f"{model}-whole"
        finish("train_cnn.py", *command, "--name", whole.name)
        reference, left = outcome(whole), share
        for number in itertools.count(1):
            run = folder / f"{model}-{number}"

            def arguments(run=run, command=command):
                return ["--resume", run] if run.exists() else [*command, "--name", run.name]

            while left and not runs.is_finished(run):
                before = epochs_saved(run)
                moment = kill_one(run, arguments(), generator)
                if moment is None:
                    break  # it was faster
                left -= 1
                tally["tried"] += 1
                tally[moment] += 1
                saved = epochs_saved(run)
                tally["after the second epoch"] += saved >= 2
                check_run(run, reference)
                if saved < before:
                    raise Lost(f"{run} had {before} epochs and has {saved}")
                tally["survived"] += 1
                print(f"{model}: killed {moment}, {saved} epochs are there", flush=True)
            finish("train_cnn.py", *arguments())
            if not same(outcome(run), reference):
                raise Lost(f"{run} is not what {whole} is")
            tally["runs compared"] += 1
            if not left:
                break
    return tally


def kill_one(run: Path, arguments: Sequence[Any], generator: random.Random) -> str | None:
    """Start or go on with a training, kill it, and return in what it was killed; None if it ended
    before.
    """
    saved = epochs_saved(run)
    plan = generator.choice(("any moment", "after some epochs", "in a write", "in a write"))
    with process("train_cnn.py", *arguments) as child:
        if plan == "any moment":
            wait(child, lambda: False, generator.uniform(0, 1.5 * START_UP))
        else:
            target = saved + generator.choice((0, 1, 1))
            wait(
                child,
                lambda: runs.is_finished(run) or epochs_done(run) >= target and child.training(),
            )
            if plan == "in a write":
                wait(child, lambda: unfinished(run, child))
                wait(child, lambda: False, generator.choice((0, 0, generator.uniform(0, 0.02))))
            else:
                wait(child, lambda: False, generator.uniform(0, 1))
        if child.poll() is not None:
            if child.returncode:
                raise Lost(f"the training of {run} ended with {child.returncode} by itself")
            return None
        was_training = child.training()
        child.kill()
        child.wait()
    if unfinished(run, child):
        return "in a write"
    return "in training" if was_training else "in start-up"


def unfinished(run: Path, child: subprocess.Popen) -> list[Path]:
    """Return the files that the process has begun to write and not put in their places."""
    with contextlib.suppress(FileNotFoundError):  # a folder may vanish meanwhile
        return [
            path
            for folder in (run, run / runs.CHECKPOINT)
            for path in folder.glob(f"{atomic_io.TEMPORARY_PREFIX}{child.pid}-*")
        ]
    return []


def epochs_done(run: Path) -> int:
    """Return the lines of the history, without opening what may be in the making."""
    with contextlib.suppress(OSError):
        return (run / runs.HISTORY_FILE).read_text().count("\n") - 1
    return 0


def epochs_saved(run: Path) -> int:
    return (
        len(checkpoint.load_state(run)[1]) if (run / runs.CHECKPOINT).exists() else epochs_done(run)
    )


def check_run(run: Path, reference: Outcome) -> None:
    """Raise Lost where a file is not whole, or tells another story than the reference does."""
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
            raise Lost(f"{run} tells of other epochs")
    if (run / runs.MODEL).exists():
        try:
            with zipfile.ZipFile(run / runs.MODEL) as archive:
                broken = archive.testzip()
        except zipfile.BadZipFile as error:
            broken = error
        if broken:
            raise Lost(f"{run / runs.MODEL} is not whole: {broken}")


def without_seconds(history: list[runs.Row]) -> list[runs.Row]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def as_written(history: list[runs.Row]) -> list[dict[str, str]]:
    """Return the rows with the digits that history.csv has."""
    return [{key: f"{value:.9g}" for key, value in row.items()} for row in without_seconds(history)]


def outcome(run: Path) -> Outcome:
    """Return what a finished run leaves: history and weights."""
    left = {path.name for path in run.iterdir()} - {
        "metrics.json",
        "predictions.npz",
        "novelty.npz",
        "report.html",
        "figures",
    }
    if left != {runs.CONFIG, runs.MODEL, runs.HISTORY_FILE}:
        raise Lost(f"{run} holds {sorted(left)}")
    return without_seconds(runs.load_history(run)), runs.load_model(run).get_weights()


def same(outcome: Outcome, other: Outcome) -> bool:
    return (
        outcome[0] == other[0]
        and len(outcome[1]) == len(other[1])
        and all(
            array.tobytes() == other_array.tobytes()
            for array, other_array in zip(outcome[1], other[1], strict=True)
        )
    )


def kill_evaluations(kills: int, generator: random.Random, folder: Path) -> dict[str, Any]:
    """Kill evaluations of a run, each of which would change the results: they stay, or are replaced
    whole.
    """
    run = folder / "evaluated"
    finish(
        "train_cnn.py", "--limit", "3000", "--epochs", "2", "--runs-dir", folder, "--name", run.name
    )
    finish("evaluate_model.py", run)
    plain = results(run)
    finish("evaluate_model.py", run, "--test-time-flips")
    flipped = results(run)
    tally = {"tried": 0, "survived": 0, "in a write": 0}
    while tally["tried"] < kills:
        with process(
            "evaluate_model.py", run, *["--test-time-flips"] * (results(run) == plain)
        ) as child:
            if generator.random() < 0.3:
                wait(child, lambda: False, generator.uniform(0, 2 * START_UP))
            else:
                wait(child, lambda: unfinished(run, child))
                wait(child, lambda: False, generator.uniform(0, 3))
            if child.poll() == 0:
                continue
            child.kill()
            if child.wait() != -signal.SIGKILL:
                raise Lost(f"the evaluation of {run} ended with {child.returncode} by itself")
        tally["tried"] += 1
        tally["in a write"] += bool(unfinished(run, child))
        if results(run) not in (plain, flipped):
            raise Lost(f"the results in {run} are of two evaluations")
        tally["survived"] += 1
        print(f"evaluation: killed, {len(plain)} files are of one evaluation", flush=True)
    finish("evaluate_model.py", run)
    if results(run) != plain or [*run.glob(f"{atomic_io.TEMPORARY_PREFIX}*")]:
        raise Lost(f"{run} was evaluated to something else, or holds what is unfinished")
    return tally


def results(run: Path) -> dict[Path, Any]:
    """Return the content of the results, which are the same whenever a run is evaluated; of a .npz,
    the arrays.
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
    """Train and evaluate on disks that are too small; then enlarge them and go on."""
    if os.geteuid():
        return {"not tried": "only root may mount a small disk"}
    reference_run = folder / "disk-whole"
    command = ["--limit", "3000", "--epochs", "4", "--patience", "0"]
    finish("train_cnn.py", *command, "--runs-dir", folder, "--name", reference_run.name)
    reference, tally = (
        outcome(reference_run),
        {"full disks": 0, "survived": 0, "runs that went on": 0},
    )
    finish("evaluate_model.py", reference_run)
    for room in ROOMS:
        with small_disk(folder / "disk", room) as disk:
            run = disk / "run"
            refuse("train_cnn.py", *command, "--runs-dir", disk, "--name", run.name)
            tally["full disks"] += 1
            if [*disk.glob(f"**/{atomic_io.TEMPORARY_PREFIX}*")]:
                raise Lost(f"{disk} of {room} kB holds what is unfinished")
            check_run(run, reference)
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
            tally["runs that went on"] += run.exists()
            finish(
                "train_cnn.py",
                *(
                    ["--resume", run]
                    if run.exists()
                    else [*command, "--runs-dir", disk, "--name", run.name]
                ),
            )
            if not same(outcome(run), reference):
                raise Lost(f"the run on a disk of {room} kB ended as another one")
            tally["survived"] += 1
            print(f"training on {room} kB: refused, and went on with more", flush=True)
    for room in (20, 200, 800):
        with small_disk(folder / "disk", 100_000) as disk:
            subprocess.run(["cp", "-r", *reference_run.iterdir(), disk], check=True)
            before = results(disk)
            used = sum(path.stat().st_blocks for path in disk.rglob("*")) // 2
            (disk / "ballast").write_bytes(bytes(1024 * (100_000 - used - room - 100)))
            refuse("evaluate_model.py", disk)
            tally["full disks"] += 1
            (disk / "ballast").unlink()
            if results(disk) != before:
                raise Lost(
                    f"an evaluation on a disk with {room} kB left has changed the results before it"
                )
            tally["survived"] += 1
            print(
                f"evaluation with {room} kB left: refused, the older results are what they were",
                flush=True,
            )
    return tally


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


# What safety costs.


def costs(folder: Path) -> dict[str, Any]:
    """Measure what is written after an epoch of the default training, and what determinism
    costs.
    """
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
        run = train_cnn.train(TrainConfig(epochs=epochs, runs_dir=folder))
    epoch = statistics.median(row["seconds"] for row in runs.load_history(run))
    sides = {
        name: (name, "dropout_cnn") for name in ("our_training", "our_training_without_determinism")
    }
    _, answers = measure_speed.take_turns(sides)
    with_it, without = (
        measure_speed.summary([1e6 * turn["seconds"] / turn["images"] for turn in answers[name]])
        for name in sides
    )
    return {
        "epoch, s": epoch,
        "written after it, s": sum(spent) / epochs,
        "share": sum(spent) / epochs / epoch,
        "µs an image": with_it,
        "µs an image without determinism": without,
    }


# Broken inputs.


def break_inputs() -> dict[str, Any]:
    """Try the long table of tests/hostile_input."""
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
            "test_it_is_refused",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    tried = re.findall(r"test_it_is_refused\[(.*?) \| .* (PASSED|FAILED|ERROR)", done.stdout)
    tally = {
        "tried": len(tried),
        "refused": sum(word == "PASSED" for _, word in tried),
        "causes": len({cause for cause, _ in tried}),
    }
    if done.returncode or not tried:
        raise Lost(f"{tally}; {done.stdout[-2000:]}")
    return tally


# Processes.


@contextlib.contextmanager
def process(script: str, *arguments: Any) -> Iterator[subprocess.Popen]:
    """Give a Popen that tells, by training(), whether the first epoch of this process has begun."""
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            [sys.executable, ROOT / script, *map(str, arguments)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=measure_speed.default_environment(),
        )

        def training():
            return b"Epoch " in os.pread(log.fileno(), 100_000, 0)

        child.training = training
        try:
            yield child
        finally:
            child.kill()
            child.wait()


def wait(child: subprocess.Popen, condition: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until the condition holds, the process ends or the seconds are over."""
    end = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < end and not condition():
        time.sleep(0.0005)


def finish(script: str, *arguments: Any) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode:
        raise Lost(f"{script} {' '.join(map(str, arguments))}: {done.stderr}")


def refuse(script: str, *arguments: Any) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode != 1 or done.stderr.count("\n") != 1 or "No space left" not in done.stderr:
        raise Lost(f"on a full disk, {script} ends with {done.returncode} and says: {done.stderr}")


def table(report: dict[str, Any]) -> str:
    """Return the table of README.md. A part that lost something, or was not tried, has a line that
    says so.
    """
    lines = ["| tried | how often | held |", "|---|---|---|"]
    rows = {
        "kills": (
            "`kill -9` of a training",
            "{tried}: {in a write} in the writing of a file, {in training} in other "
            "moments of an epoch, {in start-up} in start-up; {after the second epoch} after the "
            "second epoch",
            "{survived}; the bits of all {runs compared} runs were those of undisturbed ones",
        ),
        "evaluations": (
            "`kill -9` of an evaluation that would change the results",
            "{tried}: {in a write} while it wrote",
            "{survived}",
        ),
        "disks": ("a disk that fills up", "{full disks}", "{survived}"),
        "inputs": ("a broken input", "{tried}, of {causes} causes", "{refused} refused"),
    }
    for part, (what, often, held) in rows.items():
        tally = report.get(part, {"not tried": "yet"})
        problem = [
            f"{word}: {text}" for word, text in tally.items() if word in ("lost", "not tried")
        ]
        cells = (*problem, "") if problem else (often.format_map(tally), held.format_map(tally))
        lines.append(f"| {what} | {' | '.join(cells)} |")
    cost = report.get("costs", {"lost": ""})
    if "lost" not in cost:
        same_bits, any_bits = cost["µs an image"], cost["µs an image without determinism"]
        lines.append(
            f"\nWhat is written after an epoch of the default training takes "
            f"{cost['written after it, s']:.2f} of {cost['epoch, s']:.1f} s: {cost['share']:.1%}. "
            "The same "
            f"bits for the same seed change the time of an epoch by "
            f"{same_bits['median'] / any_bits['median'] - 1:+.1%} ({same_bits['median']:.0f} and "
            f"{any_bits['median']:.0f} µs an image; spread {same_bits['spread']:.0%} and "
            f"{any_bits['spread']:.0%})."
        )
    return "\n".join(lines)


def main() -> int:
    parts = ("kills", "evaluations", "disks", "costs", "inputs")
    parser = cli.Parser(__doc__)
    parser.add_argument("part", nargs="?", choices=parts, help="all of them, if none is named")
    parser.add_argument(
        "--kills",
        type=int,
        default=64,
        help="of trainings; a quarter of it of evaluations (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the moments of the kills (%(default)s)"
    )
    options = parser.parse_args()

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
            "costs": lambda: costs(Path(folder)),
            "inputs": break_inputs,
        }
        for part in [options.part] if options.part else parts:
            try:
                report[part] = work[part]()
            except (Lost, runs.RunError, subprocess.CalledProcessError) as error:
                report[part], code = {"lost": str(error)}, 1
            print(f"{part}: {json.dumps(report[part], ensure_ascii=False)}", flush=True)
            atomic_io.write_json(path, report)
    print(table(report))
    return code


if __name__ == "__main__":
    sys.exit(main())
