"""All trainings of a comparison, here or on a Dask cluster, and what came of them."""

import contextlib
import importlib.util
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import cli, runs, runtime, source
from fmnist.config import TrainConfig
from tools.comparison import summary
from tools.comparison.attempt import attempt
from tools.comparison.contestants import CONTESTANTS, expand
from tools.comparison.results import RESULT, CompareError, load_result

ROOT = Path(__file__).resolve().parent.parent.parent
ANSWER_SECONDS = 10  # that a scheduler may take


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
    """Train what is not trained yet, write the results and return the failures, as texts.

    Args:
        names: of contestants and groups; none for all.
        seeds: number of trainings of each.
        given: settings of every training, those of TrainConfig.
        epochs: of every network; None for its own.
        weights: what mobilenet starts from; None for ImageNet's where they can be had, else random
            ones.
        output_dir: where runs and results are written.
        workers: number of trainings at a time on this machine.
        scheduler: address of a Dask scheduler, on whose workers the trainings run.

    Raises:
        UserError: CompareError, ConfigError, DataError or RunError.
    """
    folder = Path(output_dir).resolve()
    names = expand(names)
    done = all((folder / f"hog_svm-{seed}" / RESULT).exists() for seed in range(seeds))
    if "hog_svm" in names and not done and not importlib.util.find_spec("skimage"):
        print("hog_svm is left out, as scikit-image is not installed")
        names.remove("hog_svm")
    if not names:
        raise CompareError("nothing is left to compare")
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
        raise CompareError(f"no training was finished; the first: {failures[0]}")
    for results in finished.values():  # which workers bring in any order
        results.sort(key=lambda result: result["settings"]["seed"])
    (*_, labels), _ = source.find(given.get("data_dir"))
    rows = summary.summarise(finished, np.frombuffer(labels, np.uint8))
    summary.write(folder, rows)
    print(f"\n{summary.verdict(rows)}")
    return failures


def run_all(
    jobs: Sequence[tuple[str, TrainConfig]],
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[tuple[int, str | None]]:
    """Yield the index of every job as soon as it is over, and None, or why it failed.

    Raises CompareError.

    Args:
        jobs: arguments of attempt().
        workers: as of compare().
        scheduler: as of compare().
    """
    if not workers and not scheduler:
        for index, job in enumerate(jobs):
            yield index, attempt(*job)
        return
    import distributed

    with contextlib.ExitStack() as stack:
        if not scheduler:
            os.environ.update(share_of_cores(workers))  # of which the workers get a copy
            # It logs a lot when it ends; a training that fails is named anyway.
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
            client = stack.enter_context(distributed.Client(scheduler, timeout=ANSWER_SECONDS))
        except (OSError, ValueError) as error:
            raise CompareError(
                f"no Dask scheduler answers at {scheduler} ({cli.one_line(error)})"
            ) from None
        if any(threads > 1 for threads in client.nthreads().values()):
            raise CompareError(
                "TensorFlow is one at a time in a process; start the workers with --nthreads 1"
            )

        def finds_project() -> bool:  # which travels whole, where attempt() travels by its name
            return all(importlib.util.find_spec(name) for name in ("fmnist", "tools"))

        if not all([client.run_on_scheduler(finds_project), *client.run(finds_project).values()]):
            raise CompareError(
                "the scheduler, or a worker, does not find this project; start all of them with "
                f"PYTHONPATH={shlex.quote(str(ROOT))}"
            )
        if not client.nthreads():
            print(f"The scheduler at {scheduler} has no workers yet; waiting for some", flush=True)
        futures = {
            client.submit(attempt, *job, pure=False): index for index, job in enumerate(jobs)
        }
        for future in distributed.as_completed(futures):
            error = future.exception()
            yield futures[future], future.result() if error is None else cli.one_line(error)


def share_of_cores(workers: int) -> dict[str, str]:
    """Return the environment in which a worker keeps to its share of this machine's cores."""
    cores = max(runtime.available_cores() // workers, 1)
    libraries = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return {
        **dict.fromkeys(libraries, str(cores)),
        **runtime.thread_counts(cores, concurrent_operations=2),
    }


def absolute(path: str | None) -> str | None:
    """Return a path, or None, so that workers in other folders find it too."""
    return path and str(Path(path).expanduser().resolve())


def available_weights(weights: str | None, run: Path) -> str | None:
    """Return what mobilenet starts from.

    That is what is named, else what this run started from, if it is there, else ImageNet's weights,
    or None where those cannot be had. Raises CompareError.
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
        print(f"mobilenet starts from scratch: {error}")
        return None
