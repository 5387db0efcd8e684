"""Inspect a run, part by part, and write figures, tables and one page."""

import csv
import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmnist import atomic_io, html_report, runs, runtime
from fmnist.evaluation import metrics
from fmnist.figure_style import default_style
from tools.inspection import attribution_maps, examples, layers
from tools.inspection.inspected import Inspected, Part, accuracy_of, load

PAGE, RESULTS = "inspection.html", "inspection.json"
# Files that not every inspection writes.
NOT_ALWAYS = (
    "figures/attribution_*.png",
    "figures/feature_maps_*.png",
    "figures/label_issues_*.png",
    "figures/nearest_images.png",
    "figures/patches*.png",
    "tables/label_issues.csv",
    "tables/nearest_images.csv",
)
PARTS: list[Callable[[Inspected], Part]] = [
    layers.filters,
    layers.feature_maps,
    attribution_maps.class_activation,
    examples.embedding_maps,
    examples.classes,
    examples.nearest_images,
]


@default_style()
def inspect_run(
    run: Path, data_dir: str | None, folder: Path, with_label_issues: bool = False
) -> dict[str, Any]:
    """Inspect a run, write the results and return the content of inspection.json.

    Args:
        run: run directory.
        data_dir: folder with the data; None for the one that the run was trained on.
        folder: folder for the results.
        with_label_issues: also search for labels that are probably wrong.

    Raises:
        UserError: a DataError or a RunError, or a class has too few test images.
    """
    functions = PARTS
    if with_label_issues:
        from tools.inspection.label_issues import label_issues  # needs cleanlab

        functions = [*PARTS, label_issues]
    inspected = load(run, data_dir, folder)
    parts, costs = [], {}
    for function in functions:
        start = time.perf_counter()
        part = function(inspected)
        seconds = time.perf_counter() - start
        print(f"{part.title}: {seconds:.1f} s", flush=True)
        parts.append(part)
        costs[part.title] = {"seconds": seconds, "peak_memory_mb": peak_memory()}
    results = {
        "run": run.name,
        "model": inspected.model.name,
        "accuracy": accuracy_of(inspected),
        "mistakes": len(inspected.mistakes),
        "costs": costs,
        "commit": runs.commit(),
        "processor": runtime.processor(),
        "date": datetime.date.today().isoformat(),
    }
    for part in parts:
        results |= part.results
    with atomic_io.atomic_writes(folder) as temporary:
        write(temporary, inspected, parts)
        atomic_io.write_json(temporary / RESULTS, results)
        written = {path.relative_to(temporary) for path in temporary.rglob("*")}
    for pattern in NOT_ALWAYS:  # left by an inspection of another network, or with label issues
        for path in folder.glob(pattern):
            if path.relative_to(folder) not in written:
                path.unlink()
    return results


def peak_memory() -> int | None:
    """Return the peak memory of this process so far in MB; None if it is unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes on macOS, else kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def write(folder: Path, inspected: Inspected, parts: list[Part]) -> None:
    """Write the figures, the tables and the page.

    Args:
        folder: existing folder without the folders `figures` and `tables`.
        inspected: the run.
        parts: all parts of the inspection.
    """
    elements = []
    for part in parts:
        elements += [html_report.heading(part.title), *part.html]
        drawn = {name: figure for name, (figure, _) in part.figures.items()}
        captions = {name: caption for name, (_, caption) in part.figures.items()}
        elements += html_report.save_figures(folder, drawn, captions)
    (folder / "tables").mkdir()
    for part in parts:
        for name, (head, rows) in part.tables.items():
            with open(folder / f"tables/{name}.csv", "w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([head, *rows])
    title = f"Inside the run {inspected.run.name}"
    html_report.save_page(folder / PAGE, title, summary(inspected), *elements)


def summary(inspected: Inspected) -> str:
    """Return the first paragraph of the page."""
    images = len(inspected.dataset.test.labels)
    low, high = metrics.accuracy_interval(accuracy_of(inspected), images)
    return html_report.paragraph(
        f"{inspected.model.name} with {inspected.model.count_params():,} parameters; test accuracy "
        f"{accuracy_of(inspected):.2%} (95 % confidence interval {low:.2%} to {high:.2%}), without "
        "test-time augmentation. No test image was used to train or to choose the network. "
        "Confidences are calibrated. Images are drawn dark on white; the network gets them light "
        "on black. The folder tables has all numbers as CSV files."
    )
