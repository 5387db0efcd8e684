"""compare_models.py on small made data, here and on a cluster of processes."""

import csv
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
from fmnist import runs
from fmnist.config import TrainConfig
from tests import ROOT
from tools import compare_models
from tools.comparison import baselines, comparison, figures
from tools.comparison.contestants import BASELINE_NAMES, CONTESTANTS, GROUPS

SMALL = ["--val-size", "100", "--epochs", "2"]
PATIENCE_SECONDS = 120  # of a test for what it waits for, which comes within a few seconds


@pytest.fixture
def compare(made_data, no_figures, tmp_path, capsys):
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
def test_networks_and_baselines_are_trained_once_and_compared(compare, tmp_path, monkeypatch):
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
    assert float(rows["dummy"]["behind_high"]) < -0.5  # guesses against whatever is first
    best = max(rows, key=lambda name: float(rows[name]["val_accuracy"]))
    assert (
        f"The most accurate on validation images is {best}" in first and rows[best]["behind"] == ""
    )

    page = (out / "report.html").read_text()
    for name in ("accuracy_against_cost", "classes", "gaps", "confusion_difference"):
        assert (out / f"figures/{name}.png").stat().st_size > 3000
        assert f'alt="{name}"' in page

    monkeypatch.setattr(train_cnn, "train", None)
    monkeypatch.setattr(baselines, "BASELINES", None)
    before = (out / "comparison.md").read_text()
    (out / "figures/depth.png").write_bytes(b"of an earlier comparison, of others")
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
def test_a_training_that_was_broken_off_goes_on(
    compare, no_comparison_figures, tmp_path, interrupted_after_an_epoch
):
    compare("lenet_l2", "--seeds", "1")
    history = runs.load_history(tmp_path / "out/lenet_l2-0")
    shutil.rmtree(tmp_path / "out")
    with interrupted_after_an_epoch():
        assert "The same command goes on" in compare("lenet_l2", "--seeds", "1", code=130)
    assert len(runs.load_history(tmp_path / "out/lenet_l2-0")) == 1
    compare("lenet_l2", "--seeds", "1")
    resumed = runs.load_history(tmp_path / "out/lenet_l2-0")
    assert [row["val_loss"] for row in resumed] == [row["val_loss"] for row in history]


@pytest.mark.slow
def test_results_of_other_options_and_broken_ones_are_refused_and_kept(
    compare, no_comparison_figures, tmp_path
):
    compare("dummy", "lenet_l2", "--seeds", "1")
    kept = (tmp_path / "out/lenet_l2-0/model.keras").read_bytes()
    errors = compare("dummy", "lenet_l2", "--seeds", "1", "--epochs", "3", code=1)
    assert (
        "1 failed: lenet_l2, seed 0" in errors
        and "made with other options" in errors
        and errors.count("\n") == 1
    )
    for text in ("{", "{}", "[]"):
        (tmp_path / "out/dummy-0/result.json").write_text(text)
        errors = compare("dummy", "lenet_l2", "--seeds", "1", code=1)
        assert "dummy-0/result.json is broken" in errors and errors.count("\n") == 1
    result = tmp_path / "out/lenet_l2-0/result.json"
    whole = json.loads(result.read_text())
    for spoilt in (
        {**whole, "seconds": "5"},
        {**whole, "parameters": 0.5},
        {
            **whole,
            "settings": {key: value for key, value in whole["settings"].items() if key != "seed"},
        },
    ):
        result.write_text(json.dumps(spoilt))
        errors = compare("lenet_l2", "--seeds", "1", code=1)
        assert "lenet_l2-0/result.json is broken" in errors and errors.count("\n") == 1
    result.write_text(json.dumps({**whole, "predicted": "123"}))
    errors = compare("lenet_l2", "--seeds", "1", code=1)
    assert "does not hold a class for every test image" in errors and errors.count("\n") == 1
    result.unlink()
    compare("lenet_l2", "--seeds", "1")
    (tmp_path / "out/gap_cnn-0").mkdir()  # of something else
    errors = compare("gap_cnn", "lenet_l2", "--seeds", "1", code=1)
    assert "gap_cnn-0 is not a run directory" in errors and errors.count("\n") == 1
    assert (tmp_path / "out/lenet_l2-0/model.keras").read_bytes() == kept


def test_every_contestant_can_be_trained():
    for settings in CONTESTANTS.values():
        TrainConfig(**(settings or {}))
    assert BASELINE_NAMES == tuple(baselines.BASELINES)
    assert len(CONTESTANTS) == sum(map(len, GROUPS.values()))


@pytest.mark.slow
@pytest.mark.cluster
def test_workers_of_this_machine_share_its_cores(compare, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(comparison.runtime, "available_cores", lambda: 8)
    assert set(comparison.share_of_cores(2).values()) == {"4", "2"}
    for name in comparison.share_of_cores(2):
        monkeypatch.setenv(name, "8")  # to be put back
    monkeypatch.setattr(comparison, "attempt", worker_environment)
    compare("dummy", "--seeds", "2", "--workers", "2", code=1)
    for seed in (0, 1):
        environment = json.loads((tmp_path / f"out/dummy-{seed}.json").read_text())
        assert environment.items() >= comparison.share_of_cores(2).items()


def worker_environment(name, config):
    """In the place of attempt(): leave what the worker's process was told."""
    Path(config.runs_dir).mkdir(exist_ok=True)
    (Path(config.runs_dir) / f"{config.name}.json").write_text(json.dumps(dict(os.environ)))
    return "done"


# Of a machine on which the project is not installed, though it may be on this one.
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
    """The scheduler file of a Dask cluster: a scheduler and two workers, each a process of its own.

    With False for a parameter, they do not find this project.
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
    found = getattr(request, "param", True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT if found else hidden)}
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
def test_a_cluster_whose_workers_are_killed_makes_the_same_table(
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
        client.wait_for_workers(2, timeout=PATIENCE_SECONDS)
        sweep = subprocess.Popen(
            [*command, client.scheduler.address],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        workers = client.run(os.getpid).values()
        end = time.monotonic() + PATIENCE_SECONDS
        while not (begun := list((tmp_path / "cluster").glob("lenet_l2-*/checkpoint/state.npz"))):
            assert time.monotonic() < end
            time.sleep(0.02)
        for process in workers:  # what was begun is in one of them
            os.kill(process, signal.SIGKILL)
        output, _ = sweep.communicate(timeout=PATIENCE_SECONDS)
    assert sweep.returncode == 0 and "[4/4]" in output, output
    assert (
        "epochs were done before"
        in (tmp_path / f"cluster/logs/{begun[0].parent.parent.name}.log").read_text()
    )

    # Here, with as many threads as a worker.
    assert compare_models.main([*options, "--output-dir", str(tmp_path / "here")]) == 0
    rows, others = table(tmp_path / "here"), table(tmp_path / "cluster")
    assert rows["lenet_l2"]["n"] == rows["dummy"]["n"] == "2"
    for name, row in rows.items():
        for key, value in row.items():
            assert key.startswith(("seconds", "latency")) or others[name][key] == value


@pytest.mark.cluster
@pytest.mark.parametrize("cluster", [False], indirect=True)
def test_a_cluster_that_does_not_find_this_project_is_told_how_to(compare, cluster):
    from distributed import Client

    with Client(scheduler_file=str(cluster)) as client:
        address = client.scheduler.address
    message = compare("dummy", "--scheduler", address, code=1)
    assert f"PYTHONPATH={ROOT}" in message and message.count("\n") == 1


def test_a_scheduler_that_does_not_answer_is_named(compare, monkeypatch):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(comparison, "ANSWER_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense"):
        message = compare("dummy", "--scheduler", address, code=1)
        assert f"no Dask scheduler answers at {address}" in message and message.count("\n") == 1


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["resnet"], "'resnet'"),
        (["--seeds", "0"], "--seeds"),
        (["--workers", "0"], "--workers"),
        (["--workers", "2", "--scheduler", "tcp://a:1"], "--workers"),
        (["lenet_l2", "--limit", "5"], "limit"),
        (["lenet_l2", "--val-size", "700"], "700"),
        (["dummy", "--weights", "imagenet"], "--weights"),
    ],
)
def test_a_wrong_option_is_refused_with_one_line(made_data, capsys, options, complaint):
    with pytest.raises(SystemExit) as caught:
        compare_models.main(options)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and complaint in message
