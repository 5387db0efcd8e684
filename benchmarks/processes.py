"""Calls in processes of their own, so that what TensorFlow keeps does not add up."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from fmnist import cli


class ProcessError(cli.UserError):
    """A process ended without a result."""


def in_own_process(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what a function of a module returns in a new process, or raise what it raises.

    On Ctrl-C or SIGTERM, the process gets SIGTERM, so that a training is saved. The exception has
    the message of the KeyboardInterrupt of the function, if that raises one.

    Raises:
        ProcessError: where the process was killed, or crashed.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        future = None
        try:
            with _ctrl_c_blocked():
                future = pool.submit(function, *arguments, **options)
            return future.result()
        except BrokenProcessPool:
            raise ProcessError(
                f"{function.__name__}() was killed or crashed, most likely out of memory; close "
                "other programs and start again"
            ) from None
        except KeyboardInterrupt as interrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            error = future and future.exception()
            message = error.args if isinstance(error, KeyboardInterrupt) else ()
            raise type(interrupt)(*message) from None


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block SIGINT, also in the processes that start meanwhile, where it stays blocked.

    A terminal sends it to all processes, and one that is still importing prints a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
