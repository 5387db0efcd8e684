"""Ctrl-C, SIGTERM and sudden death: files are completed, and a last line is printed."""

import contextlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator

from fmnist import cli


@contextlib.contextmanager
def deferred() -> Iterator[list[KeyboardInterrupt]]:
    """Give a list that grows when Ctrl-C or SIGTERM comes, which interrupts the second time.

    So files are written to their end, and TensorFlow, which makes an error of its own of an
    interrupt while it traces a function, does not see it. Where this is not the main thread, which
    alone gets signals, the list stays empty.
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
def last_words(text: str) -> Iterator[None]:
    """Print `text` on standard error if this process is killed, as when memory runs out.

    A shell waits at a pipe for the line that an orderly end sends; at the pipe's end without it, it
    prints.
    """
    if not shutil.which("sh"):
        yield
        return
    script = """trap '' INT TERM HUP; read -r line || printf '\\n%s\\n' "$1" >&2"""
    with subprocess.Popen(
        ["sh", "-c", script, "sh", text], stdin=subprocess.PIPE, bufsize=0
    ) as shell:
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                shell.stdin.write(b"\n")
