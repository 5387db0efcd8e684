import json

import numpy as np
import pytest
from matplotlib.path import Path

import data
from benchmarks import leaderboard, peers, published
from fmnist.figure_style import default_style
from tests import ROOT


def peer_entry(name, accuracy=0.93, cost=5.0, **changes):
    return {
        "settings": peers.settings_of(peers.PEERS[name]),
        "accuracy": accuracy + 0.01,
        "accuracy_without_flips": accuracy,
        "parameters": 1000,
        "epochs": peers.PEERS[name].epochs,
        "seconds": 10 * cost,
        "unit_seconds": [8.0, 12.5],
        "cost": cost,
        "processor": "P",
        **changes,
    }


def summaries(**points):
    """Return summaries from (cost, accuracy) by row; accuracies with flips are 1 point higher."""
    entries = {}
    for row, (cost, accuracy) in points.items():
        row = row.replace("_", "-")
        entry = peer_entry(row if row in peers.PEERS else "hog-svm", accuracy, cost)
        entries[row] = {"0": {**entry, "epochs": 3}}
    return peers.summaries(entries)


RECORDED = peers.summaries(peers.up_to_date(json.loads((ROOT / "docs/peers.json").read_text())))
OWN = {"shortest": (2, 0.91), "classic": (7, 0.90), "quick": (8, 0.93), "strong": (32, 0.94)}


def test_rows_of_several_processors_are_named():
    one, other = ({"0": {"processor": kind}, "1": {"processor": kind}} for kind in ("A", "B"))
    assert peers.processors({"best": one, "quick": one}) == ""
    assert peers.processors({"best": one, "resnet20": other, "quick": one}) == (
        "Rows by processor. B: `resnet20`; A: `quick`, `best`.\n\n"
    )


@pytest.mark.parametrize(
    "name, accuracy, expected",
    [
        ("fastai-5", 0.9271, "93.0, reproduced"),
        ("fastai-5", 0.9269, "93.0, not reproduced"),
        ("fastai-5", 0.95, "93.0, reproduced"),
        ("fastai-5", None, "93.0"),
        ("resnet20", 0.96, "95.39 after 200 epochs, not trained as long"),
        ("keras-convnet", 0.93, "none for this data set"),
        ("quick", 0.93, "–"),
    ],
)
def test_a_recipe_is_reproduced_up_to_three_tenths_of_a_point(name, accuracy, expected):
    assert peers.publication(name, accuracy and {"accuracy_without_flips": accuracy}) == expected


def test_the_table_has_every_recipe_and_its_range_of_costs():
    rows = peers.summaries(
        {
            "fastai-5": {"0": peer_entry("fastai-5"), "1": peer_entry("fastai-5", 0.94)},
            "resnet20": {"0": peer_entry("resnet20", 0.94)},
        }
    )
    lines = peers.table(rows).splitlines()
    assert len(lines) == 2 + len(peers.ROWS)
    text = next(line for line in lines if "`fastai-5`" in line)
    assert "| 5 | 5.0 (4.0 to 6.2) | 93.50 ± 0.71 | 94.50 ± 0.71 | 93.0, reproduced | 2 |" in text
    text = next(line for line in lines if "`resnet20`" in line)
    assert "| 94.00 | 95.00 | 95.39 after 200 epochs, not trained as long | 1 |" in text
    assert "| this project (`quick`) | – | not measured | – | – | – | 0 |" in lines


def test_entries_with_other_settings_are_outdated():
    current, outdated = peer_entry("fastai-20"), peer_entry("fastai-20")
    outdated["settings"] = {**outdated["settings"], "epochs": 21}
    entries = {"fastai-20": {"0": current, "1": outdated}, "a removed peer": {"0": current}}
    assert peers.up_to_date(json.loads(json.dumps(entries))) == {"fastai-20": {"0": current}}


def test_the_line_connects_the_rows_of_this_project_that_no_cheaper_row_equals():
    points = peers.pareto_front(summaries(**OWN, fastai_20=(4, 0.99)))
    assert points == [(2, pytest.approx(0.92)), (8, pytest.approx(0.94)), (32, pytest.approx(0.95))]


@pytest.mark.parametrize(
    "cost, accuracy, is_unequalled",
    [
        (16, 0.9401, True),  # more accurate than quick, which costs 8
        (16, 0.9399, False),
        (1, 0.5, True),  # cheaper than every row
        (64, 0.951, True),
        (64, 0.949, False),
    ],
)
def test_a_recipe_is_unequalled_if_no_cheaper_row_is_as_accurate(cost, accuracy, is_unequalled):
    # This recipe trains without mirrored images, so its accuracy without flips counts.
    rows = summaries(**OWN, keras_convnet=(cost, accuracy))
    assert peers.unequalled(rows) == (["keras-convnet"] if is_unequalled else [])
    expected = "keras.io mnist_convnet" if is_unequalled else "none"
    assert peers.comparison_sentence(rows) == (
        "Recipes of others whose accuracy no recipe of this project reaches at the same or a lower "
        f"cost: {expected} (1 of {len(peers.PEERS)} measured, `docs/peers.json`)."
    )


def test_the_plot_has_a_point_for_every_row_and_marks_what_is_not_reproduced():
    rows = summaries(**OWN, fastai_5=(5, 0.93), hog_svm=(6, 0.9), resnet20=(100, 0.94))
    with default_style():
        axes = peers.figure_of(rows).axes[0]
    points = {
        line.get_xdata()[0]: (round(line.get_ydata()[0], 6), line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() == "D" and len(line.get_xdata())  # not of the legend
    }
    assert points == {
        5: (93.0, peers.RED),
        6: (90.0, "white"),
        100: (95.0, "white"),  # with test-time flips, because the training mirrors images
    }
    assert {"quick\n3 epochs", "HOG + SVM\n3 epochs"} <= {text.get_text() for text in axes.texts}
    steps = axes.lines[0]
    assert list(steps.get_xdata()) == [2, 8, 32] and steps.get_drawstyle() == "steps-post"


POINTS = {
    "shortest": (1.4, 0.917),
    "quick": (4.3, 0.9275),
    "strong_short": (11.6, 0.929),
    "strong": (21.9, 0.935),
    "airbench_16": (11.8, 0.922),
    "airbench_32": (25.8, 0.93),
    "fastai_5": (36.4, 0.9295),
}


@pytest.mark.parametrize("rows", [summaries(**POINTS), RECORDED], ids=["synthetic", "recorded"])
def test_names_in_the_plot_cover_neither_each_other_nor_the_line(rows):
    with default_style():
        axes = peers.figure_of(rows).axes[0]
        axes.figure.draw_without_rendering()
    x, y = (np.repeat(values, 2) for values in axes.lines[0].get_data())
    steps = Path(axes.transData.transform(np.stack([x[1:], y[:-1]], axis=1)))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(rows)
    for box in boxes:
        assert box.count_overlaps(boxes) == 1  # itself
        assert not steps.intersects_bbox(box, filled=False)
        assert all(axes.bbox.contains(*corner) for corner in box.corners())


def test_a_single_row_has_its_name_beside_the_point():
    with default_style():
        axes = peers.figure_of(summaries(hog_svm=(6, 0.9))).axes[0]
        axes.figure.draw_without_rendering()
    (name,) = axes.texts
    assert axes.transData.transform((6, 90))[0] < name.get_window_extent().x0 < axes.bbox.x1


def test_peers_and_own_recipes_are_trained_in_turns_and_resumed(tmp_path, monkeypatch, capsys):
    trained = []

    def train(row, seed, runs_dir):
        trained.append((row, seed))
        if row in peers.PEERS:
            return peer_entry(row)
        settings = leaderboard.config_of(row, seed).result_settings()
        return {**peer_entry("hog-svm"), "settings": settings}

    monkeypatch.setattr(peers, "train_and_score", train)
    packages = {"torch": None}
    monkeypatch.setattr(peers, "find_spec", lambda name: packages.get(name, "found"))
    arguments = ["hog-svm", "resnet20", "quick", "--seeds", "2", "--output-dir", str(tmp_path)]
    assert peers.main(arguments) == 0
    in_turns = [("hog-svm", 0), ("quick", 0), ("hog-svm", 1), ("quick", 1)]
    assert trained == in_turns
    output = capsys.readouterr().out
    assert 'Skipped resnet20: not installed: torch; run: python -m pip install -e ".[bench]"' in (
        output
    )
    assert (tmp_path / "peers.png").stat().st_size > 10_000
    assert peers.main(["resnet20", "--output-dir", str(tmp_path / "empty")]) == 1
    assert "nothing is measured" in capsys.readouterr().err
    packages["torch"] = "found"
    assert peers.main(arguments) == 0
    assert trained == [*in_turns, ("resnet20", 0)]  # one seed, because it takes long
    assert set(json.loads((tmp_path / "peers.json").read_text())) == {
        "hog-svm",
        "quick",
        "resnet20",
    }


def test_a_compiled_recipe_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: "found")
    monkeypatch.setattr(peers.shutil, "which", lambda name: name if name == "clang++" else None)
    monkeypatch.delenv("CXX", raising=False)
    needing = {row for row, peer in peers.PEERS.items() if peers.what_is_missing(peer)}
    assert needing == {"fastai-5", "fastai-20"}
    monkeypatch.setenv("CXX", "clang++")
    assert not any(peers.what_is_missing(peer) for peer in peers.PEERS.values())


def test_the_scores_and_the_training_time_of_a_recipe(monkeypatch):
    labels = np.array([0, 1, 1, 0])
    images = np.zeros((4, 28, 28, 1), np.float32)
    images[:, :, :14] = labels[:, None, None, None]  # a mirrored 1 has a dark left half, like a 0

    def predict(images):
        is_one = images[:, 0, 0, 0] > 0
        return np.stack([1.5 * ~is_one, is_one], axis=1)

    def recipe(images, labels, seed, epochs, width):
        assert (seed, epochs, width) == (3, 2, 8)
        return published.Trained(predict, 7, not_counted=-100.0)

    class Module:
        __version__ = "1.2"

    Module.recipe = staticmethod(recipe)
    monkeypatch.setattr(peers.importlib, "import_module", lambda name: Module)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    part = (images, labels)
    peer = peers.Peer("", "module.recipe", 2, {"width": 8}, package="a package")
    scores = peers.train(peer, 3, part, part, part)
    assert 100 < scores.pop("seconds") < 110
    assert scores == {
        "accuracy": 0.5,  # with flips, everything looks like a 0
        "accuracy_without_flips": 1.0,
        "val_accuracy": 0.5,
        "val_accuracy_without_flips": 1.0,
        "parameters": 7,
        "version": "a package 1.2",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras-convnet", "hog-svm"])
def test_a_recipe_learns_synthetic_data(name, synthetic_dataset, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    dataset = data.load(val_size=100)
    parts = [tuple(part) for part in (dataset.train, dataset.validation, dataset.test)]
    scores = peers.train(peers.PEERS[name], 0, *parts)
    assert scores["accuracy_without_flips"] > 0.5 and scores["seconds"] > 0
