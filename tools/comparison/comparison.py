"""Run the trainings of a comparison, on this machine or on a Dask cluster, and save the results."""

import contextlib
import importlib.util
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fmnist import cli, runs, runtime, source
from fmnist.config import TrainConfig
from tools.comparison import figures, summary
from tools.comparison.attempt import attempt
from tools.comparison.contestants import CONTESTANTS, expand
from tools.comparison.results import RESULT, CompareError, load_result

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEDULER_TIMEOUT = 10  # seconds to wait for a connection to a Dask scheduler


def compare(
    names: list[str],
    seeds: int,
    given: dict[str, Any],
    epochs: int | None,
    weights: str | None,
    output_dir: str,
    workers: int | None = None,
    scheduler: str | None = None,
) -> list[str]:
    """Run all trainings that are not finished, save the results and return the error messages.

    Args:
        names: contestants and groups; an empty list for all.
        seeds: number of trainings per contestant.
        given: settings of TrainConfig that all trainings share.
        epochs: maximum number of epochs of every network; None for that of the contestant.
        weights: initial weights of mobilenet; None for those of ImageNet if they are available,
            else randomly initialised weights.
        output_dir: folder for run directories and results.
        workers: number of trainings at a time on this machine, with Dask; None for one, without.
        scheduler: address of a Dask scheduler whose workers train; None for this machine.

    Raises:
        UserError: a CompareError, ConfigError, DataError or RunError.
    """
    folder = Path(output_dir).resolve()
    names = expand(names)
    done = all((folder / f"hog_svm-{seed}" / RESULT).exists() for seed in range(seeds))
    if "hog_svm" in names and not done and not importlib.util.find_spec("skimage"):
        print(f"Skipping hog_svm: {cli.not_installed('skimage')}")
        names.remove("hog_svm")
    if not names:
        raise CompareError("no contestant is left to compare")
    weights = available_weights(weights, folder / "mobilenet-0") if "mobilenet" in names else None
    jobs = []
    for seed in range(seeds):
        for name in names:
            settings = {
                **(CONTESTANTS[name] or {}),
                **given,
                "runs_dir": folder,
                "name": f"{name}-{seed}",
                "seed": seed,
            }
            if CONTESTANTS[name]:
                settings |= {"epochs": epochs} if epochs else {}
                settings |= {"weights": weights} if name == "mobilenet" else {}
            jobs.append((name, TrainConfig(**settings)))

    finished, failures = {}, []
    for count, (index, error) in enumerate(run_all(jobs, workers, scheduler), 1):
        name, config = jobs[index]
        if error is None:
            result = load_result(folder / config.name)
            finished.setdefault(name, []).append(result)
            outcome = (
                f"validation accuracy {result['val_accuracy']:.2%}, "
                f"trained for {result['seconds']:.1f} s"
            )
        else:
            outcome = f"failed: {error}"
            failures.append(f"{name}, seed {config.seed}: {error}")
        print(f"[{count}/{len(jobs)}] {name}, seed {config.seed}: {outcome}", flush=True)
    if not finished:
        raise CompareError(f"no training finished; first error: {failures[0]}")
    for results in finished.values():  # workers finish in any order
        results.sort(key=lambda result: result["settings"]["seed"])
    (*_, labels), _ = source.find(given.get("data_dir"))
    rows = summary.summarise(finished, np.frombuffer(labels, np.uint8))
    summary.write(folder, rows, class_activation_figure(folder, rows, given.get("data_dir")))
    print(f"\n{summary.verdict(rows)}")
    return failures


def class_activation_figure(
    folder: Path, rows: list[dict[str, Any]], data_dir: str | None
) -> dict[str, Figure]:
    """Return the figure of where two networks look, if the weights of two networks exist."""
    networks = [
        row
        for row in rows
        if (folder / f"{row['name']}-{row['first_seed']}" / runs.MODEL).is_file()
    ]
    if len(networks) < 2:
        return {}
    runtime.configure_tensorflow(concurrent_operations=2)
    from tools.comparison import class_activation

    try:
        figure = class_activation.draw(folder, *figures.compared_pair(networks), data_dir)
    except cli.UserError as error:  # must not prevent the other results
        print(f"warning: no figure of where two networks look: {error}")
        return {}
    return {"class_activation": figure} if figure else {}


def run_all(
    jobs: Sequence[tuple[str, TrainConfig]],
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[tuple[int, str | None]]:
    """Run the jobs and yield the index and the error message of each as soon as it ends.

    The error message of a successful job is None.

    Args:
        jobs: arguments of attempt().
        workers: see compare().
        scheduler: see compare().

    Raises:
        CompareError: if the Dask scheduler or its workers cannot be used.
    """
    if not workers and not scheduler:
        for index, job in enumerate(jobs):
            yield index, attempt(*job)
        return
    import distributed

    with contextlib.ExitStack() as stack:
        if not scheduler:
            os.environ.update(thread_limits(workers))  # inherited by the workers
            # A cluster logs many messages when it closes; failed trainings are reported anyway.
            scheduler = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address=":0",
                    silence_logs=logging.CRITICAL,
                )
            )
            print(f"Dashboard: {scheduler.dashboard_link}")
        try:
            client = stack.enter_context(distributed.Client(scheduler, timeout=SCHEDULER_TIMEOUT))
        except (OSError, ValueError) as error:
            raise CompareError(
                f"cannot connect to a Dask scheduler at {scheduler} ({cli.one_line(error)})"
            ) from None
        if any(threads > 1 for threads in client.nthreads().values()):
            raise CompareError(
                "a Dask worker has several threads, but TensorFlow settings apply to a whole "
                "process; start the workers with --nthreads 1"
            )

        # Dask sends this local function by value, so it also runs where the project is missing. It
        # sends attempt() by name.
        def finds_project() -> bool:
            return all(importlib.util.find_spec(name) for name in ("fmnist", "tools"))

        if not all([client.run_on_scheduler(finds_project), *client.run(finds_project).values()]):
            raise CompareError(
                "the Dask scheduler or a worker cannot import this project; start them with "
                f"PYTHONPATH={shlex.quote(str(ROOT))}"
            )
        if not client.nthreads():
            print(f"Waiting for workers: the scheduler at {scheduler} has none yet", flush=True)
        futures = {
            client.submit(attempt, *job, pure=False): index for index, job in enumerate(jobs)
        }
        for future in distributed.as_completed(futures):
            error = future.exception()
            yield futures[future], future.result() if error is None else cli.one_line(error)


def thread_limits(workers: int) -> dict[str, str]:
    """Return environment variables that divide the cores of this machine among the workers."""
    cores = max(runtime.available_cores() // workers, 1)
    libraries = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return {
        **dict.fromkeys(libraries, str(cores)),
        **runtime.thread_counts(cores, concurrent_operations=2),
    }


def absolute(path: str | None) -> str | None:
    """Return an absolute path, which is valid for workers in other folders; None for None."""
    return path and str(Path(path).expanduser().resolve())


def available_weights(weights: str | None, run: Path) -> str | None:
    """Return the initial weights of mobilenet: "imagenet", a file, or None for random ones.

    Args:
        weights: the weights that the user named; None for those of `run` if it exists, else those
            of ImageNet if they are available.
        run: first run directory of mobilenet.

    Raises:
        CompareError: if the weights that the user named cannot be used.
    """
    if weights is None and (run / RESULT).exists():
        return load_result(run)["settings"].get("weights")
    if weights is None and (run / runs.CONFIG).exists():
        return runs.load_config(run).get("weights")
    if weights != "imagenet":
        weights = absolute(weights)
    runtime.configure_tensorflow(concurrent_operations=2)
    from fmnist.networks import pretrained_weights

    try:
        with source.socket_timeout():
            pretrained_weights(1, weights or "imagenet")
        return weights or "imagenet"
    except ValueError as error:
        if weights:
            raise CompareError(str(error)) from None
        print(f"mobilenet is randomly initialised: {error}")
        return None
