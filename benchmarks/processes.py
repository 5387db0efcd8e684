"""Call functions in new processes, so that the memory of TensorFlow does not accumulate."""

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
    """Call a function in a new process and return its result, or raise its exception.

    On Ctrl-C or SIGTERM, the process receives SIGTERM, so that a training is saved. The
    KeyboardInterrupt here has the message of the one in the process.

    Args:
        function: function of a module, because it is pickled by name.
        arguments: positional arguments of the function.
        options: keyword arguments of the function.

    Raises:
        ProcessError: if the process was killed or crashed.
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
                "other programs and try again"
            ) from None
        except KeyboardInterrupt as interrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            error = future and future.exception()
            message = error.args if isinstance(error, KeyboardInterrupt) else ()
            raise type(interrupt)(*message) from None


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block SIGINT; processes that start meanwhile inherit the block and keep it.

    A terminal sends SIGINT to all processes, and a process that is still importing would print a
    traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
