"""Evaluate a trained network on the test set.

    python evaluate_model.py                       evaluate the newest finished run
    python evaluate_model.py runs/my_run           evaluate this run
    python evaluate_model.py --test-time-flips     average the output for image and mirror image
    python evaluate_model.py --test-time-shifts    average the output for image and shifted copies

Writes metrics.json, predictions.npz, novelty.npz, figures/ and report.html to the run directory.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from fmnist import atomic_io, cli, runs, runtime

BATCH = 250  # images
# Training images to evaluate. All 55,000 would take longer than the rest of the evaluation.
TRAINING_SAMPLE = 10_000


def evaluate(
    run: str | Path,
    data_dir: str | None = None,
    output_dir: str | Path | None = None,
    test_time_flips: bool = False,
    test_time_shifts: bool = False,
) -> dict[str, Any]:
    """Evaluate a run, write the results and return the metrics, the content of metrics.json.

    Args:
        run: path of the run directory.
        data_dir: folder with the data; None for the one that the run was trained on.
        output_dir: folder for the results; None for the run directory.
        test_time_flips: average the class probabilities for every image and its mirror image. The
            metrics then contain the scores without flips as without_flips.
        test_time_shifts: average the class probabilities for every image and its copies shifted by
            one pixel. The metrics then contain the scores without shifts as without_shifts.

    Raises:
        UserError: a DataError or a RunError.
    """
    run = Path(run)
    config = runs.load_evaluation_config(run)
    atomic_io.check_writable(Path(output_dir or run))
    runtime.configure_tensorflow()
    import numpy as np

    import data
    import plots
    from fmnist.evaluation import metrics, ood, report, tta
    from fmnist.networks import class_probabilities, training_conditions
    from fmnist.source import CLASS_NAMES

    model, history = runs.load_model_and_history(run)
    best = runs.chosen_epoch(config["patience"], history)
    if best is None:
        raise runs.corrupt(run / runs.HISTORY_FILE, "no epoch has a finite validation loss")
    dataset = data.load_for_run(config, data_dir)
    print(f"Data: {dataset.source}")
    runs.check_fingerprint(run, dataset)
    # data.load() shuffles the training images, so that the first ones are a random sample.
    sample = data.Part(*(array[:TRAINING_SAMPLE] for array in dataset.train))
    parts = {"train": sample, "validation": dataset.validation, "test": dataset.test}
    labels = {name: part.labels for name, part in parts.items()}

    # Predict all views of every image: the original, then its mirror image, then shifted copies.
    outputs = {}
    for name, part in parts.items():
        views = tta.views(part.images, test_time_flips, test_time_shifts)
        outputs[name] = [
            class_probabilities(run, model, data.batches(part._replace(images=view), BATCH))
            for view in views
        ]

    # Compute the metrics, first for the original images only.
    def mean_output(views: slice) -> dict[str, np.ndarray]:
        return {name: np.mean(output[views], axis=0) for name, output in outputs.items()}

    smoothing = config["label_smoothing"]
    probabilities = mean_output(slice(1))
    scores = metrics.score(labels, probabilities, smoothing)
    if test_time_flips:
        probabilities = mean_output(slice(2))
        scores = metrics.score(labels, probabilities, smoothing, without_flips=scores)
    if test_time_shifts:
        probabilities = mean_output(slice(None))
        scores = metrics.score(labels, probabilities, smoothing, without_shifts=scores)
    test = scores["test"]
    calibrated = metrics.calibrated(probabilities["test"], test["temperature"], smoothing)
    validation = metrics.calibrated(probabilities["validation"], test["temperature"], smoothing)
    results = {
        **test,
        "accuracy_interval": metrics.accuracy_interval(test["accuracy"], test["images"]),
        "train": scores["train"],
        "validation": scores["validation"],
        "gap": {
            "accuracy": scores["train"]["accuracy"] - scores["validation"]["accuracy"],
            "loss": scores["validation"]["loss"] - scores["train"]["loss"],
        },
        "per_class": metrics.per_class(labels["test"], calibrated, CLASS_NAMES),
        "confusion_matrix": metrics.confusion(labels["test"], calibrated).tolist(),
        "confused_pairs": metrics.confused_pairs(labels["test"], calibrated, CLASS_NAMES),
        "test_time_flips": test_time_flips,
        "test_time_shifts": test_time_shifts,
        "label_smoothing": smoothing,
        "model": config["model"],
        "parameters": model.count_params(),
        "epochs": len(history),
        "kept_epoch": best["epoch"],
        "seconds_per_epoch": statistics.median(row["seconds"] for row in history),
    }
    novelty = ood.fit(*dataset.train, dataset.validation.images, validation)
    results["uncertain"] = float(ood.is_novel(novelty, dataset.test.images, calibrated).mean())

    # Plot the figures.
    figures = plots.evaluation_figures(
        history,
        results,
        dataset.test,
        probabilities["test"],
        calibrated,
        training_conditions(model, config["augment"]),
    )

    # Write the results. If an error occurs, the folder stays as it was.
    with atomic_io.atomic_writes(Path(output_dir or run)) as folder:
        np.savez_compressed(
            folder / runs.PREDICTIONS,
            labels=labels["test"],
            probabilities=calibrated,
            temperature=test["temperature"],
            label_smoothing=smoothing,
        )
        np.savez(folder / runs.NOVELTY, **novelty._asdict())
        report.write(folder, results, config, figures)
        atomic_io.write_json(folder / runs.METRICS, results)
    print(f"\n{report.text(results)}")
    return results


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line options. Exits with code 2 if they are invalid."""
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "run",
        nargs="?",
        type=cli.path,
        metavar="RUN",
        help="run directory (default: the newest finished run)",
    )
    cli.add_runs_dir(parser)
    parser.add_argument(
        "--data-dir",
        type=cli.path,
        metavar="DIR",
        help="folder with the four data files (default: the one that the run was trained on)",
    )
    parser.add_argument(
        "--output-dir",
        type=cli.path,
        metavar="DIR",
        help="folder for the results (default: the run directory)",
    )
    parser.add_argument(
        "--test-time-flips",
        action="store_true",
        help="average the output for every image and its mirror image (default: off)",
    )
    parser.add_argument(
        "--test-time-shifts",
        action="store_true",
        help="average the output for every image and its copies shifted by one pixel in eight "
        "directions; helps networks that were trained with shifts (default: off)",
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
