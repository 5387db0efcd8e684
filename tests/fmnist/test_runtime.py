import os
import subprocess
import sys

import keras
import pytest

from fmnist import cli, runtime
from tests import ROOT

CONFIGURE = (
    "import fmnist.runtime as runtime\nfor _ in range(2): runtime.configure_tensorflow(0, 2)\n"
)
THREADS = "print('threads', tf.config.threading.get_inter_op_parallelism_threads())\n"


def in_a_notebook(code, **environment):
    """Run code where TensorFlow is imported first, as in a notebook; return what is printed."""
    unset = {"TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", f"import tensorflow as tf\n{code}"],
        cwd=ROOT,
        env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "RuntimeWarning" in line]


@pytest.mark.slow
def test_what_can_still_be_set_is_set_and_one_warning_names_the_rest():
    """Threads can be set until TensorFlow has computed something; oneDNN cannot."""
    printed, warnings = in_a_notebook(CONFIGURE + THREADS + "tf.constant(1) + 1\n" + CONFIGURE)
    assert printed == f"threads {min(2, runtime.available_cores())}\n"
    assert len(warnings) == 1 and "oneDNN" in warnings[0] and "threads" not in warnings[0]


def test_one_warning_names_what_is_too_late():
    _, warnings = in_a_notebook("tf.constant(1) + 1\n" + CONFIGURE)
    assert len(warnings) == 1 and "oneDNN" in warnings[0] and "threads" in warnings[0]


def test_what_the_user_has_set_is_kept_without_a_warning():
    chosen = {
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    code = (
        "tf.constant(1) + 1\n" + CONFIGURE + "import os\nprint(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    )
    assert in_a_notebook(code, **chosen) == ("0\n", [])


def test_another_backend_is_named(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(cli.UserError, match="Keras runs on jax"):
        runtime.configure_tensorflow()


@pytest.mark.parametrize(
    ("cores", "concurrent", "expected"), [(8, 2, ("2", "4")), (1, 2, ("1", "1"))]
)
def test_operations_share_the_cores(cores, concurrent, expected):
    assert tuple(runtime.thread_counts(cores, concurrent).values()) == expected
