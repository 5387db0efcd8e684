"""The outcome of a comparison: rows, tables, a conclusion, figures and a report."""

import csv
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fmnist import atomic_io, html_report
from fmnist.evaluation import metrics
from fmnist.source import CLASS_NAMES
from tools.comparison import figures
from tools.comparison.contestants import group_of, label_of
from tools.comparison.results import MEASURED, SCORES

DEVIATIONS = [f"{key}_deviation" for key in (*SCORES, *MEASURED)]
COLUMNS = (
    "name",
    "label",
    "group",
    "n",
    "parameters",
    *(column for pair in zip((*SCORES, *MEASURED), DEVIATIONS, strict=True) for column in pair),
)
DIFFERENCE_COLUMNS = ("behind", "behind_low", "behind_high")


def summarise(
    finished: dict[str, list[dict[str, Any]]], labels: np.ndarray
) -> list[dict[str, Any]]:
    """Return one dict per contestant, sorted by validation accuracy, the best first.

    Args:
        finished: results by name of the contestant, one per random seed.
        labels: labels of the test set.
    """
    rows = []
    for name, results in finished.items():
        settings = results[0]["settings"]
        row = {
            "name": name,
            "label": label_of(name, settings),
            "group": group_of(name),
            "n": len(results),
            "parameters": results[0]["parameters"],
            "epochs": settings["epochs"],
            "first_seed": settings["seed"],
        }
        for key in (*SCORES, *MEASURED):
            values = [result[key] for result in results]
            # Times are medians: another process may have slowed down one of the trainings.
            row[key] = (
                statistics.median(values)
                if key in ("seconds", "latency_ms")
                else statistics.mean(values)
            )
            row[f"{key}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
        predicted = np.array([list(map(int, result["predicted"])) for result in results])
        row["predicted"], row["correct"] = predicted, predicted == labels
        row["confusion"] = np.mean(
            [
                metrics.confusion(labels, metrics.one_hot(classes, len(CLASS_NAMES)))
                for classes in predicted
            ],
            axis=0,
        )
        row["recalls"] = row["confusion"].diagonal() / row["confusion"].sum(axis=1)
        rows.append(row)
    rows.sort(key=lambda row: -row["val_accuracy"])
    for row in rows[1:]:
        row["behind"] = metrics.difference_interval(row["correct"], rows[0]["correct"])
    return rows


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Return the head and the lines of the table."""

    def percent(row: dict[str, Any], key: str) -> str:
        deviation = row[f"{key}_deviation"]
        return f"{100 * row[key]:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")

    head = [
        "contestant",
        "validation accuracy, %",
        "test accuracy, %",
        "difference from the best, points (95 % interval)",
        "precision, %",
        "recall, %",
        "F1, %",
        "training minus validation accuracy, points",
        "parameters",
        "training time, s",
        "time per prediction, ms",
        "seeds",
    ]
    lines = []
    for row in rows:
        difference = "–"
        if "behind" in row:
            mean, low, high = (100 * value for value in row["behind"])
            difference = f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
            if low <= 0 <= high:
                difference += ", not significantly different"
        lines.append(
            [
                row["label"],
                *(percent(row, key) for key in ("val_accuracy", "accuracy")),
                difference,
                *(percent(row, key) for key in ("precision", "recall", "f1")),
                f"{100 * (row['train_accuracy'] - row['val_accuracy']):+.2f}",
                f"{row['parameters']:,}" if row["parameters"] else "–",
                f"{row['seconds']:.1f}",
                f"{row['latency_ms']:.2f}",
                row["n"],
            ]
        )
    return head, lines


def verdict(rows: list[dict[str, Any]]) -> str:
    """Return the conclusion: the best contestant, and how it compares with the others."""
    best = f"{rows[0]['label']} has the highest validation accuracy."
    if len(rows) == 1:
        return best
    similar = [row["label"] for row in rows[1:] if row["behind"][1] <= 0 <= row["behind"][2]]
    better = [row["label"] for row in rows[1:] if row["behind"][1] > 0]
    parts = [f"significantly less accurate than {'; '.join(better)}"] if better else []
    parts += [f"not significantly different from {'; '.join(similar)}"] if similar else []
    outcome = " and ".join(parts) or "significantly more accurate than all others"
    if all(row["n"] > 1 for row in rows):
        return (
            f"{best} On the test set, it is {outcome} "
            "(95 % bootstrap confidence intervals over images and seeds)."
        )
    return (
        f"{best} On the test set, it is {outcome} "
        "(95 % bootstrap confidence intervals over images). The intervals do not cover the "
        "variation between seeds, because a contestant has one seed only."
    )


def write(folder: Path, rows: list[dict[str, Any]], more: dict[str, Figure]) -> None:
    """Write tables, figures and report into a folder.

    Args:
        folder: folder for the results.
        rows: rows, see summarise().
        more: further figures by name, with a caption in figures.CAPTIONS.
    """
    head, lines = table(rows)
    drawn = figures.draw({row["name"]: row for row in rows}) | more
    with atomic_io.atomic_writes(folder) as temporary:
        html_report.write(
            temporary,
            "Comparison of models on Fashion-MNIST",
            [
                html_report.paragraph(verdict(rows)),
                html_report.table(head, lines),
                html_report.paragraph(
                    "Values are means ± standard deviations over the seeds; times are medians. "
                    "Precision, recall and F1 are means over the classes of the test set. The "
                    "difference from the best is in test accuracy, with a bootstrap confidence "
                    "interval."
                ),
            ],
            drawn,
            figures.CAPTIONS,
        )
        markdown = [
            "| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *lines)
        ]
        (temporary / "comparison.md").write_text("\n".join(markdown) + "\n", encoding="utf-8")
        with open(temporary / "comparison.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*COLUMNS, *DIFFERENCE_COLUMNS], extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                difference = row.get("behind", (None, None, None))
                writer.writerow({**row, **dict(zip(DIFFERENCE_COLUMNS, difference, strict=True))})
    for name in figures.CAPTIONS.keys() - drawn.keys():  # left by an earlier comparison
        (folder / "figures" / f"{name}.png").unlink(missing_ok=True)
