"""Measure the speed of training and prediction in comparison with Keras, PyTorch and ONNX Runtime.

    python -m benchmarks.measure_speed                       up to half an hour on two cores
    python -m benchmarks.measure_speed --output-dir results

Each program (plain Keras, this project, PyTorch, ONNX Runtime) runs in its own process
(speed_worker.py). The programs take turns, so that a machine whose speed changes affects all of
them. Plain Keras and PyTorch are also measured with the batch size that is fastest for them. Saves
speed-KIND.json, speed-KIND.md and speed-KIND.png; KIND is the kind of the processor: avx2, avx512,
bfloat16 or other. PyTorch and ONNX Runtime are included if they are installed:
python -m pip install -e ".[bench]" -c constraints.txt
"""

import contextlib
import datetime
import json
import math
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

from fmnist import atomic_io, cli, runs, runtime, source
from fmnist.figure_style import default_style
from plots import BLUE, RED

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
MAX_SPREAD = 0.3  # a ratio of medians with a larger spread is marked
SIZES = (7500, 15000, 30000, 60000)  # numbers of images
BATCHES = (32, 64, 128, 256, 512, 1024)  # batch sizes

KINDS = {
    "bfloat16": "with AVX-512 and arithmetic in bfloat16",
    "avx512": "with AVX-512",
    "avx2": "with AVX2, without AVX-512",
    "other": "of another kind",
}
NETWORKS = ("dropout_cnn", "batchnorm_cnn", "gap_cnn")
TUTORIAL_BATCH = 64  # batch size of plain Keras in most tutorials
# The programs: a function of speed_worker.py with its arguments.
PREDICTION = {
    "plain Keras": ("plain_prediction",),
    "this project": ("project_prediction",),
    "ONNX Runtime": ("onnx_prediction",),
}
LIMIT = "matrix product"  # the fastest one is the upper limit of the arithmetic throughput
Measurement = dict[str, Any]  # a line of JSON from speed_worker.py
Programs = dict[str, tuple[str, ...]]  # by title


class Worker:
    """A program in its own process.

    The attribute `facts` holds what the program reports when it is ready.
    """

    def __init__(self, *program: str) -> None:
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed_worker", *program],
            cwd=ROOT,
            env=default_environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.facts = self.read()

    def turn(self, **options: Any) -> Measurement:
        """Let the program perform one turn and return the measurement."""
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> Measurement:
        """Return the next line of JSON from the process. Exits if the process failed."""
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            sys.exit(f"a program of the benchmark failed:\n{self.errors.read()}")
        return json.loads(line)

    def stop(self) -> None:
        """Close the input of the process and wait for its end."""
        self.process.communicate()


def default_environment() -> dict[str, str]:
    """Return the environment with the default settings of TensorFlow and without its messages."""
    environment = {
        key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"
    }
    return {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"}


def measure_in_turns(
    programs: Programs, rounds: int = ROUNDS
) -> tuple[dict[str, Measurement], dict[str, list[Measurement]]]:
    """Run programs in turns and return their facts and measurements by name.

    The first turn of each program is not counted. A program whose packages are not installed has
    the fact "missing" and no measurements.
    """
    with contextlib.ExitStack() as stack:
        workers, facts = {}, {}
        for name, program in programs.items():
            worker = Worker(*program)
            stack.callback(worker.stop)
            facts[name] = worker.facts
            if "missing" not in worker.facts:
                workers[name] = worker
                worker.turn()
        measurements = {name: [] for name in workers}
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}: {', '.join(workers)}", flush=True)
            for name, worker in workers.items():
                measurements[name].append(worker.turn())
    return facts, measurements


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median, spread (interquartile range divided by the median) and number of values."""
    if len(values) < 2:
        return {"median": values[0], "spread": 0.0, "n": 1}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "spread": (high - low) / median, "n": len(values)}


# Measurements. Every function returns a part of speed-KIND.json.


def training_programs(network: str, fastest: int) -> Programs:
    """Return the programs that train a network, by title.

    Args:
        network: name of the network.
        fastest: the batch size that is fastest for plain Keras.
    """
    programs = {}
    for batch_size in sorted({TUTORIAL_BATCH, fastest}):
        arguments = network, str(batch_size)
        title = f"batch size {batch_size}"
        programs[f"{network}, plain Keras, {title}"] = ("plain_training", *arguments)
        programs[f"{network}, this project, {title}"] = ("project_training", *arguments)
    programs[f"{network}, this project, default"] = ("project_training", network)
    if network == NETWORKS[0]:
        programs[f"{network}, this project, default, without oneDNN"] = (
            "project_training_without_onednn",
            network,
        )
        programs[f"{network}, PyTorch"] = ("torch_training",)
    return programs


def measure_training() -> dict[str, Any]:
    """Measure one epoch of training with validation for every network and program."""
    rows, rates = {}, []
    for network in NETWORKS:
        print(f"fastest batch size of plain Keras for {network}", flush=True)
        worker = Worker("plain_batch_size", network)
        programs = training_programs(network, worker.turn()["batch_size"])
        worker.stop()
        facts, measurements = measure_in_turns({LIMIT: ("matrix_multiply",), **programs})
        rates += [turn["rate"] for turn in measurements[LIMIT]]
        for title in programs:
            rows[title] = dict(facts[title])
            if title in measurements:
                flops = facts[plain_title(title, TUTORIAL_BATCH)]["flops"]
                rows[title] |= training_row(measurements[title], flops)
    default = rows[f"{NETWORKS[0]}, this project, default"]
    return {"limit": summary(rates), "training": rows} | {
        key: default[key] for key in ("validated", "images")
    }


def training_row(epochs: list[Measurement], flops: int) -> Measurement:
    """Return the times per image, in µs, and the rate, in operations per second.

    Args:
        epochs: measured epochs.
        flops: floating-point operations per image.
    """
    images = epochs[0]["images"]
    times = [1e6 * epoch["seconds"] / images for epoch in epochs]
    without_stalls = summary(
        [1e6 * (epoch["seconds"] - epoch["stall"]) / images for epoch in epochs]
    )
    return {
        **without_stalls,
        # The mean, because few epochs stall, but for long.
        "with_stalls": statistics.mean(times),
        "range_with_stalls": (min(times), max(times)),
        "rate": 1e6 * flops / without_stalls["median"],
        "val_accuracy": epochs[-1]["val_accuracy"],
        "images": images,
    }


def plain_title(title: str, batch_size: int) -> str:
    """Return the title of plain Keras for the network of a title."""
    return f"{title.split(',')[0]}, plain Keras, batch size {batch_size}"


def fastest_plain(training: dict[str, Any], title: str) -> Measurement:
    """Return the row of plain Keras with the batch size that is fastest, for the same network."""
    prefix = title.split(",")[0] + ", plain Keras"
    rows = [row for name, row in training.items() if name.startswith(prefix)]
    return min(rows, key=lambda row: row["median"])


def measure_prediction() -> dict[str, Any]:
    """Measure the prediction of the test set and of single images for every program."""
    facts, measurements = measure_in_turns(PREDICTION, rounds=3)
    rows = {}
    for name, turns in measurements.items():
        latencies = sorted(1e3 * seconds for turn in turns for seconds in turn["one_image"])
        rows[name] = {
            "evaluation": summary([turn["evaluation"] for turn in turns]),
            "p50": latencies[len(latencies) // 2],
            "p99": latencies[int(len(latencies) * 0.99)],
        }
    return {"prediction": {name: rows.get(name, facts[name]) for name in PREDICTION}}


def measure_cost() -> dict[str, Any]:
    """Measure the training time per image, in µs, by number of images and by batch size."""
    worker = Worker("project_cost")
    settings = {*((images, 256) for images in SIZES), *((SIZES[0], batch) for batch in BATCHES)}
    times = {setting: [] for setting in settings}
    for number in range(4):
        print(f"training time per image, round {number} of 3", flush=True)
        for images, batch in sorted(settings):
            seconds = worker.turn(images=images, batch_size=batch)["seconds"]
            if number:  # round 0 includes tracing and is not counted
                times[images, batch].append(1e6 * seconds / images)
    worker.stop()
    return {
        "by_images": {images: statistics.median(times[images, 256]) for images in SIZES},
        "by_batch": {batch: statistics.median(times[SIZES[0], batch]) for batch in BATCHES},
    }


def measure_start_up() -> dict[str, Any]:
    """Measure the time of --help, of importing TensorFlow and until the first batch is trained, in
    seconds, and the peak memory in GB.
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


def measure_make_train() -> dict[str, Any]:
    """Measure the parts of `make train` with installed packages and the data on disk, in seconds.

    The start-up includes make, the imports, and building and compiling the network.
    """
    timed_load = (
        "import time, data; begin = time.perf_counter(); data.load(); "
        "print(time.perf_counter() - begin)"
    )
    with tempfile.TemporaryDirectory() as folder:
        print("make train", flush=True)
        loading = float(
            subprocess.run(
                [sys.executable, "-c", timed_load],
                cwd=ROOT,
                env=default_environment(),
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        begin = time.perf_counter()
        process = subprocess.Popen(
            # Without --old-file, make would install the packages if .venv is elsewhere.
            ["make", "train", f"RUN={sys.executable}", "--old-file=.venv/core"]
            + [f"ARGS=--runs-dir {folder} --name run"],
            cwd=ROOT,
            env=default_environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = math.nan
        for line in process.stdout:
            if line.startswith("Run: "):  # printed before the first epoch
                ready = time.perf_counter() - begin
        if process.wait() or math.isnan(ready):
            sys.exit("make train failed")
        total = time.perf_counter() - begin
        epochs = len(runs.load_history(Path(folder, "run")))
    return {
        "make_train": {
            "start_up": ready - loading,
            "data": loading,
            "training": total - ready,
            "total": total,
            "epochs": epochs,
        }
    }


def run(*command: str) -> tuple[float, float]:
    """Run Python with arguments and return its time in seconds and its peak memory in GB."""
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
    """Return the time until the progress bar of train_cnn.py shows the first batches."""
    begin = time.perf_counter()
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(
            sys.executable,
            [sys.executable, "train_cnn.py", "--limit", "600", "--runs-dir", folder],
            default_environment(),
        )
    output = b""
    while not re.search(rb"\d+/\d+\x1b", output):
        output += os.read(terminal, 1000)
    seconds = time.perf_counter() - begin
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
    return seconds


# Output.


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    training = results["training"]
    lines = [
        f"{results['versions']}. The fastest float32 matrix product has "
        f"{results['limit']['median'] / 1e9:.0f} GFLOP/s "
        f"(spread {results['limit']['spread']:.0%}).",
        "",
        "| one epoch of training with validation | batch size | µs per image (spread) | "
        "with stalls (range) | GFLOP/s | relative time | relative time with stalls |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, row in training.items():
        if "missing" in row:
            lines.append(f"| {title} | {row['missing']} is not installed | | | | | |")
            continue
        plain, tutorial = fastest_plain(training, title), plain_title(title, TUTORIAL_BATCH)
        large = " (large spread)" if max(row["spread"], plain["spread"]) > MAX_SPREAD else ""
        low, high = row["range_with_stalls"]
        cells = (
            title.removesuffix(f", batch size {row['batch_size']}"),
            str(row["batch_size"]),
            f"{row['median']:.0f} ({row['spread']:.0%})",
            f"{row['with_stalls']:.0f} ({low:.0f} to {high:.0f})",
            f"{row['rate'] / 1e9:.0f} ({row['rate'] / results['limit']['median']:.0%})",
            f"{row['median'] / plain['median']:.2f}{large}",
            f"{row['with_stalls'] / training[tutorial]['with_stalls']:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Epochs have {results['images']:,} images. A stall is the time from the last batch to the "
        "end of an epoch. Times are medians without stalls, and means with stalls; the spread is "
        "the interquartile range divided by the median. The percentage after GFLOP/s is the "
        "fraction of the matrix product. Relative times without stalls are divided by that of "
        "plain Keras with its fastest batch size, those with stalls by that of plain Keras with "
        f"batch size {TUTORIAL_BATCH}.",
        "",
        learning_table(results),
        "",
        "| prediction with `dropout_cnn` | 10,000 images, s | one image, median, ms | "
        "one image, 99th percentile, ms |",
        "|---|---|---|---|",
    ]
    for name, row in results["prediction"].items():
        lines.append(
            f"| {name} | {row['missing']} is not installed | | |"
            if "missing" in row
            else f"| {name} | {row['evaluation']['median']:.2f} | {row['p50']:.2f} | "
            f"{row['p99']:.2f} |"
        )
    start, memory, make_train = (results[key] for key in ("start_up", "memory", "make_train"))
    # The keys of a JSON object are texts.
    by_images = {int(images): cost for images, cost in results["by_images"].items()}
    deviation = max(abs(cost / by_images[SIZES[-1]] - 1) for cost in by_images.values())
    lines += [
        "",
        "| `make train`, packages installed, data on disk | time, s |",
        "|---|---|",
        f"| start-up: Python, TensorFlow, building the network | {make_train['start_up']:.1f} |",
        f"| loading the data | {make_train['data']:.1f} |",
        f"| training and saving, {make_train['epochs']} epochs | {make_train['training']:.1f} |",
        f"| total | {make_train['total']:.1f} |",
        "",
        f"`--help` takes {start['help']:.1f} s. The first batch is trained after "
        f"{start['first_batch']:.1f} s; importing TensorFlow alone takes {start['import']:.1f} s. "
        f"`train_cnn.py` needs {memory['train_cnn.py']:.2f} GB of memory. `evaluate_model.py` "
        f"needs {memory['evaluate_model.py']:.2f} GB and {results['evaluate_model.py']:.0f} s. "
        f"From {SIZES[0]:,} to {SIZES[-1]:,} images, the training time per image differs by up to "
        f"{deviation:.0%}.",
    ]
    return "\n".join(lines) + "\n"


def learning_table(results: dict[str, Any]) -> str:
    """Return a table of the validation accuracies after the same number of steps.

    Plain Keras and this project have the same batch size, optimizer and learning rate. Exits if a
    network has another number of parameters in plain Keras.
    """
    training, validated, epochs = results["training"], results["validated"], ROUNDS + 1
    titles = [title for title in training if "plain Keras" in title]
    # Bonferroni's correction for several comparisons, at 5 % in total.
    deviations = statistics.NormalDist().inv_cdf(1 - 0.05 / (2 * len(titles)))
    lines = [
        "| network | batch size | training steps | validation accuracy, plain Keras, % | "
        "validation accuracy, this project, % | significantly different |",
        "|---" * 6 + "|",
    ]
    for title in titles:
        plain, own = training[title], training[title.replace("plain Keras", "this project")]
        if plain["parameters"] != own["parameters"]:
            sys.exit(f"{title}: {plain['parameters']} parameters, not {own['parameters']}")
        mean = (plain["val_accuracy"] + own["val_accuracy"]) / 2
        # The standard deviation of the difference between two proportions.
        tolerance = deviations * (2 * mean * (1 - mean) / validated) ** 0.5
        is_significant = abs(own["val_accuracy"] - plain["val_accuracy"]) > tolerance
        cells = (
            title.partition(",")[0],
            str(plain["batch_size"]),
            str(epochs * math.ceil(results["images"] / plain["batch_size"])),
            f"{100 * plain['val_accuracy']:.1f}",
            f"{100 * own['val_accuracy']:.1f}",
            f"{'YES' if is_significant else 'no'} (limit {100 * tolerance:.1f} points)",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Accuracies are those of {validated} images after {epochs} epochs with the same optimizer "
        "and learning rate. The limit for a significant difference (at 5 % for all rows together) "
        "allows for the choice of these images, not for the randomness of training.",
    ]
    return "\n".join(lines)


def figure_of(results: dict[str, Any]) -> Figure:
    """Return the figure: training time of every program, and by number of images and batch size."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    bars, curves = figure.subplots(1, 2, width_ratios=(1.2, 1))
    rows = {title: row for title, row in results["training"].items() if "missing" not in row}
    colours = [BLUE if "this project" in title else "0.65" for title in rows]
    container = bars.barh(
        list(rows),
        [row["median"] for row in rows.values()],
        color=colours,
        xerr=[row["median"] * row["spread"] / 2 for row in rows.values()],
        ecolor="0.3",
    )
    bars.bar_label(
        container,
        [f" {row['median']:.0f}" for row in rows.values()],
        label_type="center",
        color="white",
    )
    bars.invert_yaxis()
    bars.set(
        xlabel="Time per image, µs",
        title="Training time\n(median ± half the interquartile range)",
    )
    curves.plot(
        [int(images) for images in results["by_images"]],
        results["by_images"].values(),
        "o-",
        color=BLUE,
        label="images, in batches of 256",
    )
    curves.plot(
        [int(batch_size) for batch_size in results["by_batch"]],
        results["by_batch"].values(),
        "s--",
        color=RED,
        label=f"batch size, {SIZES[0]:,} images",
    )
    curves.set(
        xscale="log",
        xlabel="Number of images, or batch size",
        ylabel="Time per image, µs",
        ylim=(0, None),
        title="dropout_cnn, this project",
    )
    ticks = (*BATCHES[::2], *SIZES[::3])
    curves.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    curves.minorticks_off()
    curves.grid(alpha=0.3)
    curves.legend(loc="lower center")
    return figure


def versions() -> str:
    """Return the versions of Python and of the packages that are compared."""
    from importlib.metadata import PackageNotFoundError, version

    texts = [f"Python {platform.python_version()}"]
    for package in ("tensorflow", "keras", "torch", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            texts.append(f"{package} {version(package)}")
    return ", ".join(texts)


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=ROOT / "benchmarks/results",
        metavar="DIR",
        help="folder for the results (default: benchmarks/results)",
    )
    folder = parser.parse_args(argv).output_dir

    def work() -> None:
        atomic_io.check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        source.find()  # downloads the data before the measurements
        begin = time.perf_counter()
        results = {
            "processor": runtime.processor(),
            "versions": versions(),
            "commit": runs.commit(),
            "date": datetime.date.today().isoformat(),
            **measure_start_up(),
            **measure_make_train(),
            **measure_training(),
            **measure_prediction(),
            **measure_cost(),
        }
        results["seconds"] = time.perf_counter() - begin
        name = f"speed-{runtime.processor_kind()}"
        atomic_io.write_json(folder / f"{name}.json", results)
        (folder / f"{name}.md").write_text(table(results))
        with default_style():
            figure_of(results).savefig(folder / f"{name}.png", dpi=150)
        print(
            f"\n{table(results)}\nMeasured in {results['seconds'] / 60:.1f} minutes. "
            f"Saved {folder}/{name}.md, {name}.json and {name}.png"
        )

    return cli.exit_code("measure_speed.py", work)


if __name__ == "__main__":
    sys.exit(main())
