"""The results of a measurement of robustness: JSON, CSV, figures, a page, and text.

Common argument:
    results: content of robustness.json, see robustness.measure().
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import atomic_io, cli, html_report
from fmnist.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from tools.inspection import robustness_figures

RESULTS, TABLE, REPORT = "robustness.json", "tables/robustness.csv", "robustness.html"
COLUMNS = ("run", "corruption", "severity", "accuracy", "low", "high", "ece")
CLEAN = "none"  # the corruption of the original images in the table


def mean_errors(corrupted: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Return the mean error over the severities by corruption."""
    return {
        name: 1 - float(np.mean([row["accuracy"] for row in rows]))
        for name, rows in corrupted.items()
    }


def write(folder: Path, results: dict[str, Any], examples: dict[str, list[np.ndarray]]) -> None:
    """Write results, table, figures and report into a folder.

    Args:
        folder: folder, created if necessary.
        results: result of measure().
        examples: see robustness_figures.draw().
    """
    drawn = robustness_figures.draw(results, examples)
    with atomic_io.atomic_writes(folder) as temporary:
        html_report.write(
            temporary,
            "Robustness on Fashion-MNIST",
            [
                html_report.paragraph(
                    "Accuracy of networks on corrupted test images: "
                    f"{len(CORRUPTIONS)} corruptions with {len(SEVERITIES)} severities each."
                ),
                html_report.table(*run_table(results)),
                html_report.paragraph(
                    "Accuracies have 95 % confidence intervals. The mean corruption error (mCE) is "
                    "the mean over the corruptions of the error relative to that of the first run. "
                    "The expected calibration error (ECE) is that after calibration. Every image "
                    "is classified once, without test-time augmentation."
                ),
            ],
            drawn,
            robustness_figures.CAPTIONS,
            [
                html_report.heading("Mean accuracy over the severities, %"),
                html_report.table(*corruption_table(results)),
                html_report.heading("Corruptions"),
                html_report.table(
                    ["corruption", "description", *(f"severity {level}" for level in SEVERITIES)],
                    (
                        [kind.label, kind.description, *(f"{value:g}" for value in kind.strengths)]
                        for kind in CORRUPTIONS.values()
                    ),
                ),
            ],
            file_name=REPORT,
        )
        atomic_io.write_json(temporary / RESULTS, results)
        (temporary / TABLE).parent.mkdir()
        with open(temporary / TABLE, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(score_rows(results))


def score_rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the scores of every run, corruption and severity, with the keys COLUMNS."""
    for label, run in results["runs"].items():
        for name, scores in ({CLEAN: [run["clean"]]} | run["corrupted"]).items():
            for severity, row in enumerate(scores, 0 if name == CLEAN else 1):
                yield {"run": label, "corruption": name, "severity": severity, **row}


def text(results: dict[str, Any]) -> str:
    """Return the results as two tables for a terminal."""
    return "\n\n".join(
        cli.table(*table) for table in (run_table(results), corruption_table(results))
    )


def run_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of the runs, one row for each."""
    head = [
        "run",
        "augmentation",
        "accuracy on original images, %",
        "mean error on corrupted images, %",
        "mCE, %",
        "ECE on original images, %",
        "mean ECE on corrupted images, %",
    ]
    rows = []
    for label, run in results["runs"].items():
        accuracy, low, high, ece = (100 * run["clean"][key] for key in COLUMNS[3:])
        rows.append(
            [
                label,
                run["augment"],
                f"{accuracy:.2f} ({low:.2f} to {high:.2f})",
                f"{100 * run['mean_error']:.1f}",
                "–" if run["mce"] is None else f"{100 * run['mce']:.1f}",
                f"{ece:.1f}",
                f"{100 * run['mean_ece']:.1f}",
            ]
        )
    return head, rows


def corruption_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of mean accuracies, with a column for each run."""
    networks = results["runs"]
    errors = {label: mean_errors(run["corrupted"]) for label, run in networks.items()}
    rows = [
        ["original images", *(f"{100 * run['clean']['accuracy']:.1f}" for run in networks.values())]
    ]
    rows += [
        [kind.label, *(f"{100 * (1 - errors[label][name]):.1f}" for label in networks)]
        for name, kind in CORRUPTIONS.items()
    ]
    rows += [["mean", *(f"{100 * (1 - run['mean_error']):.1f}" for run in networks.values())]]
    return ["corruption", *networks], rows
