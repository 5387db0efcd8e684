"""Compare the recipes of others with those of this project by accuracy and training cost.

    python -m benchmarks.peers                      all rows
    python -m benchmarks.peers fastai-5 quick       these rows

The recipes are trained in turns. Those of others use their own frameworks, with the settings that
are fastest on a CPU. Training images, seeds and the unit of cost are those of
benchmarks.leaderboard; fastai-20, resnet20 and best are trained with one seed. Saves peers.md,
peers.png and, after every training, peers.json. Run the same command again to resume: finished
trainings are skipped. Most recipes need PyTorch, one needs XGBoost and two a C++ compiler:
python -m pip install -e ".[bench]" -c constraints.txt
"""

import datetime
import importlib
import itertools
import json
import math
import os
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from benchmarks import command_line, leaderboard
from benchmarks.leaderboard import percent, unit_of_cost
from benchmarks.processes import in_own_process
from fmnist import atomic_io, cli, runs, runtime
from fmnist.figure_style import default_style
from plots import BLUE, RED

RECORD = "peers.json"
TOLERANCE = 0.3  # points by which a reproduced recipe may be less accurate than published


class Peer(NamedTuple):
    """A published recipe.

    Attributes:
        title: name in the table and the plot.
        recipe: module and function in benchmarks.published.
        epochs: number of epochs; None if there are none.
        settings: other arguments of the function.
        published: published test accuracy in percent; None if there is none for this data set.
        published_epochs: number of epochs after which it was reached; None for `epochs`.
        trains_with_flips: whether the recipe mirrors training images; only then the plot shows the
            accuracy with test-time flips.
        package: package that the recipe needs.
        is_compiled: whether the recipe also needs a C++ compiler, for torch.compile.
    """

    title: str
    recipe: str
    epochs: float | None
    settings: dict[str, Any]
    published: float | None = None
    published_epochs: float | None = None
    trains_with_flips: bool = False
    package: str = "torch"
    is_compiled: bool = False


PEERS = {
    "keras-convnet": Peer(
        "keras.io mnist_convnet", "with_keras.simple_convnet", 15, {}, package="keras"
    ),
    "torch-tutorial": Peer(
        "PyTorch tutorial",
        "with_torch.garment_classifier",
        5,
        # The tutorial has batches of 4 images and a learning rate of 0.001.
        {"batch_size": 32, "learning_rate": 0.008},
    ),
    "fastai-5": Peer(
        "fastai, 1.2 M parameters",
        "with_torch.fastai_resnet",
        5,
        {"filters": (16, 32, 64, 128, 256)},
        published=93.0,
        is_compiled=True,
    ),
    "fastai-20": Peer(
        "fastai, 4.9 M parameters",
        "with_torch.fastai_resnet",
        20,
        {"filters": (16, 32, 64, 128, 256, 512), "augment": True},
        published=94.3,
        trains_with_flips=True,
        is_compiled=True,
    ),
    "airbench-16": Peer(
        "airbench94, width 16",
        "with_torch.airbench94",
        9.9,
        {"width": 16},
        trains_with_flips=True,
    ),
    "airbench-32": Peer(
        "airbench94, width 32",
        "with_torch.airbench94",
        8,
        {"width": 32},
        trains_with_flips=True,
    ),
    "resnet20": Peer(
        "ResNet-20, random erasing",
        "with_torch.preactivation_resnet",
        26,  # about 180 units
        {},
        published=95.39,
        published_epochs=200,
        trains_with_flips=True,
    ),
    "hog-svm": Peer(
        "HOG + SVM", "classical.hog_and_svm", None, {}, published=92.6, package="skimage"
    ),
    "xgboost": Peer(
        "XGBoost, 100 rounds",
        "classical.gradient_boosting",
        None,
        {"rounds": 100},
        published=89.82,
        package="xgboost",
    ),
}
# Without best-large, which costs more than twice as much as any of the others.
ROWS = (*PEERS, *(row for row in leaderboard.ROWS if row != "best-large"))
# Positions of a name beside its point: right (1), left (-1) or centred, above (1) or below (-1).
LABEL_SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1), (0, 1), (0, -1))
# A training of these rows takes more than 20 minutes on two cores, so there is one seed.
SLOW_ROWS = ("fastai-20", "resnet20", "best")


def what_is_missing(peer: Peer) -> str | None:
    """Return what must be installed before a recipe can run; None if nothing is missing."""
    if not find_spec(peer.package):
        return cli.not_installed(peer.package)
    if peer.is_compiled and not shutil.which(os.environ.get("CXX", "g++")):
        return "torch.compile needs a C++ compiler; install g++"
    return None


def settings_of(peer: Peer) -> dict[str, Any]:
    """Return the arguments of a recipe, as in a JSON object."""
    settings = {"recipe": peer.recipe, "epochs": peer.epochs, **peer.settings}
    return json.loads(json.dumps(settings))


def train_and_score(row: str, seed: int, runs_dir: Path) -> dict[str, Any]:
    """Return the entry of one training.

    Args:
        row: one of ROWS.
        seed: random seed.
        runs_dir: folder for run directories of this project.
    """
    if row in leaderboard.ROWS:
        return leaderboard.train_and_score(row, seed, runs_dir)
    runtime.configure_tensorflow()
    import data

    dataset = data.load(val_size=2000, seed=seed)
    parts = [tuple(part) for part in (dataset.train, dataset.validation, dataset.test)]
    before = unit_of_cost()
    scores = in_own_process(train, PEERS[row], seed, *parts)
    after = unit_of_cost()
    return {
        "settings": settings_of(PEERS[row]),
        **scores,
        "epochs": PEERS[row].epochs,
        "unit_seconds": (before, after),
        "cost": scores["seconds"] / ((before + after) / 2),
        "commit": runs.commit(),
        "date": datetime.date.today().isoformat(),
        "processor": runtime.processor(),
    }


Part = tuple[np.ndarray, np.ndarray]  # images (N, 28, 28, 1) and labels (N,)


def train(peer: Peer, seed: int, training: Part, validation: Part, test: Part) -> dict[str, Any]:
    """Train a peer and return its scores and the seconds of its training.

    The time excludes the loading of packages and data, and the scores.
    """
    # TensorFlow leaves oneDNN off on processors without AVX-512, where training is faster with it.
    os.environ.update(TF_ENABLE_ONEDNN_OPTS="1", TF_CPP_MIN_LOG_LEVEL="3")
    module, function = peer.recipe.split(".")
    recipe = getattr(importlib.import_module(f"benchmarks.published.{module}"), function)
    settings = peer.settings | ({"epochs": peer.epochs} if peer.epochs else {})
    version = importlib.import_module(peer.package).__version__
    begin = time.perf_counter()
    trained = recipe(*training, seed=seed, **settings)
    seconds = time.perf_counter() - begin - trained.not_counted

    def accuracies(part: Part) -> tuple[float, float]:
        """Return the accuracy with and without test-time flips."""
        images, labels = part
        scores = trained.predict(images)
        with_flips = scores + trained.predict(np.ascontiguousarray(images[:, :, ::-1]))
        return tuple(
            float(np.mean(outputs.argmax(axis=1) == labels)) for outputs in (with_flips, scores)
        )

    with_flips, without_flips = accuracies(test)
    val_with_flips, val_without_flips = accuracies(validation)
    return {
        "accuracy": with_flips,
        "accuracy_without_flips": without_flips,
        "val_accuracy": val_with_flips,
        "val_accuracy_without_flips": val_without_flips,
        "parameters": trained.parameters,
        "seconds": seconds,
        "version": f"{peer.package} {version}",
    }


def up_to_date(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries whose settings have not changed."""
    others = {
        row: {
            seed: entry
            for seed, entry in of_row.items()
            if entry["settings"] == settings_of(PEERS[row])
        }
        for row, of_row in entries.items()
        if row in PEERS
    }
    return others | leaderboard.up_to_date(entries)


def summaries(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of every row with entries.

    Its accuracy "shown" is that with test-time flips if the training mirrors images.
    """
    rows = {}
    for row in ROWS:
        if of_row := list(entries.get(row, {}).values()):
            flips = row not in PEERS or PEERS[row].trains_with_flips
            key = "accuracy" if flips else "accuracy_without_flips"
            of_row = [{**entry, "shown": entry[key]} for entry in of_row]
            costs = [entry["seconds"] / unit for entry in of_row for unit in entry["unit_seconds"]]
            rows[row] = {
                **leaderboard.summary(
                    of_row, ("accuracy", "accuracy_without_flips", "shown", "cost")
                ),
                "cost_range": (min(costs), max(costs)),
            }
    return rows


def table(rows: dict[str, Any]) -> str:
    """Return the summaries of all rows as a Markdown table; missing ones are marked as such."""
    lines = [
        "| recipe | epochs | cost, units | test accuracy, % | with test-time flips, % | "
        "published, % | seeds |",
        "|---" * 7 + "|",
    ]
    for row in ROWS:
        summary = rows.get(row)
        cells = [f"{PEERS[row].title if row in PEERS else 'this project'} (`{row}`)"]
        if summary:
            low, high = summary["cost_range"]
            cells += [
                str(summary["epochs"] or "–"),
                f"{summary['cost']:.1f} ({low:.1f} to {high:.1f})",
                percent(summary, "accuracy_without_flips"),
                percent(summary, "accuracy"),
            ]
        else:
            cells += ["–", "not measured", "–", "–"]
        cells += [publication(row, summary), str(summary["n"] if summary else 0)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def publication(row: str, summary: dict[str, Any] | None) -> str:
    """Return the published accuracy of a row and whether it is reproduced."""
    if row not in PEERS:
        return "–"
    peer = PEERS[row]
    if peer.published is None:
        return "none for this data set"
    text = str(peer.published)
    if peer.published_epochs:
        text += f" after {peer.published_epochs:g} epochs"
    if summary:
        text += f", {verdict(peer, summary)}"
    return text


def verdict(peer: Peer, summary: dict[str, Any]) -> str:
    """Return whether a recipe reaches its published accuracy, after as many epochs."""
    if peer.published_epochs:
        return "not trained as long"
    lowest = peer.published - TOLERANCE
    is_reproduced = 100 * summary["accuracy_without_flips"] >= lowest
    return "reproduced" if is_reproduced else "not reproduced"


def pareto_front(rows: dict[str, Any]) -> list[tuple[float, float]]:
    """Return cost and accuracy of the rows of this project that no cheaper one equals."""
    own = [rows[row] for row in leaderboard.ROWS if row in rows]
    points = []
    for summary in sorted(own, key=lambda summary: summary["cost"]):
        if not points or summary["shown"] > points[-1][1]:
            points.append((summary["cost"], summary["shown"]))
    return points


def unequalled(rows: dict[str, Any]) -> list[str]:
    """Return the recipes of others that no recipe of this project equals at no higher cost."""
    front = pareto_front(rows)
    return [
        row
        for row in PEERS
        if row in rows
        and not any(
            cost <= rows[row]["cost"] and accuracy >= rows[row]["shown"] for cost, accuracy in front
        )
    ]


def comparison_sentence(rows: dict[str, Any]) -> str:
    """Return the sentence that names the recipes of others that are better at the same cost."""
    measured = sum(row in rows for row in PEERS)
    titles = ", ".join(PEERS[row].title for row in unequalled(rows))
    return (
        "Recipes of others whose accuracy no recipe of this project reaches at the same or a lower "
        f"cost: {titles or 'none'} ({measured} of {len(PEERS)} measured, `docs/peers.json`)."
    )


def processors(entries: dict[str, Any]) -> str:
    """Return the paragraph that names the rows of every processor; empty if all share one."""
    rows = {}
    for row in ROWS:
        for entry in entries.get(row, {}).values():
            rows.setdefault(entry["processor"], {})[f"`{row}`"] = None  # an ordered set
    if len(rows) < 2:
        return ""
    lists = (f"{processor}: {', '.join(names)}" for processor, names in rows.items())
    return f"Rows by processor. {'; '.join(lists)}.\n\n"


def figure_of(rows: dict[str, Any]) -> Figure:
    """Return the plot of accuracy against cost."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    front = pareto_front(rows)
    # From each point on, this accuracy is available.
    axes.step(
        [cost for cost, _ in front], [100 * value for _, value in front], where="post", color=BLUE
    )
    for row, summary in rows.items():
        peer = PEERS.get(row)
        is_confirmed = not peer or not peer.published or verdict(peer, summary) == "reproduced"
        deviation = summary["shown_deviation"]
        colour = RED if peer else BLUE
        axes.errorbar(
            summary["cost"],
            100 * summary["shown"],
            yerr=None if math.isnan(deviation) else 100 * deviation,
            color=colour,
            linestyle="none",
            capsize=4,
            marker="D" if peer else "o",
            markerfacecolor=colour if is_confirmed else "white",
        )
    axes.set(
        xscale="log",
        xlabel="Training cost, units (1 unit: one epoch of dropout_cnn with plain model.fit)",
        ylabel="Test accuracy, %",
        title="Accuracy against training cost (mean ± standard deviation over seeds)",
    )
    ticks = (1, 2, 5, 10, 20, 50, 100, 200)
    axes.set_xticks(ticks, ticks)
    axes.minorticks_off()
    axes.margins(0.1, 0.12)
    costs = [summary["cost"] for summary in rows.values()]
    room = max(2, (max(costs) / min(costs)) ** 0.35)  # for the names at the right
    axes.set_xlim(right=room * max(costs))
    for label, options in (
        ("this project", {"color": BLUE, "marker": "o"}),
        ("others", {"color": RED, "marker": "D"}),
        (
            "others, published accuracy not reached",
            {"color": RED, "marker": "D", "markerfacecolor": "white"},
        ),
    ):
        axes.plot([], [], linestyle="none", label=label, **options)
    axes.legend(loc="lower right")
    label_points(axes, rows)
    return figure


def label_points(axes: Axes, rows: dict[str, Any]) -> None:
    """Write the name of every row beside its point, where it covers no name, point or line."""
    axes.figure.draw_without_rendering()  # sets the positions
    points = [(summary["cost"], 100 * summary["shown"]) for summary in rows.values()]
    occupied = [
        Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in axes.transData.transform(points)
    ]
    line = axes.transData.transform([(cost, 100 * value) for cost, value in pareto_front(rows)])
    for (x, y), (next_x, next_y) in itertools.pairwise(line):
        occupied += [
            Bbox.from_extents(x, y, next_x, y),
            Bbox.from_extents(next_x, y, next_x, next_y),
        ]
    for (row, summary), point in zip(rows.items(), points, strict=True):
        name = PEERS[row].title if row in PEERS else row
        epochs = f"\n{summary['epochs']:g} epochs" if summary["epochs"] else ""
        for horizontal, vertical in LABEL_SIDES:
            label = axes.annotate(
                f"{name}{epochs}",
                point,
                xytext=(8 * horizontal, 6 * vertical),
                textcoords="offset points",
                ha={1: "left", -1: "right", 0: "center"}[horizontal],
                va="bottom" if vertical > 0 else "top",
                color=RED if row in PEERS else BLUE,
                fontsize=9,
                weight="normal" if row in PEERS else "bold",
            )
            box = label.get_window_extent()
            fits = all(axes.bbox.contains(*corner) for corner in box.corners())
            is_free = fits and not box.count_overlaps(occupied)
            if is_free or (horizontal, vertical) == LABEL_SIDES[-1]:
                occupied.append(box)
                break
            label.remove()


def main(argv: list[str] | None = None) -> int:
    options = command_line.parse(__doc__, ROWS, leaderboard.SEEDS, "peers", argv)

    def work() -> None:
        folder = options.output_dir
        atomic_io.check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        missing = {row: what_is_missing(PEERS[row]) for row in options.rows if row in PEERS}
        for row, message in missing.items():
            if message:
                print(f"Skipped {row}: {message}")
        entries = leaderboard.complete(
            folder / RECORD,
            up_to_date,
            [
                (row, seed)
                for seed in range(options.seeds)
                for row in options.rows
                if not missing.get(row) and (seed == 0 or row not in SLOW_ROWS)
            ],
            lambda row, seed: train_and_score(row, seed, options.runs_dir),
        )
        rows = summaries(entries)
        if not rows:
            raise cli.UserError("nothing is measured; install what the skipped recipes need")
        text = f"{table(rows)}\n{processors(entries)}{comparison_sentence(rows)}\n"
        (folder / "peers.md").write_text(text)
        with default_style():
            figure_of(rows).savefig(folder / "peers.png", dpi=150)
        print(f"\n{text}\nSaved {folder}/peers.md, {RECORD} and peers.png")

    return cli.exit_code("peers.py", work)


if __name__ == "__main__":
    sys.exit(main())
