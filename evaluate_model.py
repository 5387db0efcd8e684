"""Score a trained network on the test set and draw what it does.

    python evaluate_model.py                      the newest finished run
    python evaluate_model.py runs/my_run
    python evaluate_model.py --test-time-flips    the mean output for an image and its mirror image
    python evaluate_model.py --test-time-flips --test-time-shifts    also moved by a pixel

Leaves metrics.json, predictions.npz, novelty.npz, figures/ and report.html in the run's own
directory.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from fmnist import atomic_io, cli, runs, runtime

BATCH = 250
TRAINING_SAMPLE = 10_000  # scoring all 55,000 would take longer than everything else


def evaluate(
    run: str | Path,
    data_dir: str | None = None,
    output_dir: str | Path | None = None,
    test_time_flips: bool = False,
    test_time_shifts: bool = False,
) -> dict[str, Any]:
    """Score a run, write all results to output_dir (the run itself) and return the metrics.

    Args:
        run: path of a run directory.
        data_dir: folder with the data; None for the one that the run was trained on.
        output_dir: where the results are written; None for the run.
        test_time_flips: take the mean of the probabilities of an image and its mirror image; the
            scores without that are in the metrics as without_flips.
        test_time_shifts: take the mean over images moved by a pixel as well; the scores without
            that are in the metrics as without_shifts.

    Raises:
        UserError: DataError or RunError.
    """
    run = Path(run)
    config = runs.load_evaluation_config(run)
    runtime.configure_tensorflow()
    import numpy as np

    import data
    import plots
    from fmnist.evaluation import metrics, ood, report, tta
    from fmnist.networks import class_probabilities
    from fmnist.source import CLASS_NAMES

    # Load.
    model, history = runs.load_model_and_history(run)
    best = runs.chosen_epoch(config["patience"], history)
    if best is None:
        raise runs.RunError(f"{run / runs.HISTORY_FILE} is broken: no epoch has a validation loss")
    dataset = data.load_for_run(config, data_dir)
    print(f"Data: {dataset.source}")
    runs.check_fingerprint(run, dataset)
    # The split has shuffled the training images: the first are as good a sample as any.
    sample = data.Part(*(array[:TRAINING_SAMPLE] for array in dataset.train))
    parts = {"train": sample, "validation": dataset.validation, "test": dataset.test}
    labels = {name: part.labels for name, part in parts.items()}

    # Predict.
    outputs = {}
    for name, part in parts.items():
        views = tta.views(part.images, test_time_flips, test_time_shifts)
        outputs[name] = [
            class_probabilities(run, model, data.batches(part._replace(images=view), BATCH))
            for view in views
        ]

    # Score.
    def mean_of(views: slice) -> dict[str, np.ndarray]:
        return {
            name: np.mean(probabilities[views], axis=0) for name, probabilities in outputs.items()
        }

    probabilities = mean_of(slice(1))
    scores = metrics.score(labels, probabilities)
    if test_time_flips:
        probabilities = mean_of(slice(2))
        scores = metrics.score(labels, probabilities, without_flips=scores)
    if test_time_shifts:
        probabilities = mean_of(slice(None))
        scores = metrics.score(labels, probabilities, without_shifts=scores)
    results = {
        **scores["test"],
        "accuracy_interval": metrics.accuracy_interval(
            scores["test"]["accuracy"], len(labels["test"])
        ),
        "train": scores["train"],
        "validation": scores["validation"],
        "gap": {
            "accuracy": scores["train"]["accuracy"] - scores["validation"]["accuracy"],
            "loss": scores["validation"]["loss"] - scores["train"]["loss"],
        },
        "per_class": metrics.per_class(labels["test"], probabilities["test"], CLASS_NAMES),
        "confusion_matrix": metrics.confusion(labels["test"], probabilities["test"]).tolist(),
        "test_time_flips": test_time_flips,
        "test_time_shifts": test_time_shifts,
        "model": config["model"],
        "parameters": model.count_params(),
        "epochs": len(history),
        "kept_epoch": best["epoch"],
        "seconds_per_epoch": statistics.median(row["seconds"] for row in history),
    }
    temperature = results["temperature"]
    calibrated = metrics.calibrated(probabilities["test"], temperature)
    known = ood.fit(
        *dataset.train,
        dataset.validation.images,
        metrics.calibrated(probabilities["validation"], temperature),
    )
    results["uncertain"] = float(ood.is_novel(known, dataset.test.images, calibrated).mean())

    # Draw.
    figures = plots.evaluation_figures(
        history, results, dataset.test, probabilities["test"], calibrated
    )

    # Write: all of it, or nothing where a part fails.
    with atomic_io.atomic_writes(Path(output_dir or run)) as folder:
        np.savez_compressed(
            folder / runs.PREDICTIONS,
            labels=labels["test"],
            probabilities=calibrated,
            temperature=temperature,
        )
        np.savez(folder / runs.NOVELTY, **known._asdict())
        report.write(folder, results, config, figures)
        atomic_io.write_json(folder / runs.METRICS, results)
    print(f"\n{report.text(results)}")
    return results


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with code 2 on a wrong one."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add(
        "run",
        nargs="?",
        type=cli.path,
        metavar="RUN",
        help="run directory (the newest finished one)",
    )
    add(
        "--runs-dir",
        type=cli.path,
        default="runs",
        help="where to look for the newest run (%(default)s)",
    )
    add(
        "--data-dir",
        type=cli.path,
        help="folder with the four files (the one the run was trained on)",
    )
    add("--output-dir", type=cli.path, help="where the results are written (the run itself)")
    add(
        "--test-time-flips",
        action="store_true",
        help="take the mean output for every image and its mirror image",
    )
    add(
        "--test-time-shifts",
        action="store_true",
        help="take the mean output for every image where it is and moved by a pixel in eight "
        "directions; for networks that were trained with shifts",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        run = Path(options.run or runs.newest(options.runs_dir))
        print(f"Run: {run}")
        flips, shifts = options.test_time_flips, options.test_time_shifts
        evaluate(run, options.data_dir, options.output_dir, flips, shifts)
        folder = Path(options.output_dir or run)
        files = f"{runs.PREDICTIONS}, {runs.NOVELTY}, figures/ and report.html"
        print(f"Saved {folder / runs.METRICS}, {files}")
        print(f"Next: open {folder / 'report.html'} in a browser")

    return cli.exit_code("evaluate_model.py", work)


if __name__ == "__main__":
    sys.exit(main())
