import json

import numpy as np
import pytest

import data
from benchmarks import leaderboard, peers, published


def peer_entry(name, accuracy=0.93, cost=5.0, **changes):
    return {
        "settings": peers.settings_of(peers.PEERS[name]),
        "accuracy": accuracy + 0.01,
        "accuracy_without_flips": accuracy,
        "parameters": 1000,
        "epochs": peers.PEERS[name].epochs,
        "seconds": 10 * cost,
        "unit_seconds_before": 8.0,
        "unit_seconds_after": 12.5,
        "cost": cost,
        **changes,
    }


def own_rows(**points):
    """Return summaries of the leaderboard from (cost, accuracy) by row."""
    return {
        row: {"cost": cost, "accuracy": accuracy, "accuracy_deviation": 0.001}
        for row, (cost, accuracy) in points.items()
    }


OWN = own_rows(classic=(7, 0.93), shortest=(2, 0.92), quick=(8, 0.94), strong=(32, 0.95))


@pytest.mark.parametrize(
    "name, accuracy, reproduced",
    [
        ("fastai-5", 0.9271, True),
        ("fastai-5", 0.9269, False),
        ("fastai-5", 0.95, True),
        ("resnet20", 0.9539, False),  # published after 200 epochs
        ("keras-convnet", 0.93, False),  # nothing is published
    ],
)
def test_a_recipe_is_reproduced_up_to_three_tenths_of_a_point(name, accuracy, reproduced):
    row = peers.summaries({name: {"0": peer_entry(name, accuracy)}})[name]
    assert row["is_reproduced"] == reproduced


def test_the_table_has_every_peer_its_range_of_costs_and_its_publication():
    rows = peers.summaries(
        {
            "fastai-5": {"0": peer_entry("fastai-5"), "1": peer_entry("fastai-5", 0.94)},
            "resnet20": {"0": peer_entry("resnet20", 0.94)},
        }
    )
    lines = peers.table(rows).splitlines()
    assert len(lines) == 2 + len(peers.PEERS)
    text = next(line for line in lines if "`fastai-5`" in line)
    assert "| 5 | 5.0 (4.0 to 6.2) | 93.50 ± 0.71 | 94.50 ± 0.71 | 93.0, reproduced | 2 |" in text
    text = next(line for line in lines if "`resnet20`" in line)
    assert "| 94.00 | 95.00 | 95.39 after 200 epochs, not reproduced | 1 |" in text
    text = next(line for line in lines if "`hog-svm`" in line)
    assert text.endswith("| – | not measured | – | – | 92.6 | 0 |")
    text = next(line for line in lines if "`keras-convnet`" in line)
    assert text.endswith("| 15 | not measured | – | – | none for this data set | 0 |")


def test_entries_with_other_settings_are_outdated():
    current, outdated = peer_entry("fastai-20"), peer_entry("fastai-20")
    outdated["settings"] = {**outdated["settings"], "epochs": 21}
    entries = {"fastai-20": {"0": current, "1": outdated}, "a removed peer": {"0": current}}
    assert peers.up_to_date(json.loads(json.dumps(entries))) == {"fastai-20": {"0": current}}


def test_the_line_connects_the_rows_that_no_cheaper_row_exceeds():
    assert peers.line_of(OWN) == [(2, 0.92), (7, 0.93), (8, 0.94), (32, 0.95)]
    assert peers.line_of(own_rows(quick=(6, 0.94), classic=(7, 0.93))) == [(6, 0.94)]


@pytest.mark.parametrize(
    "cost, accuracy, is_ahead",
    [
        (16, 0.9451, True),  # half way between 8 and 32 units on a logarithmic axis
        (16, 0.9449, False),
        (1, 0.99, False),  # cheaper than every row
        (64, 0.951, True),
    ],
)
def test_a_peer_is_ahead_if_it_is_above_the_line_at_its_cost(cost, accuracy, is_ahead):
    entry = peer_entry("keras-convnet", accuracy, cost=cost)
    rows = peers.summaries({"keras-convnet": {"0": entry}})
    assert peers.ahead(rows, OWN) == (["keras-convnet"] if is_ahead else [])
    assert peers.ahead(rows, {}) == []


def test_the_plot_has_a_point_for_every_row_and_marks_what_is_not_reproduced():
    rows = peers.summaries(
        {
            "fastai-5": {"0": peer_entry("fastai-5")},
            "resnet20": {"0": peer_entry("resnet20", 0.94, cost=100.0)},
        }
    )
    axes = peers.figure_of(rows, OWN).axes[0]
    filled = {
        line.get_xdata()[0]: (line.get_ydata()[0], line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() == "D"
    }
    # Without test-time flips for fastai-5, which trains without mirrored images.
    assert filled == {5.0: (93.0, peers.RED), 100.0: (95.0, "white")}
    labels = {text.get_text() for text in axes.texts}
    assert {"quick", "quick, 3 epochs", "ResNet-20, random erasing, 20 epochs"} <= labels


def test_peers_and_own_recipes_are_trained_in_turns_and_resumed(tmp_path, monkeypatch, capsys):
    trained = []

    def train_own(row, seed, runs_dir, unit):
        trained.append((row, int(seed)))
        settings = leaderboard.config_of(row, seed).result_settings()
        return {
            **peer_entry("hog-svm"),
            "settings": settings,
            "accuracy_with_shifts": 0.9,
        }

    def train_peer(name, seed, unit):
        trained.append((name, seed))
        return peer_entry(name)

    monkeypatch.setattr(leaderboard, "train_and_score", train_own)
    monkeypatch.setattr(peers, "train_and_score", train_peer)
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
    assert (tmp_path / "leaderboard.png").stat().st_size > 10_000
    packages["torch"] = "found"
    assert peers.main(arguments) == 0
    assert trained == [*in_turns, ("resnet20", 0)]  # one seed, because it takes long
    assert set(json.loads((tmp_path / "peers.json").read_text())) == {"hog-svm", "resnet20"}
    assert set(json.loads((tmp_path / "leaderboard.json").read_text())) == {"quick"}


def test_the_training_time_excludes_the_stall_of_the_input_pipeline(monkeypatch):
    labels = np.array([0, 1, 1, 0])
    images = np.zeros((4, 28, 28, 1), np.float32)
    images[:, :, :14] = labels[:, None, None, None]  # mirrored images look like the other class

    def predict(images):
        is_one = images[:, 0, 0, 0] > 0
        return np.stack([1 - is_one, 2 * is_one], axis=1)

    recipe = type(
        "Recipes",
        (),
        {"recipe": lambda *part, seed, epochs: published.Trained(predict, 7, stall=-100.0)},
    )
    monkeypatch.setattr(peers.importlib, "import_module", lambda name: recipe)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    part = (images, labels)
    scores = peers.train(peers.Peer("", "module.recipe", 1, {}), 0, part, part, part)
    assert 100 < scores.pop("seconds") < 110
    assert scores == {
        "accuracy": 1.0,
        "accuracy_without_flips": 1.0,
        "val_accuracy": 1.0,
        "val_accuracy_without_flips": 1.0,
        "parameters": 7,
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
