"""Atomic writes: files and folders appear complete or not at all, even after a kill.

What is not complete is a temporary file, whose name begins with TEMPORARY_PREFIX and names process
and machine.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".unfinished-"
# In a container, the process before this one may well have had its number.
PROCESS_TOKEN = secrets.token_hex(4)
# short, and without what a file's name may not have
MACHINE_ID = f"{zlib.crc32(socket.gethostname().encode()):08x}"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of `path` once it is complete.

    It ends like `path`, as some writers tell the format by the suffix.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_writes(folder: Path) -> Iterator[Path]:
    """Give a temporary folder whose files take their places in `folder` once all are complete.

    Only a process that ends in that very moment leaves new ones beside old ones. Raises OSError.
    """
    with temporary_folder(folder) as temporary:
        yield temporary
        places = {
            path: folder / path.relative_to(temporary)
            for path in temporary.rglob("*")
            if path.is_file()
        }
        for path, place in places.items():
            _to_disk(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                raise IsADirectoryError(
                    errno.EISDIR, "A folder is where a file has to be", str(place)
                )
        for path, place in places.items():
            os.replace(path, place)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a temporary folder in `parent`, which is made if need be, and remove it afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temp_files(parent)
    with tempfile.TemporaryDirectory(
        prefix=temporary_name(""), dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def temporary_name(name: str) -> str:
    """Return the name of the temporary file of this process beside the file `name`."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-{MACHINE_ID}-{PROCESS_TOKEN}-{name}"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def remove_stale_temp_files(folder: Path) -> None:
    """Remove the temporary files that processes of this machine left which no longer run."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        owner, machine, process, *_ = path.name.removeprefix(TEMPORARY_PREFIX).split("-") + ["", ""]
        with contextlib.suppress(ValueError, OverflowError, OSError):
            alive = process == PROCESS_TOKEN if int(owner) == os.getpid() else is_alive(int(owner))
            if machine == MACHINE_ID and not alive:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_alive(process: int) -> bool:
    """Return whether a process of this machine runs, by its number."""
    if os.name != "posix":  # elsewhere signal 0 would end the process that it asks for
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _to_disk(path: Path) -> None:
    with open(path, "r+b") as stream:
        os.fsync(stream.fileno())
