"""Settings of TensorFlow: fast on a CPU, few messages, and deterministic with a seed."""

import contextlib
import functools
import gc
import math
import os
import platform
import re
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from fmnist import cli

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # of processors that compute with bfloat16
REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"


def configure_tensorflow(seed: int | None = None, concurrent_operations: int | None = None) -> None:
    """Configure and import TensorFlow and Keras.

    Environment variables that the user has set take precedence. If TensorFlow has been imported
    before, for example in a notebook, some settings can no longer be changed; a warning names them.

    Args:
        seed: random seed of Python, NumPy and TensorFlow, which also turns on deterministic
            operations; None leaves both unchanged.
        concurrent_operations: number of operations that run at the same time, each on an equal part
            of the cores; None for the default of TensorFlow.

    Raises:
        UserError: a package is too old, or Keras does not start, or it uses another backend.
    """
    check_versions()
    import_matplotlib()
    was_imported = "tensorflow" in sys.modules
    too_late = []
    # On CPUs without AVX-512, TensorFlow does not use oneDNN by default, although training is up to
    # twice as fast with it.
    if was_imported and "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
        too_late.append("oneDNN")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    threads = {}
    # By itself, TensorFlow does not observe the CPU quota of a container.
    if concurrent_operations or available_cores() < affinity():
        threads = thread_counts(available_cores(), concurrent_operations)
    to_set = {name: count for name, count in threads.items() if name not in os.environ}
    os.environ.update(to_set)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    keras, tf = _import_quietly()
    if was_imported and to_set:
        try:
            tf.config.threading.set_inter_op_parallelism_threads(
                int(threads["TF_NUM_INTEROP_THREADS"])
            )
            tf.config.threading.set_intra_op_parallelism_threads(
                int(threads["TF_NUM_INTRAOP_THREADS"])
            )
        except RuntimeError:  # TensorFlow has already run an operation
            too_late.append("its threads")
    if too_late:
        _warn_once(
            "TensorFlow was imported before this project could configure "
            f"{' and '.join(too_late)}; training may be slower. Restart Python and call this "
            "project first."
        )
    if keras.config.backend() != "tensorflow":
        raise cli.UserError(
            f"Keras runs on {keras.config.backend()}; restart Python with KERAS_BACKEND=tensorflow"
        )
    # A keras.json of the user may set other values.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    if seed is not None:
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()


def check_versions() -> None:
    """Raise UserError if the version of an installed package does not meet requirements.txt."""
    if not REQUIREMENTS.exists():  # installed with pip, which has checked the versions
        return
    from packaging.requirements import Requirement

    for line in REQUIREMENTS.read_text().splitlines():
        required = Requirement(line)
        # A package may be installed under another name, such as tensorflow-cpu.
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = metadata.version(required.name)
            if not required.specifier.contains(version, prereleases=True):
                raise cli.UserError(
                    f"{required.name} {version} is installed, but {required} is required; "
                    f"run: {cli.INSTALL_CORE}"
                )


def import_matplotlib() -> None:
    """Import Matplotlib if MPLBACKEND is set: it may name a backend that is not installed.

    A notebook, for example, passes the name of its backend to the commands that it runs, and they
    may use another Python. No figure needs a backend. An unknown name is removed from the
    environment, because child processes could not import Matplotlib either.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    if backend is None:
        return
    import matplotlib

    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
        os.environ["MPLBACKEND"] = backend


def available_cores() -> int:
    """Return the number of cores that this process may use: its affinity, and its CPU quota."""
    return math.ceil(min(affinity(), cpu_quota()))


def affinity() -> int:
    """Return the number of cores on which this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float:
    """Return the CPU quota of this process in cores; infinite without a quota.

    The quota is the lowest one of its control group and the groups above it. Linux kernel
    documentation, cgroup v2 (`cpu.max`) and CFS bandwidth control (`cpu.cfs_quota_us`).

    Args:
        root: folder of the folders proc and sys.
    """
    quotas = [math.inf]
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
            # In a container, the path may be that of the host; then only the mount point exists.
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder == mount.parent:
                    break
                quotas.append(_quota_of_group(folder))
    return min(quotas)


def _quota_of_group(folder: Path) -> float:
    """Return the CPU quota of one control group in cores; infinite without a quota."""
    with contextlib.suppress(OSError, ValueError):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        # A quota of -1 (version 1) or "max" (version 2) means none.
        if int(quota) > 0 and int(period) > 0:
            return int(quota) / int(period)
    return math.inf


def processor_flags() -> set[str]:
    """Return the instruction sets of the processor, such as avx512f; empty if unknown."""
    with contextlib.suppress(OSError):
        if flags := re.search(r"flags\s*: (.*)", CPU_INFO.read_text()):
            return {*flags[1].split()}
    return set()


def processor_kind() -> str:
    """Return the kind of the processor: bfloat16, avx512, avx2 or other."""
    flags = processor_flags()
    if BFLOAT16_FLAGS & flags:
        return "bfloat16"
    if "avx512f" in flags:
        return "avx512"
    return "avx2" if "avx2" in flags else "other"


def processor() -> str:
    """Return the name of the processor and the number of its cores."""
    with contextlib.suppress(OSError):
        name = re.search(r"model name\s*: (.*)", CPU_INFO.read_text())
        if name:
            return f"{name[1]}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def thread_counts(cores: int, concurrent_operations: int | None) -> dict[str, str]:
    """Return the environment variables that divide the cores among concurrent operations.

    With None, every operation may use all cores, which is the default of TensorFlow.
    """
    if concurrent_operations is None:
        return dict.fromkeys(("TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS"), str(cores))
    concurrent_operations = min(concurrent_operations, cores)
    return {
        "TF_NUM_INTEROP_THREADS": str(concurrent_operations),
        "TF_NUM_INTRAOP_THREADS": str(cores // concurrent_operations),
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress TensorFlow's messages on standard error, unless the user has enabled them.

    C++ code writes them before it reads the log level. Therefore the file descriptor itself is
    redirected.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        yield
        return
    try:
        stderr = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection within the context, in which TensorFlow is imported.

    The half a million objects of its modules live as long as the process. To search them for
    garbage would take almost a second of every command, so later collections ignore them, too.
    """
    was_imported, was_enabled = "tensorflow" in sys.modules, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not was_imported:
            gc.freeze()
        if was_enabled:
            gc.enable()


def _import_quietly() -> tuple[types.ModuleType, types.ModuleType]:
    """Return the modules keras and tensorflow. Raises UserError for an invalid keras.json."""
    try:
        with _without_garbage_collection():
            with quiet():
                import tensorflow as tf

                tf.config.list_physical_devices()
            import keras

        return keras, tf
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        # The modules of Keras and TensorFlow that read keras.json.
        readers = (
            os.path.join("backend", "config.py"),
            os.path.join("keras", "backend.py"),
        )
        if not frame.f_code.co_filename.endswith(readers):
            raise
        path = os.path.join(
            os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "keras.json"
        )
        raise cli.UserError(
            f"Keras does not start with the settings in {path}; correct or delete the file"
        ) from None


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
