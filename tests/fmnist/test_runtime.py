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


def run_after_importing_tensorflow(code, **environment):
    """Run code in a process that imports TensorFlow first, as a notebook may do.

    Return its standard output and its warnings.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", f"import tensorflow as tf\n{code}"],
        cwd=ROOT,
        env={**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "RuntimeWarning" in line]


@pytest.mark.slow
def test_threads_can_be_configured_until_tensorflow_runs_an_operation():
    output, messages = run_after_importing_tensorflow(CONFIGURE + THREADS)
    assert output == f"threads {min(2, runtime.available_cores())}\n"
    assert len(messages) == 1 and "oneDNN" in messages[0] and "threads" not in messages[0]


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets the variables SETTINGS; None removes them."""
    assert tf.constant(1) + 1 == 2  # TensorFlow has run an operation
    runtime._warn_once.cache_clear()

    def change(value):
        for name in SETTINGS:
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)

    yield change
    runtime._warn_once.cache_clear()


def test_one_warning_names_all_settings_that_cannot_be_changed(environment):
    with pytest.warns(RuntimeWarning) as caught:
        for _ in range(2):
            environment(None)
            runtime.configure_tensorflow(concurrent_operations=2)
    assert len(caught) == 1
    assert "oneDNN" in str(caught[0].message) and "threads" in str(caught[0].message)


def test_environment_variables_of_the_user_take_precedence_without_a_warning(environment):
    environment("1")
    with warnings.catch_warnings(action="error"):
        runtime.configure_tensorflow(concurrent_operations=2)
    assert [os.environ[name] for name in SETTINGS] == ["1", "1", "1"]


def test_another_backend_is_rejected(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(cli.UserError, match="Keras runs on jax"):
        runtime.configure_tensorflow()


@pytest.mark.parametrize(
    ("cores", "concurrent", "expected"), [(8, 2, ("2", "4")), (1, 2, ("1", "1"))]
)
def test_concurrent_operations_divide_the_cores(cores, concurrent, expected):
    assert tuple(runtime.thread_counts(cores, concurrent).values()) == expected


@pytest.mark.parametrize("requirement", ["keras>=99", "numpy<1", "tensorflow>=2,!=2.*"])
def test_an_installed_version_that_does_not_meet_the_requirements_is_rejected(
    requirement, tmp_path, monkeypatch
):
    monkeypatch.setattr(runtime, "REQUIREMENTS", tmp_path / "requirements.txt")
    runtime.REQUIREMENTS.write_text(f"scipy\nnot-installed-anywhere>=3\n{requirement}\n")
    with pytest.raises(cli.UserError, match="is installed, but .*requirements.txt") as caught:
        runtime.configure_tensorflow()
    assert "\n" not in str(caught.value)


def test_the_installed_packages_meet_the_requirements():
    assert runtime.REQUIREMENTS.exists()
    runtime.check_versions()
