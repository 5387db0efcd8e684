import subprocess
import sys

import pytest

from fmnist import runs
from model import build_model
from tests import ROOT

ROW = dict.fromkeys(runs.HISTORY, 1.0)


def epochs(*val_losses):
    return [{**ROW, "epoch": number, "val_loss": loss} for number, loss in enumerate(val_losses, 1)]


def make(folder, name, finished=True):
    run = runs.create(folder, name, {"model": "dropout_cnn"})
    if finished:
        (run / runs.MODEL).write_bytes(b"weights")
        runs.finish(run)
    return run


def test_a_run_is_never_overwritten(tmp_path):
    run = make(tmp_path, "mine")
    with pytest.raises(runs.RunError, match="mine is there already"):
        make(tmp_path, "mine")
    assert (run / runs.MODEL).read_bytes() == b"weights"


def test_runs_without_a_name_never_meet(tmp_path):
    made = {make(tmp_path, None) for _ in range(5)}
    assert len(made) == 5 and all(run.name.split("-")[2] == "dropout_cnn" for run in made)


def test_the_newest_finished_run_is_found_whatever_its_name(tmp_path):
    make(tmp_path, "z-first")
    newest = make(tmp_path, "a-second")
    make(tmp_path, "m-unfinished", finished=False)
    (make(tmp_path, "broken") / runs.CONFIG).write_text('{"created": ')
    (make(tmp_path, "undated") / runs.CONFIG).write_text("{}")
    (make(tmp_path, "no-time-zone") / runs.CONFIG).write_text('{"created": "2001-01-01"}')
    (tmp_path / "stray file").touch()
    assert runs.newest(tmp_path) == newest


def test_the_newest_run_that_was_broken_off_is_neither_trained_elsewhere_nor_without_hope(tmp_path):
    broken_off = make(tmp_path, "broken-off", finished=False)
    runs.save_epoch(broken_off, epochs(1.0))
    runs.save_epoch(make(tmp_path, "diverged", finished=False), epochs(1.0, float("nan")))
    with runs.lock(make(tmp_path, "trained-elsewhere", finished=False)):
        make(tmp_path, "finished")
        assert runs.newest(tmp_path, finished=False) == broken_off
    assert runs.newest(tmp_path, finished=False).name == "trained-elsewhere"


def test_no_run_at_all(tmp_path):
    make(tmp_path, "unfinished", finished=False)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(runs.RunError, match="python train_cnn.py"):
            runs.newest(folder)


def test_the_config_tells_what_the_run_ran_on(tmp_path):
    config = runs.load_config(make(tmp_path, "mine"))
    assert config["model"] == "dropout_cnn"
    assert set(config["versions"]) == set(runs.PACKAGES)


def test_history_comes_back_as_it_was(tmp_path):
    history = epochs(0.5, 0.25)
    runs.save_epoch(tmp_path, history)
    assert runs.load_history(tmp_path) == history
    assert (
        (tmp_path / runs.HISTORY_FILE)
        .read_text()
        .startswith("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n1,")
    )


@pytest.mark.parametrize(
    "val_losses, patience, epoch",
    [
        ((3, 1, 2), 5, 2),
        ((3, 1, 2), 0, 3),
        ((2, 1, 1), 5, 2),
        ((2, float("nan"), 3), 5, 1),
    ],
)
def test_the_chosen_epoch(val_losses, patience, epoch):
    assert runs.chosen_epoch(patience, epochs(*val_losses))["epoch"] == epoch


def test_no_epoch_is_chosen_of_a_history_without_a_number():
    assert runs.chosen_epoch(5, epochs(float("nan"), float("inf"))) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch,loss\n1,2\n",
        ",".join(runs.HISTORY) + "\n",
        ",".join(runs.HISTORY) + "\n1,2,3\n",
        ",".join(runs.HISTORY) + "\n1,x,1,1,1,1,1\n",
    ],
)
def test_a_broken_history_is_named(tmp_path, text):
    (tmp_path / runs.HISTORY_FILE).write_text(text)
    with pytest.raises(runs.RunError, match="history.csv is broken"):
        runs.load_history(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\0\0"])
def test_a_broken_config_is_named(tmp_path, text):
    (tmp_path / runs.CONFIG).write_text(text)
    with pytest.raises(runs.RunError, match="config.json"):
        runs.load_config(tmp_path)


@pytest.mark.parametrize("size", [0, 100, 20000])
def test_a_model_that_is_cut_off_is_named(tmp_path, size):
    build_model("dropout_cnn").save(tmp_path / runs.MODEL)
    path = tmp_path / runs.MODEL
    assert runs.load_model(tmp_path).count_params() == 225_034
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(runs.RunError, match="model.keras is broken") as caught:
        runs.load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_that_has_weights_is_not_discarded(tmp_path):
    run = make(tmp_path, "mine")
    runs.discard(run)
    assert (run / runs.MODEL).exists()


def test_of_two_processes_that_want_a_name_one_gets_it(tmp_path):
    code = (
        "import sys\nfrom fmnist import runs\n"
        "for number in range(30):\n"
        "    try: print(runs.create(sys.argv[1], f'run-{number}', {}).name)\n"
        "    except runs.RunError as error: assert 'is there already' in str(error)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    made = [name for process in processes for name in process.communicate()[0].split()]
    assert sorted(made) == sorted(f"run-{number}" for number in range(30))
    assert all(process.returncode == 0 for process in processes)
    assert {path.name for path in tmp_path.iterdir()} == {*made}
