"""Calls in processes of their own, so that what TensorFlow keeps does not add up."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def in_own_process(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what a function of a module returns in a new process, or raise what it raises."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments, **options).result()
