import errno
import fcntl
import os
import shutil
import subprocess
import sys

import pytest

from fmnist import runs
from model import build_model
from tests import ROOT

ROW = dict.fromkeys(runs.HISTORY, 1.0)


def epochs(*val_losses):
    return [{**ROW, "epoch": number, "val_loss": loss} for number, loss in enumerate(val_losses, 1)]


def make_run(folder, name, finished=True):
    run = runs.create(folder, name, {"model": "dropout_cnn"})
    if finished:
        (run / runs.MODEL).write_bytes(b"weights")
        runs.finish(run)
    return run


def test_an_existing_run_is_never_overwritten(tmp_path):
    run = make_run(tmp_path, "mine")
    with pytest.raises(runs.RunError, match="mine exists already"):
        make_run(tmp_path, "mine")
    assert (run / runs.MODEL).read_bytes() == b"weights"


def test_runs_without_a_given_name_get_distinct_names(tmp_path):
    created = {make_run(tmp_path, None) for _ in range(5)}
    assert len(created) == 5 and all(run.name.split("-")[2] == "dropout_cnn" for run in created)


def test_the_newest_finished_run_is_found_by_its_creation_time(tmp_path):
    make_run(tmp_path, "z-first")
    newest = make_run(tmp_path, "a-second")
    make_run(tmp_path, "m-unfinished", finished=False)
    (make_run(tmp_path, "corrupt") / runs.CONFIG).write_text('{"created": ')
    (make_run(tmp_path, "undated") / runs.CONFIG).write_text("{}")
    (make_run(tmp_path, "no-time-zone") / runs.CONFIG).write_text('{"created": "2001-01-01"}')
    (tmp_path / "other file").touch()
    assert runs.newest(tmp_path) == newest


def test_a_run_that_diverged_or_is_being_trained_is_not_resumed(tmp_path):
    interrupted = make_run(tmp_path, "interrupted", finished=False)
    runs.save_epoch(interrupted, epochs(1.0))
    runs.save_epoch(make_run(tmp_path, "diverged", finished=False), epochs(1.0, float("nan")))
    with runs.lock(make_run(tmp_path, "locked", finished=False)):
        make_run(tmp_path, "finished")
        assert runs.newest(tmp_path, finished=False) == interrupted
    assert runs.newest(tmp_path, finished=False).name == "locked"


def test_without_a_finished_run_the_error_names_the_training_command(tmp_path):
    make_run(tmp_path, "unfinished", finished=False)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(runs.RunError, match="python train_cnn.py"):
            runs.newest(folder)


def test_the_config_contains_the_package_versions(tmp_path):
    config = runs.load_config(make_run(tmp_path, "mine"))
    assert config["model"] == "dropout_cnn"
    assert set(config["versions"]) == set(runs.PACKAGES)


def test_a_loaded_history_equals_the_saved_one(tmp_path):
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
def test_the_chosen_epoch_is_the_best_with_patience_and_else_the_last(val_losses, patience, epoch):
    assert runs.chosen_epoch(patience, epochs(*val_losses))["epoch"] == epoch


def test_no_epoch_is_chosen_if_no_validation_loss_is_finite():
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
def test_a_corrupt_history_is_rejected(tmp_path, text):
    (tmp_path / runs.HISTORY_FILE).write_text(text)
    with pytest.raises(runs.RunError, match="history.csv is corrupt"):
        runs.load_history(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\0\0"])
def test_a_corrupt_config_is_rejected(tmp_path, text):
    (tmp_path / runs.CONFIG).write_text(text)
    with pytest.raises(runs.RunError, match="config.json is corrupt"):
        runs.load_config(tmp_path)


@pytest.mark.parametrize("size", [0, 100, 20000])
def test_a_truncated_model_is_rejected(tmp_path, size):
    build_model("dropout_cnn").save(tmp_path / runs.MODEL)
    path = tmp_path / runs.MODEL
    assert runs.load_model(tmp_path).count_params() == 225_034
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(runs.RunError, match="model.keras is corrupt") as caught:
        runs.load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_with_weights_is_not_discarded(tmp_path):
    run = make_run(tmp_path, "mine")
    runs.discard(run)
    assert (run / runs.MODEL).exists()


def test_only_one_process_can_create_a_run_of_a_given_name(tmp_path):
    code = (
        "import sys\nfrom fmnist import runs\n"
        "for number in range(30):\n"
        "    try: print(runs.create(sys.argv[1], f'run-{number}', {}).name)\n"
        "    except runs.RunError as error: assert 'exists already' in str(error)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    created = [name for process in processes for name in process.communicate()[0].split()]
    assert sorted(created) == sorted(f"run-{number}" for number in range(30))
    assert all(process.returncode == 0 for process in processes)
    assert {path.name for path in tmp_path.iterdir()} == {*created}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF])
def test_without_locks_a_run_is_trained_with_one_warning(number, tmp_path, monkeypatch, capsys):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    run = make_run(tmp_path, "mine", finished=False)
    for _ in range(2):
        with runs.lock(run):
            assert runs.newest(tmp_path, finished=False) == run
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.startswith(f"warning: runs in {tmp_path}")


def git(folder, *arguments):
    options = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *options, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def copied_project(tmp_path, monkeypatch):
    """A copy of the project in a folder, whose commit is that of runs.commit()."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    project = tmp_path / "project"
    (project / "fmnist").mkdir(parents=True)
    (project / "fmnist/runs.py").touch()
    monkeypatch.setattr(runs, "__file__", str(project / "fmnist/runs.py"))
    return project


def test_a_commit_is_recorded_only_for_the_repository_of_the_project(
    copied_project, tmp_path, monkeypatch
):
    assert runs.commit() is None
    git(tmp_path, "init", "other")
    git(tmp_path / "other", "commit", "--allow-empty", "-m", "of another project")
    copied_project.rename(tmp_path / "other/project")
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "other/project/fmnist/runs.py"))
    assert runs.commit() is None
    git(tmp_path / "other/project", "init", ".")
    assert runs.commit() is None  # no commit yet
    git(tmp_path / "other/project", "add", "fmnist")
    git(tmp_path / "other/project", "commit", "-m", "of this project")
    own = runs.commit()
    assert len(own) == 40
    (tmp_path / "other/project/fmnist/runs.py").write_text("# changed")
    assert runs.commit() == own + "+"
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert runs.commit() == own + "+"


def test_without_git_no_commit_is_recorded(copied_project, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert runs.commit() is None
