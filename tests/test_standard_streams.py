"""All commands with standard streams that are closed, replaced, or cannot be written."""

import contextlib
import json
import os
import subprocess
import sys
import threading

import pytest

import train_cnn
from fmnist import runs
from fmnist.config import TrainConfig
from tests import ROOT

CLOSE = {"0": "<&-", "1": ">&-", "2": "2>&-"}
CLOSED = ["0", "1", "2", "12", "012"]
# Commands in a process of their own, on synthetic data. Their exit codes go to a file.
COMMANDS = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
from fmnist import runs, source
from tests import synthetic_data
import train_cnn, evaluate_model
from tools import compare_models, explore_data, predict_image
source.FILES = synthetic_data.write_dataset(folder / "data", synthetic_data.make_arrays())
run, data = str(folder / "runs/run"), ["--data-dir", str(folder / "data")]
train = ["--val-size", "100", "--epochs", "1", "--name", "run", "--runs-dir", str(folder / "runs")]
small = ["--seeds", "1", *data, "--val-size", "100"]
codes = [
    train_cnn.main([*train, *data]),
    train_cnn.main(["--resume", str(folder / "missing")]),
    evaluate_model.main([run]),
    predict_image.main(["docs/page.png", "--run", run, "--figure", "--output-dir", run]),
    compare_models.main(["dummy", *small, "--output-dir", str(folder / "comparison")]),
    explore_data.main([*small[2:], "--output-dir", str(folder / "exploration")]),
]
(folder / "codes").write_text(json.dumps(codes))
"""


def run_with_closed(streams, *arguments, **options):
    """Run Python with closed standard streams: 0 is input, 1 is output, 2 is error."""
    redirections = " ".join(CLOSE[stream] for stream in streams)
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_commands_work_with_closed_streams(tmp_path):
    # Also with a Matplotlib backend that does not exist, which a notebook may pass to commands.
    environment = {**os.environ, "MPLBACKEND": "unknown"}
    run_with_closed("012", "-c", COMMANDS, str(tmp_path), env=environment)
    assert json.loads((tmp_path / "codes").read_text()) == [0, 1, 0, 0, 0, 0]
    run = tmp_path / "runs/run"
    assert runs.is_finished(run) and len(runs.load_history(run)) == 1
    assert runs.load_model(run).count_params() > 0  # no message was written into the file


@pytest.mark.parametrize("streams", CLOSED)
@pytest.mark.parametrize("command", ["train_cnn.py --help", "evaluate_model.py missing"])
def test_help_and_errors_work_with_closed_streams(command, streams):
    done = run_with_closed(streams, *command.split())
    assert done.returncode == (0 if "help" in command else 1)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("streams", CLOSED)
def test_no_other_file_gets_the_descriptor_of_a_standard_stream(streams, tmp_path):
    code = (
        "import os, sys\nfrom fmnist import cli\ncli.open_standard_streams()\n"
        "print('text')\nprint('text', file=sys.stderr)\n"
        "with open(sys.argv[1], 'w') as file: file.write(str(file.fileno()))\n"
    )
    run_with_closed(streams, "-c", code, str(tmp_path / "file"), check=True)
    assert int((tmp_path / "file").read_text()) > 2


PRINT = "import sys\nfrom fmnist import cli\nsys.exit(cli.exit_code('it', lambda: print('x')))\n"


def print_to(stdout):
    """Run PRINT and return its exit code and its error message."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_to_a_full_disk_is_an_error_of_one_line():
    with open("/dev/full", "w") as full:
        assert print_to(full) == (1, "it: No space left on device\n")


def test_output_to_a_closed_pipe_is_an_error_of_one_line():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert print_to(writer) == (1, "it: Broken pipe\n")
    finally:
        os.close(writer)


class Writer:
    """A replacement of standard output with the least that print() needs, and flush for Keras."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("stdout", [Writer(), None], ids=["replaced", "none"])
def test_training_from_python_works_with_another_standard_output(
    stdout, synthetic_dataset, tmp_path
):
    config = TrainConfig(val_size=100, epochs=1, runs_dir=str(tmp_path))
    with contextlib.redirect_stdout(stdout):
        run = train_cnn.train(config)
    assert runs.is_finished(run)
    assert stdout is None or str(run) in stdout.text


@pytest.mark.slow
def test_commands_run_in_another_thread(synthetic_dataset, tmp_path):
    options = ["--val-size", "100", "--epochs", "1", "--runs-dir", str(tmp_path), "--name", "run"]
    codes = []
    thread = threading.Thread(target=lambda: codes.append(train_cnn.main(options)))
    thread.start()
    thread.join()
    assert codes == [0] and runs.is_finished(tmp_path / "run")
