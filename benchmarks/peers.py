"""Train recipes that others publish, on the same data and processor as those of this project.

    python -m benchmarks.peers                      all peers and the leaderboard, in turns
    python -m benchmarks.peers fastai-5 quick       these rows

Every peer uses its own framework, with the settings that are fastest on a CPU. Training images,
seeds and the unit of cost are those of benchmarks.leaderboard. Saves peers.md, leaderboard.png
and, after every training, peers.json, or leaderboard.json for the recipes of this project. Run the
same command again to resume: finished trainings are skipped. Most peers need PyTorch, one needs
XGBoost: python -m pip install -e ".[bench]" -c constraints.txt
"""

import datetime
import importlib
import json
import math
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import command_line, leaderboard
from benchmarks.leaderboard import UnitOfCost, percent
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
        epochs: number of epochs, or of rounds of boosting.
        settings: other arguments of the function.
        published: published test accuracy in percent; None if there is none for this data set.
        published_epochs: number of epochs after which it was reached; None for `epochs`.
        trains_with_flips: whether the recipe mirrors training images; only then the plot shows the
            accuracy with test-time flips.
        package: package that the recipe needs.
        seeds: number of seeds; one if a seed takes more than 20 minutes on two cores.
    """

    title: str
    recipe: str
    epochs: float
    settings: dict[str, Any]
    published: float | None = None
    published_epochs: float | None = None
    trains_with_flips: bool = False
    package: str = "torch"
    seeds: int = leaderboard.SEEDS


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
    ),
    "fastai-20": Peer(
        "fastai, 4.9 M parameters",
        "with_torch.fastai_resnet",
        20,
        {"filters": (16, 32, 64, 128, 256, 512), "augment": True},
        published=94.3,
        trains_with_flips=True,
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
        20,
        {},
        published=95.39,
        published_epochs=200,
        trains_with_flips=True,
        seeds=1,
    ),
    "hog-svm": Peer("HOG + SVM", "classical.hog_and_svm", 1, {}, published=92.6, package="skimage"),
    "xgboost": Peer(
        "XGBoost", "classical.gradient_boosting", 100, {}, published=89.82, package="xgboost"
    ),
}
ROWS = {**PEERS, **leaderboard.ROWS}


def settings_of(peer: Peer) -> dict[str, Any]:
    """Return what determines the result of a peer, as in a JSON object."""
    settings = {"recipe": peer.recipe, "epochs": peer.epochs, **peer.settings}
    return json.loads(json.dumps(settings))


def train_and_score(name: str, seed: int, unit: UnitOfCost) -> dict[str, Any]:
    """Return the entry of one training. The validation set has 2,000 images."""
    runtime.configure_tensorflow()
    import data

    dataset = data.load(val_size=2000, seed=seed)
    peer = PEERS[name]
    before = unit()
    scores = in_own_process(
        train,
        peer,
        seed,
        *(tuple(part) for part in (dataset.train, dataset.validation, dataset.test)),
    )
    after = unit()
    return {
        "settings": settings_of(peer),
        **scores,
        "epochs": peer.epochs,
        "unit_seconds_before": before,
        "unit_seconds_after": after,
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
    begin = time.perf_counter()
    trained = recipe(*training, seed=seed, epochs=peer.epochs, **peer.settings)
    seconds = time.perf_counter() - begin - trained.stall

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
    }


def up_to_date(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of peers whose settings have not changed."""
    return {
        name: {
            seed: entry
            for seed, entry in of_peer.items()
            if entry["settings"] == settings_of(PEERS[name])
        }
        for name, of_peer in entries.items()
        if name in PEERS
    }


def summaries(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of every peer with entries."""
    rows = {}
    for name, peer in PEERS.items():
        if of_peer := list(entries.get(name, {}).values()):
            rows[name] = leaderboard.summary(
                of_peer, ("accuracy", "accuracy_without_flips", "cost")
            )
            costs = [
                entry["seconds"] / entry[f"unit_seconds_{when}"]
                for entry in of_peer
                for when in ("before", "after")
            ]
            rows[name] |= {"lowest_cost": min(costs), "highest_cost": max(costs)}
            rows[name]["is_reproduced"] = is_reproduced(peer, rows[name])
    return rows


def is_reproduced(peer: Peer, row: dict[str, Any]) -> bool:
    """Return whether a peer reaches its published accuracy, after as many epochs."""
    return (
        peer.published is not None
        and peer.published_epochs in (None, peer.epochs)
        and 100 * row["accuracy_without_flips"] >= peer.published - TOLERANCE
    )


def table(rows: dict[str, Any]) -> str:
    """Return the summaries of all peers as a Markdown table; missing ones are marked as such."""
    lines = [
        "| recipe | epochs | cost, units | test accuracy, % | with test-time flips, % | "
        "published, % | seeds |",
        "|---" * 7 + "|",
    ]
    for name, peer in PEERS.items():
        row = rows.get(name)
        epochs = f"{peer.epochs:g}" if peer.epochs > 1 else "–"
        cells = [f"{peer.title} (`{name}`)", epochs]
        if row:
            cells += [
                f"{row['cost']:.1f} ({row['lowest_cost']:.1f} to {row['highest_cost']:.1f})",
                percent(row, "accuracy_without_flips"),
                percent(row, "accuracy"),
            ]
        else:
            cells += ["not measured", "–", "–"]
        cells += [publication(peer, row), str(row["n"] if row else 0)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def publication(peer: Peer, row: dict[str, Any] | None) -> str:
    """Return the published accuracy of a peer and whether it is reproduced."""
    if peer.published is None:
        return "none for this data set"
    text = str(peer.published)
    if peer.published_epochs:
        text += f" after {peer.published_epochs:g} epochs"
    if row:
        text += ", reproduced" if row["is_reproduced"] else ", not reproduced"
    return text


def line_of(rows: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the costs and accuracies of the rows that no cheaper row exceeds, by ascending cost.

    Args:
        rows: summaries of the leaderboard.
    """
    points = []
    for row in sorted(rows.values(), key=lambda row: row["cost"]):
        if not points or row["accuracy"] > points[-1][1]:
            points.append((row["cost"], row["accuracy"]))
    return points


def shown_accuracy(peer: Peer) -> str:
    """Return the key of the accuracy in the plot."""
    return "accuracy" if peer.trains_with_flips else "accuracy_without_flips"


def ahead(peers: dict[str, Any], rows: dict[str, Any]) -> list[str]:
    """Return the peers above the line of this project; left of the line there is nothing to exceed.

    Args:
        peers: summaries of the peers.
        rows: summaries of the leaderboard.
    """
    if not rows:
        return []
    costs, accuracies = zip(*line_of(rows), strict=True)
    return [
        name
        for name, peer in peers.items()
        if peer["cost"] >= costs[0]
        and peer[shown_accuracy(PEERS[name])]
        > np.interp(math.log(peer["cost"]), np.log(costs), accuracies)
    ]


def figure_of(peers: dict[str, Any], rows: dict[str, Any]) -> Figure:
    """Return the plot of accuracy against cost.

    Args:
        peers: summaries of the peers.
        rows: summaries of the leaderboard.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    line = line_of(rows)
    axes.plot([cost for cost, _ in line], [100 * value for _, value in line], color=BLUE)
    for name, row in rows.items():
        config = leaderboard.ROWS[name].config
        title = f"{config.recipe}, {config.epochs} epochs" if name == "shortest" else config.recipe
        point(axes, row["cost"], row, "accuracy", title, color=BLUE, marker="o")
    for name, row in peers.items():
        peer = PEERS[name]
        is_counted = peer.published is None or row["is_reproduced"]
        point(
            axes,
            row["cost"],
            row,
            shown_accuracy(peer),
            f"{peer.title}, {peer.epochs:g} epochs" if peer.epochs > 1 else peer.title,
            color=RED,
            marker="D",
            markerfacecolor=RED if is_counted else "white",
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
    return figure


def point(
    axes: Axes, cost: float, row: dict[str, Any], key: str, label: str, color: str, **options: Any
) -> None:
    """Draw a summary with its standard deviation and its label."""
    deviation = row[f"{key}_deviation"]
    axes.errorbar(
        cost,
        100 * row[key],
        yerr=None if math.isnan(deviation) else 100 * deviation,
        color=color,
        linestyle="none",
        capsize=4,
        **options,
    )
    axes.annotate(
        label,
        (cost, 100 * row[key]),
        xytext=(8, -12),
        textcoords="offset points",
        color=color,
        fontsize=8,
    )


def read(record: Path) -> dict[str, Any]:
    """Return the entries of a JSON file, none if it does not exist."""
    return json.loads(record.read_text()) if record.exists() else {}


def main(argv: list[str] | None = None) -> int:
    options = command_line.parse(__doc__, ROWS, leaderboard.SEEDS, "peers", argv)

    def work() -> None:
        folder = options.output_dir
        folder.mkdir(parents=True, exist_ok=True)
        entries = {
            leaderboard.RECORD: leaderboard.up_to_date(read(folder / leaderboard.RECORD)),
            RECORD: up_to_date(read(folder / RECORD)),
        }
        missing = {
            row: PEERS[row].package
            for row in options.rows
            if row in PEERS and not find_spec(PEERS[row].package)
        }
        for row, package in missing.items():
            print(f"Skipped {row}: {cli.not_installed(package)}")
        unit = UnitOfCost()
        for seed in range(options.seeds):
            for row in options.rows:
                is_own = row in leaderboard.ROWS
                record = leaderboard.RECORD if is_own else RECORD
                known = entries[record].setdefault(row, {})
                if str(seed) in known or row in missing:
                    continue
                if is_own:
                    entry = leaderboard.train_and_score(row, str(seed), options.runs_dir, unit)
                elif seed < PEERS[row].seeds:
                    entry = train_and_score(row, seed, unit)
                else:
                    continue
                known[str(seed)] = entry
                atomic_io.write_json(folder / record, entries[record])
                print(f"{row}, seed {seed}: {entry['accuracy']:.2%}, {entry['cost']:.1f} units")
        rows, peers = leaderboard.summaries(entries[leaderboard.RECORD]), summaries(entries[RECORD])
        (folder / "peers.md").write_text(table(peers))
        with default_style():
            figure_of(peers, rows).savefig(folder / "leaderboard.png", dpi=150)
        print(f"\n{table(peers)}\nSaved {folder}/peers.md, {RECORD} and leaderboard.png")

    return cli.exit_code("peers.py", work)


if __name__ == "__main__":
    sys.exit(main())
