"""Score a trained network on the test set and draw what it does.

    python evaluate_model.py                     the newest finished run
    python evaluate_model.py runs/my_run
    python evaluate_model.py --test-time-flips   every image also mirrored, the mean of both answers
    python evaluate_model.py --test-time-flips --test-time-shifts    and moved by a pixel, the mean of eighteen

Leaves metrics.json, predictions.npz, novelty.npz, figures/ and report.html in the run's own directory.
"""

import json
import os
import statistics
import sys
from pathlib import Path

from fmnist import runtime

import numpy as np

from fmnist.training import augmentation
import data
from fmnist import atomic_io
from fmnist.evaluation import metrics
from fmnist.evaluation import ood
from fmnist import html_report
from fmnist import runs

BATCH = 250
METRICS, NOVELTY = "metrics.json", "novelty.npz"
TRAINING_SAMPLE = 10_000  # scoring all 55,000 would take longer than everything else
VIEWS = "test_time_flips", "test_time_shifts"  # the options that say of what views the answer is the mean
SETTINGS = {"model": str, "patience": int, "seed": int, "val_size": int, "limit": int | None,
            "data_dir": str | None, "fingerprint": str}
SCORES = ("", "accuracy", "loss", "ECE", "calibrated loss", "calibrated ECE", "images")
CLASS_SCORES = ("", "precision", "recall", "F1", "images")
CAPTIONS = {
    "curves": "Accuracy and loss while training. The dotted line marks the epoch whose weights were kept.",
    "confusion_matrix": "Rows are true classes, columns predicted ones.",
    "predictions": "The first images of the test set.",
    "correct_and_wrong": "The first correct and the first wrong predictions.",
    "probabilities": "The first four correct and four wrong predictions, beside all ten probabilities; "
                     "the true class in bold.",
    "calibration": "How often the network is right when it is so sure, on the test set, before and after its logits "
                   "are divided by the temperature, which was fitted on the validation images. Bins of fewer than "
                   "20 images have no point.",
    "mistakes": "The wrong predictions that the network was surest of.",
}


def evaluate(run, data_dir=None, output_dir=None, test_time_flips=False, test_time_shifts=False):
    """Score a run, write all results to output_dir (the run itself) and return the metrics.

    run: path of a run directory.
    test_time_flips, test_time_shifts: take the mean of the probabilities of an image and of its augmentation.views; the
        scores without them are in the metrics as without_flips, and as without_shifts, where that may be in turn.
    Raises data.DataError and runs.RunError.
    """
    config = checked_config(run)
    runtime.start()
    model, history = runs.load_model_and_history(run)
    chosen = runs.chosen_epoch(config, history)
    if chosen is None:
        raise runs.RunError(f"{run / runs.HISTORY_FILE} is broken: no epoch has a validation loss")
    dataset = data_of(config, data_dir)
    print(f"Data: {dataset.source}")
    check_fit(run, model, config, dataset)

    # The split has shuffled the training images: the first are as good a sample as any.
    parts = {"train": data.Part(*(array[:TRAINING_SAMPLE] for array in dataset.train)),
             "validation": dataset.validation, "test": dataset.test}

    answers = {name: [predict(run, model, part._replace(images=view))
                      for view in augmentation.views(part.images, test_time_flips, test_time_shifts)]
               for name, part in parts.items()}

    def mean_of(which):
        return {name: np.mean(several[which], axis=0) for name, several in answers.items()}

    probabilities = mean_of(slice(1))
    scores = score(parts, probabilities)
    if test_time_flips:
        probabilities = mean_of(slice(2))
        scores = score(parts, probabilities, without_flips=scores)
    if test_time_shifts:
        probabilities = mean_of(slice(None))
        scores = score(parts, probabilities, without_shifts=scores)
    labels = dataset.test.labels
    results = {
        **scores["test"],
        "accuracy_interval": metrics.accuracy_interval(scores["test"]["accuracy"], len(labels)),
        "train": scores["train"],
        "validation": scores["validation"],
        "gap": {"accuracy": scores["train"]["accuracy"] - scores["validation"]["accuracy"],
                "loss": scores["validation"]["loss"] - scores["train"]["loss"]},
        "per_class": metrics.per_class(labels, probabilities["test"], data.CLASS_NAMES),
        "confusion_matrix": metrics.confusion(labels, probabilities["test"]).tolist(),
        "test_time_flips": test_time_flips,
        "test_time_shifts": test_time_shifts,
        "model": config["model"],
        "parameters": model.count_params(),
        "epochs": len(history),
        "kept_epoch": chosen["epoch"],
        "seconds_per_epoch": statistics.median(row["seconds"] for row in history),
    }
    calibrated = metrics.calibrated(probabilities["test"], results["temperature"])
    known = ood.fit(*dataset.train, dataset.validation.images,
                        metrics.calibrated(probabilities["validation"], results["temperature"]))
    results["unsure"] = float(ood.is_novel(known, dataset.test.images, calibrated).mean())
    figures = draw(history, results, dataset.test, probabilities["test"], calibrated)
    write(Path(output_dir or run), results, labels, calibrated, known, figures, config)
    return results


def checked_config(run):
    """Return the config of a run whose settings are of the kinds that they should be. Raises RunError."""
    config = runs.load_config(run)
    wrong = [key for key, kind in SETTINGS.items() if key not in config or not isinstance(config[key], kind)]
    if not wrong and not 0 <= config["seed"] < 2**31:
        wrong = ["seed"]
    if wrong:
        raise runs.RunError(f"{run / runs.CONFIG} is broken: see {', '.join(wrong)}")
    return config


def data_of(config, data_dir=None):
    """Return the data that a run was trained on, from a folder or from its own one, if that is still there."""
    if data_dir is None and config["data_dir"] and os.path.isdir(os.path.expanduser(config["data_dir"])):
        data_dir = config["data_dir"]
    return data.load(data_dir, config["val_size"], config["limit"], config["seed"])


def check_fit(run, model, config, dataset):
    """Raise RunError where model and data do not belong together."""
    if config["fingerprint"] != dataset.fingerprint:
        raise runs.RunError(f"{run} was trained on other data than {dataset.source} holds; train it again")
    check_model(run, model)


def check_model(run, model):
    """Raise RunError where a model does not turn images into probabilities of the classes."""
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise runs.RunError(f"{run / runs.MODEL} is broken: it holds weights that are no numbers")
    expected = (None, *data.FILES["t10k-images-idx3-ubyte"].shape[1:], 1), (None, len(data.CLASS_NAMES))
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if shapes != expected:
        raise runs.RunError(f"{run / runs.MODEL} is no model of Fashion-MNIST: it turns {shapes[0]} "
                            f"into {shapes[1]}, not {expected[0]} into {expected[1]}")


def predict(run, model, part):
    """Return the probabilities (N, 10). Raises RunError."""
    import tensorflow as tf

    try:
        probabilities = model.predict(data.batches(part, BATCH), verbose=0)
    except tf.errors.ResourceExhaustedError:
        raise MemoryError from None
    except tf.errors.OpError as error:
        raise runs.RunError(f"{run / runs.MODEL} is broken: it fails at {error.op or type(error).__name__}") from None
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        raise runs.RunError(f"{run / runs.MODEL} is broken: what it returns is no probabilities")
    return probabilities


def score(parts, probabilities, **others):
    """Return a dict of scores for every part. The temperature is fitted on the validation images.

    What is called calibrated has the temperature in it, the rest has not.
    others: scores of every part that are to stand in the new ones by the argument's name.
    """
    temperature = metrics.fit_temperature(parts["validation"].labels, probabilities["validation"])
    scores = {}
    for name, before in probabilities.items():
        labels, after = parts[name].labels, metrics.calibrated(before, temperature)
        scores[name] = {"loss": metrics.cross_entropy(labels, before),
                        "accuracy": metrics.accuracy(labels, before),
                        "ece": metrics.calibration_error(labels, before),
                        "calibrated_loss": metrics.cross_entropy(labels, after),
                        "calibrated_ece": metrics.calibration_error(labels, after),
                        "temperature": temperature,
                        "images": len(labels),
                        **{key: other[name] for key, other in others.items()}}
    return scores


def draw(history, results, test, uncalibrated, probabilities):
    """Return the figures by name."""
    import plots  # and with it matplotlib, which --help does not wait for

    def arguments(which):
        return test.images[which], test.labels[which], probabilities[which], data.CLASS_NAMES

    correct = probabilities.argmax(axis=1) == test.labels
    some_of_each = np.concatenate([np.flatnonzero(correct)[:4], np.flatnonzero(~correct)[:4]])
    everything = slice(None)
    return {
        "curves": plots.curves(history, results["kept_epoch"]),
        "confusion_matrix": plots.confusion_matrix(np.array(results["confusion_matrix"]), data.CLASS_NAMES),
        "predictions": plots.predictions(*arguments(slice(30))),
        "correct_and_wrong": plots.correct_and_wrong(*arguments(everything)),
        "probabilities": plots.probabilities(*arguments(some_of_each)),
        "calibration": plots.calibration(metrics.reliability(test.labels, uncalibrated),
                                         metrics.reliability(test.labels, probabilities),
                                         results["ece"], results["calibrated_ece"]),
        "mistakes": plots.mistakes(*arguments(everything)),
    }


def write(folder, results, labels, probabilities, known, figures, config):
    """Write predictions, figures, report and metrics, or nothing where one of them fails.

    probabilities: with the temperature in them; known: of ood.fit().
    """
    with atomic_io.whole_files(folder) as unfinished:
        np.savez_compressed(unfinished / "predictions.npz", labels=labels, probabilities=probabilities,
                            temperature=results["temperature"])
        np.savez(unfinished / NOVELTY, **known._asdict())
        (unfinished / "figures").mkdir()
        for name, figure in figures.items():
            figure.savefig(unfinished / "figures" / f"{name}.png", dpi=110)
        (unfinished / "report.html").write_text(page(results, config, unfinished / "figures"),
                                                encoding="utf-8", errors="xmlcharrefreplace")
        atomic_io.write_json(unfinished / METRICS, results)


def page(results, config, figures):
    """Return the report as HTML. figures: the folder that holds them."""
    return html_report.page(
        f"{config['model']} on Fashion-MNIST",
        html_report.paragraph(headline(results)),
        html_report.table(SCORES, score_rows(results)),
        *(html_report.picture(figures / f"{name}.png", caption) for name, caption in CAPTIONS.items()),
        html_report.heading("Each class of the test set"),
        html_report.table(CLASS_SCORES, class_rows(results)),
        html_report.heading("Settings"),
        html_report.table(["", ""], ((key, json.dumps(value)) for key, value in config.items())))


def headline(results):
    low, high = results["accuracy_interval"]
    line = (f"Test accuracy {results['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}, "
            f"{results['images']:,} images), loss {results['loss']:.4f}")
    scores, flips, shifts = results, *(results[option] for option in VIEWS)
    if shifts:
        scores = scores["without_shifts"]
        line += f"; without test-time shifts {scores['accuracy']:.2%}"
    if flips:
        line += f"; without test-time flips{' either' * shifts} {scores['without_flips']['accuracy']:.2%}"
    line += f"; {results['unsure']:.1%} would be called unsure"
    return (f"{line}. Calibrated by temperature {results['temperature']:.2f}: loss {results['calibrated_loss']:.4f}, "
            f"expected calibration error (ECE) {results['calibrated_ece']:.3f} instead of {results['ece']:.3f}")


def score_rows(results):
    """Return the rows of the table with the columns SCORES."""
    parts = {"training": results["train"], "validation": results["validation"], "test": results}
    rows = [(name, f"{part['accuracy']:.2%}", *(f"{part[key]:.4f}" for key in
                                                ("loss", "ece", "calibrated_loss", "calibrated_ece")),
             f"{part['images']:,}") for name, part in parts.items()]
    gap = results["gap"]
    return [*rows, ("gap, training to validation", f"{gap['accuracy']:+.2%}", f"{gap['loss']:+.4f}", "", "", "", "")]


def class_rows(results):
    """Return the rows of the table with the columns CLASS_SCORES."""
    return [(name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1-score")), f"{row['support']:,.0f}")
            for name, row in results["per_class"].items() if isinstance(row, dict)]


def print_table(head, rows):
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    for first, *others in (head, *rows):
        print("  ".join([first.ljust(widths[0]), *(text.rjust(w) for text, w in zip(others, widths[1:]))]))
    print()


def parse_options(argv=None):
    parser = runtime.Parser(__doc__)
    folder = runtime.path_option
    add = parser.add_argument
    add("run", nargs="?", type=folder, metavar="RUN", help="run directory (the newest finished one)")
    add("--runs-dir", type=folder, default="runs", help="where to look for the newest run (%(default)s)")
    add("--data-dir", type=folder, help="folder with the four files (the one the run was trained on)")
    add("--output-dir", type=folder, help="where the results are written (the run itself)")
    add("--test-time-flips", action="store_true", help="take the mean of every image's answer and its mirror image's")
    add("--test-time-shifts", action="store_true",
        help="take the mean of the answers to every image where it is and moved by a pixel in eight directions; for "
             "networks that were trained with shifts")
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_options(argv)

    def work():
        run = Path(options.run or runs.newest(options.runs_dir))
        print(f"Run: {run}")
        results = evaluate(run, options.data_dir, options.output_dir, options.test_time_flips,
                           options.test_time_shifts)
        print()
        print_table(CLASS_SCORES, class_rows(results))
        print_table(SCORES, score_rows(results))
        print(headline(results))
        folder = Path(options.output_dir or run)
        print(f"Saved {folder / METRICS}, predictions.npz, {NOVELTY}, figures/ and report.html")
        print(f"Next: open {folder / 'report.html'} in a browser")

    return runtime.exit_code("evaluate_model.py", work, (data.DataError, runs.RunError))


if __name__ == "__main__":
    sys.exit(main())
