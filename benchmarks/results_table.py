"""Train and score every network with three seeds and print the table of README.md.

    python -m benchmarks.results_table

Runs that are finished are not trained again and others go on, so a comparison that was broken off loses nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
from fmnist import runs
import train_cnn

SEEDS = (0, 1, 2)
PLAIN = "--batch-size 128 --ema-epochs 0 --augment none --patience 0"
BATCH_NORM = f"--epochs 15 --schedule one-cycle --learning-rate 0.004 {PLAIN}"
OPTIONS = {
    "dropout_cnn": "",
    "batchnorm_cnn": f"--model batchnorm_cnn {BATCH_NORM}",
    "gap_cnn": f"--model gap_cnn {BATCH_NORM}",
    "lenet_l2": f"--model lenet_l2 --epochs 25 --schedule constant --learning-rate 0.001 {PLAIN}",
}


def result(name, seed, runs_dir):
    """Return the metrics of one run, trained and scored where that was not done before."""
    run = runs_dir / f"{name}-{seed}"
    train(run, [*OPTIONS[name].split(), "--seed", str(seed)])
    metrics = run / "metrics.json"
    if not metrics.exists() or json.loads(metrics.read_text())["epochs"] != len(runs.load_history(run)):
        call("evaluate_model.py", str(run))  # or once more, where it was scored before it was finished
    return json.loads(metrics.read_text())


def train(run, options):
    """Train with the options of train_cnn.py, or go on, unless the run is finished. One of other options is refused."""
    if run.exists():
        if not same(runs.load_config(run), options):
            sys.exit(f"{run} was trained with other options; remove it to train it again")
        if not runs.is_finished(run):
            call("train_cnn.py", "--resume", str(run))
    else:
        call("train_cnn.py", *options, "--runs-dir", str(run.parent), "--name", run.name)


def settings(options):
    """Return what options of train_cnn.py mean, but for the places of things."""
    return train_cnn.settings(train_cnn.parse_options(options))


def same(recorded, options):
    """Return whether recorded settings are what the options mean."""
    return train_cnn.same_settings(recorded, train_cnn.parse_options(options))


def call(script, *options):
    with subprocess.Popen([sys.executable, ROOT / script, *options]) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # which the script had as well
            code = process.wait()
    if code:
        sys.exit(code)


def mean_and_deviation(values, form):
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/results_table"), help="(%(default)s)")
    runs_dir = parser.parse_args().runs_dir

    results = {name: [result(name, seed, runs_dir) for seed in SEEDS] for name in OPTIONS}
    print("| model | test accuracy, % | test loss | parameters | seconds per epoch | epochs | options |")
    print("|---|---|---|---|---|---|---|")
    for name, scores in results.items():
        accuracy = mean_and_deviation([100 * score["accuracy"] for score in scores], ".2f")
        loss = mean_and_deviation([score["loss"] for score in scores], ".3f")
        seconds = min(score["seconds_per_epoch"] for score in scores)  # of the least disturbed run
        epochs = sorted(score["epochs"] for score in scores)
        epochs = " to ".join(str(number) for number in dict.fromkeys((epochs[0], epochs[-1])))
        print(f"| `{scores[0]['model']}` | {accuracy} | {loss} | {scores[0]['parameters']:,} | {seconds:.1f} | "
              f"{epochs} | `{OPTIONS[name] or 'defaults'}` |")


if __name__ == "__main__":
    main()
