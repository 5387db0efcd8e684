import gc
import math
import os
import subprocess
import sys
import threading
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


@pytest.mark.parametrize(
    "flags, kind",
    [
        ("avx2 avx512f avx512_bf16", "bfloat16"),
        ("avx2 avx512f amx_bf16", "bfloat16"),
        ("avx2 avx512f", "avx512"),
        ("avx avx2", "avx2"),
        ("avx", "other"),
        (None, "other"),
    ],
)
def test_the_kind_of_the_processor(flags, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "CPU_INFO", tmp_path / "cpuinfo")
    if flags:
        runtime.CPU_INFO.write_text(f"flags\t\t: {flags}\n")
    assert runtime.processor_kind() == kind


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


def control_groups(root, cgroup, **files):
    """Create the files of control groups below a folder that stands for the root folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("--", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V1 = "7:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"
QUOTAS = {
    "version 2 in a container": ("0::/\n", {"cpu--max": "150000 100000\n"}, 1.5),
    "version 2 without a quota": ("0::/\n", {"cpu--max": "max 100000\n"}, math.inf),
    "version 2, quota of a parent": (
        "0::/a/b\n",
        {"a__b__cpu--max": "max 100000", "a__cpu--max": "200000 100000"},
        2,
    ),
    "version 2, path of the host": ("0::/../../x\n", {"cpu--max": "50000 100000\n"}, 0.5),
    "version 1 in a container": (
        V1,
        {"cpu__cpu--cfs_quota_us": "300000\n", "cpu__cpu--cfs_period_us": "100000\n"},
        3,
    ),
    "version 1 on the host": (
        V1,
        {
            "cpu__cpu--cfs_quota_us": "-1\n",
            "cpu__cpu--cfs_period_us": "100000\n",
            "cpu__docker__abc__cpu--cfs_quota_us": "250000\n",
            "cpu__docker__abc__cpu--cfs_period_us": "50000\n",
        },
        5,
    ),
    "version 1 without a quota": (
        V1,
        {"cpu__cpu--cfs_quota_us": "-1", "cpu__cpu--cfs_period_us": "100000"},
        math.inf,
    ),
    "invalid": ("0::/\n", {"cpu--max": "some cores"}, math.inf),
    "no control groups": ("", {}, math.inf),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_the_cpu_quota_of_a_container_is_read(case, tmp_path):
    cgroup, files, quota = QUOTAS[case]
    assert runtime.cpu_quota(control_groups(tmp_path, cgroup, **files)) == quota


def test_without_linux_there_is_no_cpu_quota(tmp_path):
    assert runtime.cpu_quota(tmp_path) == math.inf


@pytest.mark.parametrize("quota, cores", [(0.5, 1), (1.5, 2), (2, 2), (99, 4), (math.inf, 4)])
def test_the_quota_limits_the_cores_and_the_threads(quota, cores, monkeypatch, environment):
    monkeypatch.setattr(runtime, "affinity", lambda: 4)
    monkeypatch.setattr(runtime, "cpu_quota", lambda: quota)
    assert runtime.available_cores() == cores
    environment(None)
    with warnings.catch_warnings(action="ignore"):
        runtime.configure_tensorflow()
    threads = [os.environ.get(name) for name in SETTINGS[1:]]
    assert threads == ([str(cores)] * 2 if cores < 4 else [None, None])


def test_commands_run_outside_the_main_thread(capsys):
    codes = []

    def work():
        codes.append(cli.exit_code("command", lambda: print("done")))

    def fail():
        raise cli.UserError("reason")

    for target in (work, lambda: codes.append(cli.exit_code("command", fail))):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert codes == [0, 1]
    assert capsys.readouterr() == ("done\n", "command: reason\n")


def test_garbage_collection_ignores_the_objects_of_tensorflow(monkeypatch):
    assert gc.isenabled() and gc.get_freeze_count() > 100_000  # conftest.py has configured it
    ignored = gc.get_freeze_count()
    with runtime._without_garbage_collection():
        assert not gc.isenabled()
    # The objects of a notebook that has imported TensorFlow itself are still collected.
    assert gc.isenabled() and gc.get_freeze_count() <= ignored
    monkeypatch.delitem(sys.modules, "tensorflow")
    with runtime._without_garbage_collection():
        pass
    assert gc.get_freeze_count() > ignored


def test_garbage_collection_stays_disabled_if_the_user_has_disabled_it():
    gc.disable()
    try:
        with runtime._without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
