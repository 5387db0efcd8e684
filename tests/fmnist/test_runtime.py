import os
import subprocess
import sys
import warnings

import keras
import pytest
import tensorflow as tf

from fmnist import cli, runtime
from tests import ROOT

SETTINGS = ("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS")
CONFIGURE = (
    "import fmnist.runtime as runtime\nfor _ in range(2): runtime.configure_tensorflow(0, 2)\n"
)
THREADS = "print('threads', tf.config.threading.get_inter_op_parallelism_threads())\n"


def in_a_notebook(code, **environment):
    """Run code where TensorFlow is imported first, as in a notebook; return what is printed."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
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
def test_threads_are_set_in_a_tensorflow_that_has_computed_nothing():
    printed, warned = in_a_notebook(CONFIGURE + THREADS)
    assert printed == f"threads {min(2, runtime.available_cores())}\n"
    assert len(warned) == 1 and "oneDNN" in warned[0] and "threads" not in warned[0]


@pytest.fixture
def environment(monkeypatch):
    """Return a function that changes the environment; TensorFlow has computed something here."""
    assert tf.constant(1) + 1 == 2
    runtime._warn_once.cache_clear()

    def change(value):
        for name in SETTINGS:
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)

    yield change
    runtime._warn_once.cache_clear()


def test_one_warning_names_what_is_too_late(environment):
    with pytest.warns(RuntimeWarning) as caught:
        for _ in range(2):
            environment(None)
            runtime.configure_tensorflow(concurrent_operations=2)
    assert len(caught) == 1
    assert "oneDNN" in str(caught[0].message) and "threads" in str(caught[0].message)


def test_what_the_user_has_set_is_kept_without_a_warning(environment):
    environment("1")
    with warnings.catch_warnings(action="error"):
        runtime.configure_tensorflow(concurrent_operations=2)
    assert [os.environ[name] for name in SETTINGS] == ["1", "1", "1"]


def test_another_backend_is_named(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(cli.UserError, match="Keras runs on jax"):
        runtime.configure_tensorflow()


@pytest.mark.parametrize(
    ("cores", "concurrent", "expected"), [(8, 2, ("2", "4")), (1, 2, ("1", "1"))]
)
def test_operations_share_the_cores(cores, concurrent, expected):
    assert tuple(runtime.thread_counts(cores, concurrent).values()) == expected
