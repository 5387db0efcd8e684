"""Handling of Ctrl-C, SIGTERM and a killed process."""

import contextlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator

from fmnist import cli


@contextlib.contextmanager
def deferred() -> Iterator[list[KeyboardInterrupt]]:
    """Defer interrupts: yield a list to which Ctrl-C and SIGTERM append a KeyboardInterrupt.

    The caller raises it at a suitable moment. Therefore files are written completely, and no
    KeyboardInterrupt is raised while TensorFlow traces a function, which would turn it into another
    exception. The second signal raises the first KeyboardInterrupt immediately.

    Only the main thread receives signals. In other threads the list stays empty.
    """
    received = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number: int, frame: object) -> None:
        received.append(cli.Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        if len(received) > 1:
            raise received[0]

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def message_if_killed(message: str) -> Iterator[None]:
    """Print a message on standard error if this process is killed within the context.

    A shell process reads from a pipe. The end of the context sends a line. If the pipe is closed
    without a line, this process was killed, and the shell prints the message. Without `sh`, nothing
    is printed.
    """
    if not shutil.which("sh"):
        yield
        return
    script = """trap '' INT TERM HUP; read -r line || printf '\\n%s\\n' "$1" >&2"""
    with subprocess.Popen(
        ["sh", "-c", script, "sh", message], stdin=subprocess.PIPE, bufsize=0
    ) as shell:
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                shell.stdin.write(b"\n")
