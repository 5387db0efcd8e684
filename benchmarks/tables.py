"""Write the result tables of README.md, docs/ and the model card from JSON files.

    python -m benchmarks.tables

A table stands between two markers, `<!-- table: NAME -->` and `<!-- end of table -->`. Recorded
results whose settings no longer give the same result are left out; a value that a file does not
contain reads "not recorded".
"""

import json
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    ablations,
    engines,
    leaderboard,
    measure_speed,
    peers,
    photo_ablation,
    real_photos,
)
from benchmarks.measure_speed import ROOT
from fmnist import atomic_io, cli, runs, source
from fmnist.config import TrainConfig
from tools.comparison.contestants import CONTESTANTS, label_of
from tools.comparison.results import is_current, load_result
from tools.inspection import robustness_report

PAGES = (
    "README.md",
    "docs/results.md",
    "docs/experiments.md",
    "docs/performance.md",
    "docs/training.md",
    "docs/photos.md",
    "docs/inspection.md",
    "pretrained/best/README.md",
    "pretrained/photo/README.md",
)
MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
NOT_RECORDED = "not recorded"


def tables() -> dict[str, str]:
    """Return all tables as Markdown by name."""
    docs = ROOT / "docs"
    entries = leaderboard.up_to_date(json.loads((docs / "leaderboard.json").read_text()))
    published = peers.up_to_date(json.loads((docs / "peers.json").read_text()))
    beside_others = peers.comparison_sentence(peers.summaries(published))
    compared = comparison_results(docs / "comparison")
    trained = engines.up_to_date(json.loads((docs / "engines.json").read_text()))
    changes = ablations.up_to_date(json.loads((docs / "ablations.json").read_text()))
    photos = json.loads((docs / "real_photos.json").read_text())
    parts = json.loads((docs / "photo_ablation.json").read_text())
    robust = json.loads((docs / "inspection/robustness.json").read_text())
    inspected = {
        name: json.loads((docs / f"inspection/{name}.json").read_text())
        for name in ("classic", "quick", "best")
    }
    of_inspection = source_line("`docs/inspection`", inspected.values())
    return {
        "robustness": markdown(*robustness_report.run_table(robust)),
        "corruptions": markdown(*robustness_report.corruption_table(robust))
        + source_line("`docs/inspection/robustness.json`", [robust]),
        "inspection": inspection_table(inspected) + of_inspection,
        "inspection-costs": inspection_costs(inspected) + of_inspection,
        "inspection-classes": class_table(inspected["best"]),
        "confused-pairs": pair_table(inspected["best"]),
        "label-issues": label_table(inspected["best"]) + of_inspection,
        "photos": real_photos.table(photos) + source_line("`docs/real_photos.json`", [photos]),
        "photo-classes": real_photos.class_table(photos)
        + source_line("`docs/real_photos.json`", [photos]),
        "photo-ablation": photo_ablation.table(parts)
        + source_line("`docs/photo_ablation.json`", [parts]),
        "recipes": f"{recipes_table(entries).rstrip()} {beside_others}\n",
        "leaderboard": leaderboard.table(leaderboard.summaries(entries))
        + source_line("`docs/leaderboard.json`", flattened(entries)),
        "calibration": calibration_table(entries),
        "peers": peers.table(peers.summaries(published))
        + source_line("`docs/peers.json`", flattened(published))
        + f"\n{peers.processors(published)}{beside_others}\n",
        "comparison": comparison_table(compared)
        + source_line("`docs/comparison`", flattened(compared)),
        "speed": speed_tables(docs),
        "pretrained": metrics_table(json.loads((runs.BEST / runs.METRICS).read_text())),
        "ablations": ablations.table(changes)
        + source_line("`docs/ablations.json`", changes.values()),
        "engines": engines.table(trained) + source_line("`docs/engines.json`", trained.values()),
    }


def speed_tables(docs: Path) -> str:
    """Return the tables of the speed for every kind of processor that was measured."""
    text = ""
    for kind, description in measure_speed.KINDS.items():
        record = docs / f"speed-{kind}.json"
        if record.exists():
            speed = json.loads(record.read_text())
            text += f"### Processor {description}\n\n{measure_speed.table(speed)}"
            text += source_line(f"`docs/{record.name}`", [speed])
            text += f"\n![Training time with a processor {description}]({record.stem}.png)\n\n"
    return text


def inspection_table(inspected: dict[str, dict[str, Any]]) -> str:
    """Return the table of the numbers that differ between inspected networks."""
    methods = next(iter(inspected.values()))["randomisation_check"]
    rows = [
        ["test accuracy", *(f"{of_run['accuracy']:.2%}" for of_run in inspected.values())],
        [
            "empty Grad-CAM maps, of 500",
            *(f"{of_run['empty_grad_cam']:.0%}" for of_run in inspected.values()),
        ],
    ]
    for method in methods:
        for kernels in methods[method]:
            similarities = (
                of_run["randomisation_check"][method][kernels] for of_run in inspected.values()
            )
            rows.append(
                [
                    f"similarity, {method}, random {kernels}",
                    *(f"{value:.2f}" for value in similarities),
                ]
            )
    return markdown(["", *inspected], rows)


def inspection_costs(inspected: dict[str, dict[str, Any]]) -> str:
    """Return the table of the time of every part, and the peak memory of the process so far."""
    titles = list(
        dict.fromkeys(title for of_run in inspected.values() for title in of_run["costs"])
    )
    rows = []
    for title in titles:
        cells = [title]
        for of_run in inspected.values():
            cost = of_run["costs"].get(title)
            if cost:
                gigabytes = cost["peak_memory_mb"] / 1024
                cells.append(f"{cost['seconds']:.1f} s, {gigabytes:.1f} GB")
            else:
                cells.append("–")
        rows.append(cells)
    return markdown(["part", *inspected], rows)


def class_table(of_run: dict[str, Any]) -> str:
    """Return the table of the classes of an inspected network."""
    rows = [
        [
            name,
            *(f"{of_run['per_class'][name][key]:.1%}" for key in ("precision", "recall")),
            f"{of_run['per_class'][name]['average_precision']:.3f}",
            f"{purity:.1%}",
            f"{of_run['neighbour_purity_of_pixels'][name]:.1%}",
        ]
        for name, purity in of_run["neighbour_purity"].items()
    ]
    head = [
        "class",
        "precision",
        "recall",
        "average precision",
        "purity of features",
        "purity of pixels",
    ]
    return markdown(head, rows)


def pair_table(of_run: dict[str, Any]) -> str:
    """Return the table of the most confused pairs of an inspected network."""
    rows = [
        [
            " and ".join(pair["classes"]),
            str(pair["mistakes"]),
            " + ".join(map(str, pair["mistakes_by_true_class"])),
            f"{pair['fraction_of_mistakes']:.1%}",
        ]
        for pair in of_run["confused_pairs"]
    ]
    return markdown(
        ["classes", "mistakes", "first as second + second as first", "fraction of all mistakes"],
        rows,
    )


def label_table(of_run: dict[str, Any]) -> str:
    """Return the table of the label issues, and of the mistakes among them."""
    shapes = [source.FILES[f"{name}-labels-idx1-ubyte"].shape[0] for name in ("train", "t10k")]
    counts = {
        "training images": (shapes[0], of_run["label_issues"]["training"]),
        "test images": (shapes[1], of_run["label_issues"]["test"]),
        "mistakes of `best` on test images": (
            of_run["mistakes"],
            of_run["mistakes_with_label_issue"],
        ),
    }
    rows = [
        [name, f"{number:,}", f"{issues:,}", f"{issues / number:.1%}"]
        for name, (number, issues) in counts.items()
    ]
    return markdown(["", "number", "label issues", "fraction"], rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def comparison_results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the results of a comparison by contestant, one per seed. Raises CompareError."""
    results = {}
    for name, settings in CONTESTANTS.items():
        for path in sorted(folder.glob(f"{name}-[0-9]")):
            result = load_result(path)
            recorded = result["settings"]
            own = {key: recorded.get(key) for key in ("seed", "val_size", "limit")}
            own |= {"weights": recorded.get("weights")} if name == "mobilenet" else {}
            if is_current(name, TrainConfig(**(settings or {}) | own), recorded):
                results.setdefault(name, []).append(result)
    return results


def recipes_table(entries: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the table of README.md: the recipes, from the entries of the leaderboard."""
    lines = [
        "| command | test accuracy, % | with test-time flips, % | training time | parameters | "
        "seeds |",
        "|---" * 6 + "|",
    ]
    for name, summary in leaderboard.summaries(entries).items():
        cells = (
            f"`{leaderboard.command(name)}`",
            leaderboard.percent(summary, "accuracy_without_flips"),
            leaderboard.percent(summary, "accuracy"),
            cli.duration(summary["seconds"]),
            f"{summary['parameters']:,}",
            str(summary["n"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + source_line("`docs/leaderboard.json`", flattened(entries))


def calibration_table(entries: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the table of loss and calibration error before and after calibration."""
    rows = []
    for name, summary in leaderboard.summaries(entries).items():
        scores = [leaderboard.mean(summary, key, 1, 3) for key in leaderboard.CALIBRATION]
        rows.append([f"`{leaderboard.command(name)}`", *scores, str(summary["n"])])
    return markdown(["command", *leaderboard.CALIBRATION.values(), "seeds"], rows)


def comparison_table(compared: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of all contestants of the comparison, most accurate on validation first."""
    rows = []
    for name, results in compared.items():
        scores = {
            key: [result[key] for result in results] for key in ("val_accuracy", "accuracy", "f1")
        }
        parameters = results[0]["parameters"]
        cells = (
            label_of(name, results[0]["settings"]),
            *(mean(values) for values in scores.values()),
            f"{parameters:,}" if parameters else "–",
            f"{statistics.median(result['seconds'] for result in results):.0f}",
            str(len(results)),
        )
        rows.append((-statistics.mean(scores["val_accuracy"]), cells))
    lines = [
        "| contestant | validation accuracy, % | test accuracy, % | F1, % | parameters | "
        "training time, s | seeds |",
        "|---" * 7 + "|",
        *(f"| {' | '.join(cells)} |" for _, cells in sorted(rows)),
    ]
    return "\n".join(lines) + "\n"


def metrics_table(metrics: dict[str, Any]) -> str:
    """Return the table of the model card: metrics with and without test-time flips."""
    low, high = metrics["accuracy_interval"]
    lines = [
        "| metric on the test set | with test-time flips | without |",
        "|---|---|---|",
        f"| accuracy (95 % confidence interval) | {metrics['accuracy']:.2%} "
        f"({low:.2%} to {high:.2%}) | {metrics['without_flips']['accuracy']:.2%} |",
    ]
    for key, name in (
        ("loss", "cross-entropy loss"),
        ("calibrated_loss", "cross-entropy loss after calibration"),
        ("ece", "expected calibration error (ECE)"),
        ("calibrated_ece", "ECE after calibration"),
        ("temperature", "temperature"),
    ):
        lines.append(f"| {name} | {metrics[key]:.3f} | {metrics['without_flips'][key]:.3f} |")
    return "\n".join(lines) + "\n"


def mean(values: list[float]) -> str:
    """Return mean ± standard deviation of fractions, in percent."""
    text = f"{100 * statistics.mean(values):.2f}"
    return f"{text} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else text


def flattened(entries: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of all rows in one list."""
    return [
        entry
        for of_row in entries.values()
        for entry in (of_row.values() if isinstance(of_row, dict) else of_row)
    ]


def source_line(source: str, measured: Iterable[dict[str, Any]]) -> str:
    """Return the line below a table: the source of the results and how they were measured."""
    measured = list(measured)

    def recorded(*keys: str) -> str:
        values = (
            next((entry[key] for key in keys if entry.get(key)), NOT_RECORDED) for entry in measured
        )
        return ", ".join(dict.fromkeys(values))

    commits = re.sub(r"\b([0-9a-f]{7})[0-9a-f]{33}", r"\1", recorded("commit"))
    return (
        f"\nSource: {source}; commit: {commits}; processor: {recorded('processor', 'machine')}; "
        f"date: {recorded('date')}.\n"
    )


def updated(text: str) -> str:
    """Return the text of a page with current tables. Raises KeyError for an unknown table."""
    made = tables()
    return MARKED.sub(lambda match: f"{match[1]}{made[match[2]]}{match[3]}", text)


def main(argv: list[str] | None = None) -> int:
    cli.Parser(__doc__).parse_args(argv)

    def work() -> None:
        for page in PAGES:
            path = ROOT / page
            text = updated(path.read_text(encoding="utf-8"))
            with atomic_io.atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        print(f"Saved {', '.join(PAGES)}")

    return cli.exit_code("tables.py", work)


if __name__ == "__main__":
    sys.exit(main())
