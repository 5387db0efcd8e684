"""The results of an evaluation as text for a terminal, and as an HTML page."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fmnist import cli, html_report, runs

SCORES = ("", "accuracy", "loss", "ECE", "calibrated loss", "calibrated ECE", "images")
CLASS_SCORES = ("", "precision", "recall", "F1", "images")
CAPTIONS = {
    "curves": "Accuracy and loss while training. The dotted line marks the epoch whose weights "
    "were kept.",
    "confusion_matrix": "Rows are true classes, columns predicted ones.",
    "predictions": "The first images of the test set.",
    "correct_and_wrong": "The first correct and the first wrong predictions.",
    "probabilities": "The first four correct and four wrong predictions, beside all ten "
    "probabilities; the true class in bold.",
    "calibration": "How often the network is right when it is so sure, on the test set, before and "
    "after its logits are divided by the temperature, which was fitted on the validation images. "
    "Bins of fewer than 20 images have no point.",
    "mistakes": "The wrong predictions that the network was surest of.",
}


def write(
    folder: Path, results: dict[str, Any], config: dict[str, Any], figures: dict[str, Figure]
) -> None:
    """Write figures/ and report.html into a folder.

    Args:
        folder: where they are written.
        results: as evaluate_model.evaluate() returns them.
        config: what config.json holds.
        figures: by name, those of CAPTIONS.
    """
    html_report.write(
        folder,
        f"{config['model']} on Fashion-MNIST",
        [html_report.paragraph(headline(results)), html_report.table(SCORES, score_rows(results))],
        figures,
        CAPTIONS,
        [
            html_report.heading("Each class of the test set"),
            html_report.table(CLASS_SCORES, class_rows(results)),
            html_report.heading("Settings"),
            html_report.table(
                ["", ""], ((key, json.dumps(value)) for key, value in config.items())
            ),
        ],
    )


def text(results: dict[str, Any]) -> str:
    """Return the results as tables and a sentence."""
    return "\n\n".join(
        [
            cli.table(CLASS_SCORES, class_rows(results)),
            cli.table(SCORES, score_rows(results)),
            headline(results),
        ]
    )


def headline(results: dict[str, Any]) -> str:
    """Return the sentence with accuracy, loss and calibration on the test set."""
    low, high = results["accuracy_interval"]
    line = (
        f"Test accuracy {results['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"{results['images']:,} images), loss {results['loss']:.4f}"
    )
    scores, flips, shifts = results, *(results[option] for option in runs.VIEWS)
    if shifts:
        scores = scores["without_shifts"]
        line += f"; without test-time shifts {scores['accuracy']:.2%}"
    if flips:
        either = " either" if shifts else ""
        line += f"; without test-time flips{either} {scores['without_flips']['accuracy']:.2%}"
    line += f"; {results['uncertain']:.1%} of the test predictions are uncertain"
    return (
        f"{line}. Calibrated by temperature {results['temperature']:.2f}: "
        f"loss {results['calibrated_loss']:.4f}, expected calibration error (ECE) "
        f"{results['calibrated_ece']:.3f} instead of {results['ece']:.3f}"
    )


def score_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the table with the columns SCORES."""
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
            "gap, training to validation",
            f"{gap['accuracy']:+.2%}",
            f"{gap['loss']:+.4f}",
            "",
            "",
            "",
            "",
        ),
    ]


def class_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the table with the columns CLASS_SCORES."""
    return [
        (
            name,
            *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1-score")),
            f"{row['support']:,.0f}",
        )
        for name, row in results["per_class"].items()
        if isinstance(row, dict)
    ]
