"""Measure how fast training, evaluation and prediction are, beside plain Keras, PyTorch and ONNX
Runtime.

    make bench

or, in an environment of your own,

    python -m benchmarks.measure_speed                    under ten minutes on two cores
    python -m benchmarks.measure_speed --output-dir here

Every side runs in a process of its own (speed_worker.py), and the sides take turns, so that a
machine whose speed drifts slows all of them. Writes speed.md, speed.json and speed.png. PyTorch and
ONNX Runtime are compared where they are installed: python -m pip install -e ".[bench]"
"""

import contextlib
import json
import os
import platform
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fmnist import cli, source
from plots import BLUE, RED

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
NOISY = 0.3  # a spread above it makes a ratio worth little
CALM = 0.03  # an epoch whose end was held up by no more than this share of it
SIZES = (7500, 15000, 30000, 60000)
BATCHES = (32, 64, 128, 256, 512, 1024)

TRAINING = {
    "dropout_cnn, plain Keras": ("plain_training", "dropout_cnn"),
    "dropout_cnn, ours": ("our_training", "dropout_cnn"),
    "dropout_cnn, ours without oneDNN": ("our_training_without_onednn", "dropout_cnn"),
    "dropout_cnn, PyTorch": ("torch_training", "contiguous_format"),
    "dropout_cnn, PyTorch channels_last": ("torch_training", "channels_last"),
    "batchnorm_cnn, plain Keras": ("plain_training", "batchnorm_cnn"),
    "batchnorm_cnn, ours": ("our_training", "batchnorm_cnn"),
    "gap_cnn, plain Keras": ("plain_training", "gap_cnn"),
    "gap_cnn, ours": ("our_training", "gap_cnn"),
}
PREDICTION = {
    "plain Keras": ("plain_prediction",),
    "ours": ("our_prediction",),
    "ONNX Runtime": ("onnx_prediction",),
}
LIMIT = "matrix product"
Answer = dict[str, Any]  # a line of JSON of speed_worker.py


class Worker:
    """A side in a process of its own that takes turns when it is told to."""

    def __init__(self, *side: str) -> None:
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed_worker", *side],
            cwd=ROOT,
            env=default_environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.about = self.answer()

    def turn(self, **options: Any) -> Answer:
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Answer:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            sys.exit(f"a side of the benchmark failed:\n{self.errors.read()}")
        return json.loads(line)

    def stop(self) -> None:
        self.process.communicate()


def default_environment() -> dict[str, str]:
    """TensorFlow's own defaults, whatever the caller's environment says, and no chatter to fill a
    pipe.
    """
    environment = {
        key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"
    }
    return {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"}


def take_turns(
    sides: dict[str, tuple[str, ...]], rounds: int = ROUNDS
) -> tuple[dict[str, Answer], dict[str, list[Answer]]]:
    """Return what is known about every side, and its answers. A turn before the first one is left
    out.
    """
    with contextlib.ExitStack() as stack:
        workers, about = {}, {}
        for name, side in sides.items():
            worker = Worker(*side)
            stack.callback(worker.stop)
            about[name] = worker.about
            if "missing" not in worker.about:
                workers[name] = worker
                worker.turn()
        answers = {name: [] for name in workers}
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}: {', '.join(workers)}", flush=True)
            for name, worker in workers.items():
                answers[name].append(worker.turn())
    return about, answers


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median and spread: the distance of the quartiles as a share of the median."""
    if len(values) < 2:
        return {"median": values[0], "spread": 0.0, "n": 1}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "spread": (high - low) / median, "n": len(values)}


# What is measured. Every function returns a part of speed.json.


def measure_training() -> dict[str, Any]:
    about, answers = take_turns({**TRAINING, LIMIT: ("matrix_multiply",)})
    limit = summary([answer["rate"] for answer in answers[LIMIT]])
    rows = {}
    for name in TRAINING:
        if name not in answers:
            rows[name] = about[name]
            continue
        epochs = answers[name]
        calm = [epoch for epoch in epochs if epoch["stall"] < CALM * epoch["seconds"]] or epochs
        network = name.split(",")[0]
        row = {
            **about[name],
            **summary([1e6 * epoch["seconds"] / epoch["images"] for epoch in calm]),
            "with_stalls": summary([1e6 * epoch["seconds"] / epoch["images"] for epoch in epochs]),
            "stalled": len(epochs) - len(calm),
            "longest_stall": max(epoch["stall"] for epoch in epochs),
            "val_accuracy": epochs[-1]["val_accuracy"],
        }
        row["rate"] = about[f"{network}, plain Keras"]["flops"] / row["median"] * 1e6
        row["share"] = row["rate"] / limit["median"]
        rows[name] = row
    return {
        "limit": limit,
        "training": rows,
        "validated": about["dropout_cnn, ours"]["validated"],
        "images": answers["dropout_cnn, ours"][0]["images"],
    }


def measure_prediction() -> dict[str, Any]:
    about, answers = take_turns(PREDICTION, rounds=3)
    rows = {}
    for name, turns in answers.items():
        singles = sorted(1e3 * seconds for turn in turns for seconds in turn["one_image"])
        rows[name] = {
            "evaluation": summary([turn["evaluation"] for turn in turns]),
            "p50": singles[len(singles) // 2],
            "p99": singles[int(len(singles) * 0.99)],
        }
    return {"prediction": {name: rows.get(name, about[name]) for name in PREDICTION}}


def measure_cost() -> dict[str, Any]:
    """µs an image of our training, by number of images and by size of the batch."""
    worker = Worker("our_cost")
    settings = {*((images, 256) for images in SIZES), *((SIZES[0], batch) for batch in BATCHES)}
    times = {setting: [] for setting in settings}
    for number in range(4):
        print(f"cost, round {number} of 3", flush=True)
        for images, batch in sorted(settings):
            seconds = worker.turn(images=images, batch_size=batch)["seconds"]
            if number:  # the first one is left out
                times[images, batch].append(1e6 * seconds / images)
    worker.stop()
    return {
        "by_images": {images: statistics.median(times[images, 256]) for images in SIZES},
        "by_batch": {batch: statistics.median(times[SIZES[0], batch]) for batch in BATCHES},
    }


def measure_start_up() -> dict[str, Any]:
    """Seconds of --help, of the bare import of TensorFlow and to the first batch, and peak memory
    in GB.
    """
    times = {"help": [], "import": [], "first_batch": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3):
            print("start-up", flush=True)
            times["help"].append(
                max(run("train_cnn.py", "--help")[0], run("evaluate_model.py", "--help")[0])
            )
            times["import"].append(run("-c", "import tensorflow")[0])
            times["first_batch"].append(seconds_to_first_batch(folder))
        print("peak memory", flush=True)
        training = run("train_cnn.py", "--epochs", "1", "--runs-dir", folder, "--name", "run")
        evaluation = run("evaluate_model.py", f"{folder}/run")
    return {
        "start_up": {name: statistics.median(values) for name, values in times.items()},
        "memory": {"train_cnn.py": training[1], "evaluate_model.py": evaluation[1]},
        "evaluate_model.py": evaluation[0],
    }


def run(*command: str) -> tuple[float, float]:
    """Return the seconds and the peak memory, in GB, of a Python process."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=default_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024**2


def seconds_to_first_batch(folder: str) -> float:
    """Run train_cnn.py in a terminal until its progress bar shows the first batches."""
    begin = time.perf_counter()
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(
            sys.executable,
            [sys.executable, "train_cnn.py", "--limit", "600", "--runs-dir", folder],
            default_environment(),
        )
    shown = b""
    while not re.search(rb"\d+/\d+\x1b", shown):
        shown += os.read(terminal, 1000)
    seconds = time.perf_counter() - begin
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
    return seconds


# What is written.


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    training, plain = results["training"], None
    lines = [
        f"{results['machine']}; {results['versions']}. The limit, the best float32 matrix product: "
        f"{results['limit']['median'] / 1e9:.0f} GFLOP/s "
        f"(spread {results['limit']['spread']:.0%}).",
        "",
        "| an epoch of training, with validation | µs an image | spread | GFLOP/s | of the limit "
        "| ÷ plain Keras | ÷ plain Keras with its stalls |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in training.items():
        if "missing" in row:
            lines.append(f"| {name} | {row['missing']} is not installed | | | | | |")
            continue
        plain = row if name.endswith("plain Keras") else plain
        noisy = " (too noisy)" if max(row["spread"], plain["spread"]) > NOISY else ""
        batch = f", batch {row['batch_size']}" if "batch_size" in row else ""
        spread = f"{row['spread']:.0%}" if row["n"] > 1 else "n = 1"
        lines.append(
            f"| {name}{batch} | {row['median']:.0f} | {spread} | {row['rate'] / 1e9:.0f} | "
            f"{row['share']:.0%} | {row['median'] / plain['median']:.2f}{noisy} | "
            f"{row['with_stalls']['median'] / plain['with_stalls']['median']:.2f} |"
        )
    lines += [
        "",
        f"Medians of the calm epochs, of {results['images']:,} images each. {stalls(training)} "
        f"{same_learning(results)}",
        "",
        "| prediction by `dropout_cnn` | 10,000 images, s | one image, p50, ms | p99, ms |",
        "|---|---|---|---|",
    ]
    for name, row in results["prediction"].items():
        lines.append(
            f"| {name} | {row['missing']} is not installed | | |"
            if "missing" in row
            else f"| {name} | {row['evaluation']['median']:.2f} | {row['p50']:.2f} | "
            f"{row['p99']:.2f} |"
        )
    start, memory = results["start_up"], results["memory"]
    largest = results["by_images"][SIZES[-1]]
    off = max(abs(cost / largest - 1) for cost in results["by_images"].values())
    lines += [
        "",
        f"`--help` answers in {start['help']:.1f} s. The first batch is trained "
        f"{start['first_batch']:.1f} s "
        f"after the command, of which the bare import of TensorFlow takes {start['import']:.1f} s. "
        f"`train_cnn.py` needs {memory['train_cnn.py']:.2f} GB of memory, `evaluate_model.py` "
        f"{memory['evaluate_model.py']:.2f} GB and {results['evaluate_model.py']:.0f} s. "
        f"From {SIZES[0]:,} to {SIZES[-1]:,} images the time an image takes differs by up to "
        f"{off:.0%}.",
    ]
    return "\n".join(lines) + "\n"


def stalls(training: dict[str, Any]) -> str:
    """Return a sentence on the epochs that were held up at their end."""
    stalled = {name: row for name, row in training.items() if row.get("stalled")}
    if not stalled:
        return "No epoch was held up at its end."
    return (
        "Held up at its end: "
        + "; ".join(
            f"{name}, {row['stalled']} of {row['with_stalls']['n']} epochs, "
            f"by up to {row['longest_stall']:.1f} s"
            for name, row in stalled.items()
        )
        + "."
    )


def same_learning(results: dict[str, Any]) -> str:
    """Return a sentence that compares the accuracies of both sides on the same validation
    images.
    """
    training, validated = results["training"], results["validated"]
    parts = []
    for name, row in training.items():
        if name.endswith("ours"):
            plain = training[name.replace("ours", "plain Keras")]
            if plain["parameters"] != row["parameters"]:
                sys.exit(
                    f"{name}: {row['parameters']} parameters, plain Keras has {plain['parameters']}"
                )
            mean = (plain["val_accuracy"] + row["val_accuracy"]) / 2
            # Two standard deviations of the difference of two shares.
            noise = 2 * (2 * mean * (1 - mean) / validated) ** 0.5
            verdict = (
                "within"
                if abs(row["val_accuracy"] - plain["val_accuracy"]) <= noise
                else "NOT within"
            )
            parts.append(
                f"{name.split(',')[0]} {plain['val_accuracy']:.1%} and {row['val_accuracy']:.1%}, "
                f"{verdict} the noise of ± {noise:.1%}"
            )
    accuracies = "; ".join(parts)
    return f"Validation accuracy of plain Keras and ours after {ROUNDS + 1} epochs: {accuracies}."


def picture(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    bars, cost = figure.subplots(1, 2, width_ratios=(1.3, 1))
    rows = {name: row for name, row in results["training"].items() if "missing" not in row}
    colours = [BLUE if "ours" in name else "0.65" for name in rows]
    drawn = bars.barh(
        list(rows),
        [row["median"] for row in rows.values()],
        color=colours,
        xerr=[row["median"] * row["spread"] / 2 for row in rows.values()],
        ecolor="0.3",
    )
    bars.bar_label(
        drawn,
        [f" {row['median']:.0f}" for row in rows.values()],
        label_type="center",
        color="white",
    )
    bars.invert_yaxis()
    bars.set(xlabel="µs an image", title="An epoch of training with validation")
    cost.plot(
        results["by_images"].keys(),
        results["by_images"].values(),
        "o-",
        color=BLUE,
        label="images, in batches of 256",
    )
    cost.plot(
        results["by_batch"].keys(),
        results["by_batch"].values(),
        "s--",
        color=RED,
        label=f"size of the batch, {SIZES[0]:,} images",
    )
    cost.set(
        xscale="log",
        xlabel="Images, or images in a batch",
        ylabel="µs an image",
        ylim=(0, None),
        title="How the cost grows (dropout_cnn)",
    )
    ticks = (*BATCHES[::2], *SIZES[::3])
    cost.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    cost.minorticks_off()
    cost.grid(alpha=0.3)
    cost.legend(loc="lower center")
    return figure


def machine() -> str:
    """Return the processor's name and the number of cores."""
    with contextlib.suppress(OSError):
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if name:
            return f"{name[1]}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = [f"Python {platform.python_version()}"]
    for package in ("tensorflow", "keras", "torch", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--output-dir", type=Path, default=ROOT / "benchmarks/results", help="(%(default)s)"
    )
    folder = parser.parse_args(argv).output_dir

    def work() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        source.find()  # fetched now, not while the clock runs
        begin = time.perf_counter()
        results = {
            "machine": machine(),
            "versions": versions(),
            **measure_start_up(),
            **measure_training(),
            **measure_prediction(),
            **measure_cost(),
        }
        results["seconds"] = time.perf_counter() - begin
        (folder / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
        (folder / "speed.md").write_text(table(results))
        picture(results).savefig(folder / "speed.png", dpi=150)
        print(
            f"\n{table(results)}\nMeasured in {results['seconds'] / 60:.1f} minutes. "
            f"Saved {folder}/speed.md, speed.json and speed.png"
        )

    return cli.exit_code("measure_speed.py", work)


if __name__ == "__main__":
    sys.exit(main())
