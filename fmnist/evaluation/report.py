"""The results of an evaluation, as text for a terminal and as an HTML page."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fmnist import cli, html_report, runs

SCORES = ("", "accuracy", "loss", "ECE", "calibrated loss", "calibrated ECE", "images")
CLASS_SCORES = ("", "precision", "recall", "F1", "ROC AUC", "average precision", "images")
CAPTIONS = {
    "curves": "Learning curves, and the learning rate if it changes. The dotted line marks the "
    "epoch whose weights were saved.",
    "confusion_matrix": "Confusion matrix of the test set. Rows are true classes, columns are "
    "predicted classes.",
    "predictions": "The first test images with predicted class and confidence; the true class is "
    "named if the prediction is wrong.",
    "correct_and_wrong": "The first correct and the first wrong predictions on the test set.",
    "probabilities": "The first four correct and the first four wrong predictions on the test set, "
    "with the probabilities of all classes. The true class is in bold type.",
    "calibration": "Reliability diagram and confidence histogram of the test set, before and after "
    "calibration. The temperature was fitted on the validation set. The diagram omits bins with "
    "fewer than 20 images.",
    "mistakes": "The wrong predictions on the test set with the highest confidence.",
    "confused_pairs": "The ten pairs of classes with the most mistakes on the test set, in both "
    "directions together, and the first mistakes in each direction with their confidence.",
    "roc_and_precision_recall": "ROC curves and precision-recall curves of every class against the "
    "rest on the test set. The false positive rate is logarithmic, and recall and precision start "
    "above 0, because the curves would otherwise lie in a corner. The areas are those with linear "
    "axes from 0.",
    "confidence_by_class": "Accuracy and number of test images by predicted class and confidence. "
    "The colour shows where the network is overconfident (red) or underconfident (blue), up to "
    "0.2. Bins with fewer than 20 images are empty.",
}


def write(
    folder: Path, results: dict[str, Any], config: dict[str, Any], figures: dict[str, Figure]
) -> None:
    """Write figures/ and report.html to a folder.

    Args:
        folder: existing folder without a folder `figures`.
        results: result of evaluate_model.evaluate().
        config: content of config.json.
        figures: figures by name; CAPTIONS contains their captions.
    """
    html_report.write(
        folder,
        f"{config['model']} on Fashion-MNIST",
        [html_report.paragraph(headline(results)), html_report.table(SCORES, score_rows(results))],
        figures,
        CAPTIONS,
        [
            html_report.heading("Scores of every class on the test set"),
            html_report.table(CLASS_SCORES, class_rows(results)),
            html_report.heading("Settings"),
            html_report.table(
                ["setting", "value"], ((key, json.dumps(value)) for key, value in config.items())
            ),
        ],
    )


def text(results: dict[str, Any]) -> str:
    """Return the results as two tables and a summary."""
    return "\n\n".join(
        [
            cli.table(CLASS_SCORES, class_rows(results)),
            cli.table(SCORES, score_rows(results)),
            headline(results),
        ]
    )


def headline(results: dict[str, Any]) -> str:
    """Return a summary of accuracy, loss and calibration on the test set."""
    low, high = results["accuracy_interval"]
    line = (
        f"Test accuracy {results['accuracy']:.2%} (95 % confidence interval {low:.2%} to "
        f"{high:.2%}, {results['images']:,} images), loss {results['loss']:.4f}"
    )
    scores, flips, shifts = results, *(results[option] for option in runs.VIEWS)
    if shifts:
        scores = scores["without_shifts"]
        line += f"; without test-time shifts {scores['accuracy']:.2%}"
    if flips:
        both = "shifts and " if shifts else ""
        line += f"; without test-time {both}flips {scores['without_flips']['accuracy']:.2%}"
    return (
        f"{line}. {results['uncertain']:.1%} of the test images are out of distribution. "
        f"Calibration (temperature {results['temperature']:.2f}) changes the loss to "
        f"{results['calibrated_loss']:.4f} and the expected calibration error (ECE) from "
        f"{results['ece']:.3f} to {results['calibrated_ece']:.3f}."
    )


def score_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the table of all parts of the data, with the columns SCORES."""
    parts = {"training": results["train"], "validation": results["validation"], "test": results}
    rows = [
        (
            name,
            f"{part['accuracy']:.2%}",
            *(f"{part[key]:.4f}" for key in ("loss", "ece", "calibrated_loss", "calibrated_ece")),
            f"{part['images']:,}",
        )
        for name, part in parts.items()
    ]
    gap = results["gap"]
    return [
        *rows,
        (
            "gap between training and validation",
            f"{gap['accuracy']:+.2%}",
            f"{gap['loss']:+.4f}",
            "",
            "",
            "",
            "",
        ),
    ]


def class_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the table of all classes, with the columns CLASS_SCORES."""
    return [
        (
            name,
            *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1-score")),
            # None for a class without images.
            *(
                "" if row[key] is None else f"{row[key]:.4f}"
                for key in ("roc_auc", "average_precision")
            ),
            f"{row['support']:,.0f}",
        )
        for name, row in results["per_class"].items()
        if isinstance(row, dict)
    ]
