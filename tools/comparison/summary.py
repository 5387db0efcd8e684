"""What a comparison found: rows, tables, a verdict, figures and a report."""

import csv
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import atomic_io, html_report
from fmnist.evaluation import metrics
from fmnist.source import CLASS_NAMES
from tools.comparison import figures
from tools.comparison.contestants import GROUPS
from tools.comparison.results import MEASURED, SCORES


def summarise(
    finished: dict[str, list[dict[str, Any]]], labels: np.ndarray
) -> list[dict[str, Any]]:
    """Return a dict a contestant, the best on validation images first.

    Args:
        finished: lists of results by the name of the contestant.
        labels: of the test images.
    """
    rows = []
    for name, results in finished.items():
        label = name
        if name == "mobilenet":
            weights = results[0]["settings"].get("weights")
            label += f" from {'scratch' if weights is None else Path(weights).name}"
        row = {
            "name": name,
            "label": label,
            "group": next(group for group, names in GROUPS.items() if name in names),
            "n": len(results),
            "parameters": results[0]["parameters"],
        }
        for key in (*SCORES, *MEASURED):
            values = [result[key] for result in results]
            # The time of a training that something else held up says nothing of its model.
            row[key] = (
                statistics.median(values)
                if key in ("seconds", "latency_ms")
                else statistics.mean(values)
            )
            row[f"{key}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
        predicted = np.array([list(map(int, result["predicted"])) for result in results])
        row["correct"] = predicted == labels
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
    """Return head and lines of the table as texts."""

    def percent(row: dict[str, Any], key: str) -> str:
        deviation = row[f"{key}_deviation"]
        return f"{100 * row[key]:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")

    head = [
        "",
        "validation, %",
        "test, %",
        "behind the first, 95 %",
        "precision, %",
        "recall, %",
        "F1, %",
        "gap, %",
        "parameters",
        "training, s",
        "one image, ms",
        "seeds",
    ]
    lines = []
    for row in rows:
        behind = "–"
        if "behind" in row:
            difference, low, high = (100 * value for value in row["behind"])
            behind = f"{difference:+.2f} ({low:+.2f} to {high:+.2f})" + (
                ", a tie" if low <= 0 <= high else ""
            )
        lines.append(
            [
                row["label"],
                *(percent(row, key) for key in ("val_accuracy", "accuracy")),
                behind,
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
    """Return sentences about the first row and those it is behind or not different from."""
    best = f"The most accurate on validation images is {rows[0]['label']}."
    if len(rows) == 1:
        return best
    ties = [row["label"] for row in rows[1:] if row["behind"][1] <= 0 <= row["behind"][2]]
    ahead = [row["label"] for row in rows[1:] if row["behind"][1] > 0]
    parts = [f"cannot be told from {', '.join(ties)}"] if ties else []
    parts += [f"is behind {', '.join(ahead)}"] if ahead else []
    over = (
        "images and seeds"
        if all(row["n"] > 1 for row in rows)
        else "images; with one seed it knows nothing of others"
    )
    return (
        f"{best} On test images it {' and '.join(parts) or 'is ahead of all others'} "
        f"(95 % bootstrap interval over {over})."
    )


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write tables, figures and report."""
    head, lines = table(rows)
    drawn = figures.draw({row["name"]: row for row in rows})
    with atomic_io.atomic_writes(folder) as temporary:
        html_report.write(
            temporary,
            "Models of Fashion-MNIST compared",
            [html_report.paragraph(verdict(rows)), html_report.table(head, lines)],
            drawn,
            figures.CAPTIONS,
        )
        markdown = [
            "| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *lines)
        ]
        (temporary / "comparison.md").write_text("\n".join(markdown) + "\n", encoding="utf-8")
        columns = [key for key in rows[0] if not isinstance(rows[0][key], np.ndarray)]
        behind_columns = ("behind", "behind_low", "behind_high")
        with open(temporary / "comparison.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*columns, *behind_columns], extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                writer.writerow(
                    {
                        **row,
                        "behind": None,
                        **dict(zip(behind_columns, row.get("behind", ()), strict=False)),
                    }
                )
    for name in figures.CAPTIONS.keys() - drawn.keys():  # of an earlier comparison, of others
        (folder / "figures" / f"{name}.png").unlink(missing_ok=True)
