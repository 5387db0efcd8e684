"""compare_models.py on small synthetic data, in this process and on a Dask cluster."""

import csv
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import train_cnn
from fmnist import runs, runtime
from fmnist.config import TrainConfig
from tests import ROOT
from tools import compare_models
from tools.comparison import baselines, comparison, figures, summary
from tools.comparison.contestants import BASELINE_NAMES, CONTESTANTS, GROUPS, label_of

SMALL = ["--val-size", "100", "--epochs", "2"]
TIMEOUT = 120  # seconds; what a test waits for usually takes a few seconds


@pytest.fixture
def compare(synthetic_dataset, no_figures, tmp_path, capsys):
    def run(*options, code=0):
        assert (
            compare_models.main([*SMALL, "--output-dir", str(tmp_path / "out"), *options]) == code
        )
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


@pytest.fixture
def no_comparison_figures(monkeypatch):
    monkeypatch.setattr(figures, "draw", lambda rows: {})


def table(folder):
    with open(folder / "comparison.csv") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


@pytest.mark.slow
def test_contestants_are_trained_once_and_compared(compare, tmp_path, monkeypatch):
    names = ("dropout_cnn", "knn", "dummy")
    first = compare(*names, "--seeds", "2")
    out = tmp_path / "out"
    rows = table(out)
    assert {*rows} == {*names}
    scores = [json.loads((out / f"dropout_cnn-{seed}/metrics.json").read_text()) for seed in (0, 1)]
    row = rows["dropout_cnn"]
    assert float(row["accuracy"]) == pytest.approx(np.mean([score["accuracy"] for score in scores]))
    assert float(row["val_accuracy"]) == pytest.approx(
        np.mean([score["validation"]["accuracy"] for score in scores])
    )
    assert float(row["f1"]) == pytest.approx(
        np.mean([score["per_class"]["macro avg"]["f1-score"] for score in scores])
    )
    assert float(rows["dummy"]["behind_high"]) < -0.5
    best = max(rows, key=lambda name: float(rows[name]["val_accuracy"]))
    assert f"{rows[best]['label']} has the highest validation accuracy" in first
    assert rows[best]["behind"] == ""
    result = json.loads((out / "knn-0/result.json").read_text())
    assert result["processor"] == runtime.processor()
    assert result["date"] == datetime.date.today().isoformat() and "commit" in result

    page = (out / "report.html").read_text()
    for name in ("accuracy_against_cost", "classes", "gaps", "confusion_difference"):
        assert (out / f"figures/{name}.png").stat().st_size > 3000
        assert f'alt="{name}"' in page

    monkeypatch.setattr(train_cnn, "train", None)
    monkeypatch.setattr(baselines, "BASELINES", None)
    before = (out / "comparison.md").read_text()
    (out / "figures/depth.png").write_bytes(b"left by a comparison of other contestants")
    compare(*names, "--seeds", "2")
    assert (out / "comparison.md").read_text() == before
    assert not (out / "figures/depth.png").exists()


def test_a_failing_training_does_not_stop_the_rest(
    compare, no_comparison_figures, tmp_path, monkeypatch
):
    monkeypatch.setitem(baselines.BASELINES, "knn", None)
    errors = compare("knn", "dummy", "--seeds", "1", code=1)
    assert (
        errors.startswith("compare_models.py: 1 failed: knn, seed 0: TypeError")
        and errors.count("\n") == 1
    )
    assert {*table(tmp_path / "out")} == {"dummy"}
    assert "Traceback" in (tmp_path / "out/logs/knn-0.log").read_text()


@pytest.mark.slow
def test_an_interrupted_training_is_resumed(
    compare, no_comparison_figures, tmp_path, interrupt_after_first_epoch
):
    compare("lenet_l2", "--seeds", "1")
    history = runs.load_history(tmp_path / "out/lenet_l2-0")
    shutil.rmtree(tmp_path / "out")
    with interrupt_after_first_epoch():
        assert "Run the same command again" in compare("lenet_l2", "--seeds", "1", code=130)
    assert len(runs.load_history(tmp_path / "out/lenet_l2-0")) == 1
    compare("lenet_l2", "--seeds", "1")
    resumed = runs.load_history(tmp_path / "out/lenet_l2-0")
    assert [row["val_loss"] for row in resumed] == [row["val_loss"] for row in history]


@pytest.mark.slow
def test_results_with_other_settings_and_corrupt_results_are_rejected_and_kept(
    compare, no_comparison_figures, tmp_path
):
    compare("dummy", "lenet_l2", "--seeds", "1")
    kept = (tmp_path / "out/lenet_l2-0/model.keras").read_bytes()
    errors = compare("dummy", "lenet_l2", "--seeds", "1", "--epochs", "3", code=1)
    assert (
        "1 failed: lenet_l2, seed 0" in errors
        and "trained with other settings" in errors
        and errors.count("\n") == 1
    )
    for text in ("{", "{}", "[]"):
        (tmp_path / "out/dummy-0/result.json").write_text(text)
        errors = compare("dummy", "lenet_l2", "--seeds", "1", code=1)
        assert "dummy-0/result.json is corrupt" in errors and errors.count("\n") == 1
    result = tmp_path / "out/lenet_l2-0/result.json"
    intact = json.loads(result.read_text())
    for corrupt in (
        {**intact, "seconds": "5"},
        {**intact, "parameters": 0.5},
        {
            **intact,
            "settings": {key: value for key, value in intact["settings"].items() if key != "seed"},
        },
    ):
        result.write_text(json.dumps(corrupt))
        errors = compare("lenet_l2", "--seeds", "1", code=1)
        assert "lenet_l2-0/result.json is corrupt" in errors and errors.count("\n") == 1
    result.write_text(json.dumps({**intact, "predicted": "123"}))
    errors = compare("lenet_l2", "--seeds", "1", code=1)
    assert "predicted must have one digit per test image" in errors and errors.count("\n") == 1
    result.unlink()
    compare("lenet_l2", "--seeds", "1")
    (tmp_path / "out/gap_cnn-0").mkdir()
    errors = compare("gap_cnn", "lenet_l2", "--seeds", "1", code=1)
    assert "gap_cnn-0 is not a run directory" in errors and errors.count("\n") == 1
    assert (tmp_path / "out/lenet_l2-0/model.keras").read_bytes() == kept


def test_every_contestant_has_valid_settings():
    for settings in CONTESTANTS.values():
        TrainConfig(**(settings or {}))
    assert BASELINE_NAMES == tuple(baselines.BASELINES)
    assert len(CONTESTANTS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize(
    "name, settings, label",
    [
        ("quick", {"epochs": 10}, "quick"),
        ("knn", {"epochs": 50}, "knn"),
        ("gap_cnn", {}, "gap_cnn, 5 epochs"),
        ("gap_cnn", {"epochs": 1}, "gap_cnn, 1 epoch"),
        ("gap_cnn-of-1-convolution", {}, "gap_cnn with 1 convolution, 5 epochs"),
        ("gap_cnn-of-4-convolutions", {}, "gap_cnn with 4 convolutions, 5 epochs"),
        ("lenet_l2-without-l2", {}, "lenet_l2 without L2 regularisation, 5 epochs"),
        ("mobilenet", {}, "mobilenet, 5 epochs, randomly initialised"),
        ("mobilenet", {"weights": "imagenet"}, "mobilenet, 5 epochs, ImageNet weights"),
        ("mobilenet", {"weights": "a/b.h5"}, "mobilenet, 5 epochs, weights of b.h5"),
    ],
)
def test_labels_name_the_number_of_epochs_of_the_short_schedule(name, settings, label):
    assert label_of(name, (CONTESTANTS[name] or {}) | settings) == label


def comparison_row(label, interval=None, n=3):
    return {"label": label, "n": n, "behind": interval}


def test_the_conclusion_states_which_differences_are_significant():
    best, similar = comparison_row("a"), comparison_row("b", (-0.1, -0.2, 0.1))
    worse, better = comparison_row("c", (-0.2, -0.3, -0.1)), comparison_row("d", (0.2, 0.1, 0.3))
    assert summary.verdict([best]) == "a has the highest validation accuracy."
    assert "it is significantly more accurate than all others (95 %" in summary.verdict(
        [best, worse]
    )
    assert (
        "it is significantly less accurate than d and not significantly different from b (95 % "
        "bootstrap confidence intervals over images and seeds)."
    ) in summary.verdict([best, worse, similar, better])
    assert "do not cover the variation between seeds" in summary.verdict(
        [best, comparison_row("b", (-0.1, -0.2, 0.1), n=1)]
    )


@pytest.mark.slow
@pytest.mark.cluster
def test_workers_on_this_machine_divide_its_cores(compare, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(comparison.runtime, "available_cores", lambda: 8)
    assert set(comparison.thread_limits(2).values()) == {"4", "2"}
    for name in comparison.thread_limits(2):
        monkeypatch.setenv(name, "8")  # restored after the test
    monkeypatch.setattr(comparison, "attempt", worker_environment)
    compare("dummy", "--seeds", "2", "--workers", "2", code=1)
    for seed in (0, 1):
        environment = json.loads((tmp_path / f"out/dummy-{seed}.json").read_text())
        assert environment.items() >= comparison.thread_limits(2).items()


def worker_environment(name, config):
    """Replace attempt(): save the environment variables of the worker."""
    Path(config.runs_dir).mkdir(exist_ok=True)
    (Path(config.runs_dir) / f"{config.name}.json").write_text(json.dumps(dict(os.environ)))
    return "done"


# Imitates a machine on which the project is not installed.
WITHOUT_EDITABLE_INSTALLATIONS = """
import sys
sys.meta_path[:] = [
    finder
    for finder in sys.meta_path
    if not getattr(finder, "__module__", "").startswith("__editable__")
]
"""


@pytest.fixture
def cluster(tmp_path, request):
    """The scheduler file of a Dask cluster: one scheduler and two workers, in three processes.

    With the parameter False, the processes cannot import this project.
    """
    pytest.importorskip("distributed", reason="Dask is not installed")
    file = tmp_path / "scheduler.json"
    commands = [
        ["scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file],
        *[["worker", "--nthreads", "1", "--no-dashboard", "--scheduler-file", file]] * 2,
    ]
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(WITHOUT_EDITABLE_INSTALLATIONS)
    can_import = getattr(request, "param", True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT if can_import else hidden)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    yield file
    for process in reversed(processes):
        process.terminate()
        process.wait()


@pytest.mark.cluster
@pytest.mark.slow
def test_a_cluster_whose_workers_are_killed_gives_the_same_table(
    cluster, real_data, no_figures, tmp_path
):
    from distributed import Client

    options = [
        "lenet_l2",
        "dummy",
        "--limit",
        "1500",
        "--epochs",
        "4",
        "--seeds",
        "2",
        "--data-dir",
        real_data,
    ]
    command = [
        sys.executable,
        "-m",
        "tools.compare_models",
        *options,
        "--output-dir",
        tmp_path / "cluster",
        "--scheduler",
    ]
    with Client(scheduler_file=str(cluster)) as client:
        client.wait_for_workers(2, timeout=TIMEOUT)
        sweep = subprocess.Popen(
            [*command, client.scheduler.address],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        workers = client.run(os.getpid).values()
        end = time.monotonic() + TIMEOUT
        while not (started := list((tmp_path / "cluster").glob("lenet_l2-*/checkpoint/state.npz"))):
            assert time.monotonic() < end
            time.sleep(0.02)
        for process in workers:  # one of them trains
            os.kill(process, signal.SIGKILL)
        output, _ = sweep.communicate(timeout=TIMEOUT)
    assert sweep.returncode == 0 and "[4/4]" in output, output
    assert (
        "resumed after epoch"
        in (tmp_path / f"cluster/logs/{started[0].parent.parent.name}.log").read_text()
    )

    # In this process, with as many threads as a worker.
    assert compare_models.main([*options, "--output-dir", str(tmp_path / "local")]) == 0
    rows, cluster_rows = table(tmp_path / "local"), table(tmp_path / "cluster")
    assert rows["lenet_l2"]["n"] == rows["dummy"]["n"] == "2"
    for name, row in rows.items():
        for key, value in row.items():
            assert key.startswith(("seconds", "latency")) or cluster_rows[name][key] == value


@pytest.mark.cluster
@pytest.mark.parametrize("cluster", [False], indirect=True)
def test_the_error_names_the_python_path_if_a_cluster_cannot_import_this_project(compare, cluster):
    from distributed import Client

    with Client(scheduler_file=str(cluster)) as client:
        address = client.scheduler.address
    message = compare("dummy", "--scheduler", address, code=1)
    assert f"PYTHONPATH={ROOT}" in message and message.count("\n") == 1


def test_an_unreachable_scheduler_is_named(compare, monkeypatch):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(comparison, "SCHEDULER_TIMEOUT", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense"):
        message = compare("dummy", "--scheduler", address, code=1)
        assert f"cannot connect to a Dask scheduler at {address}" in message
        assert message.count("\n") == 1


@pytest.mark.parametrize(
    "options, expected",
    [
        (["vgg"], "'vgg'"),
        (["--seeds", "0"], "--seeds"),
        (["--workers", "0"], "--workers"),
        (["--workers", "2", "--scheduler", "tcp://a:1"], "--workers"),
        (["lenet_l2", "--limit", "5"], "limit"),
        (["lenet_l2", "--val-size", "700"], "700"),
        (["dummy", "--weights", "imagenet"], "--weights"),
    ],
)
def test_an_invalid_option_is_rejected_with_one_line(synthetic_dataset, capsys, options, expected):
    with pytest.raises(SystemExit) as caught:
        compare_models.main(options)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and expected in message
