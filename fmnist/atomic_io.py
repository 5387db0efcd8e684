"""Files and folders that appear whole or not at all, whenever a process is killed and wherever a disk is full.

What is not complete has a name that begins with UNFINISHED, and the process and the machine that write it.
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
from pathlib import Path

UNFINISHED = ".unfinished-"
PROCESS = secrets.token_hex(4)  # in a container, the process before this one may well have had its number
MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # short, and without what a file's name may not have


@contextlib.contextmanager
def whole_file(path):
    """Give the path of a temporary file that takes the place of `path` once it is complete.

    It ends like `path`, as some writers tell the format by the suffix.
    """
    temporary = path.with_name(unfinished_name(path.name))
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_files(folder):
    """Give a temporary folder; its files take their places in `folder` once all of them are complete.

    Only a process that ends in that very moment leaves new ones beside old ones. Raises OSError.
    """
    with unfinished_folder(folder) as temporary:
        yield temporary
        places = {path: folder / path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file()}
        for path, place in places.items():
            _to_disk(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, "A folder is where a file has to be", str(place))
        for path, place in places.items():
            os.replace(path, place)


@contextlib.contextmanager
def unfinished_folder(parent):
    """Give a temporary folder in `parent`, which is made if need be. What is left in it goes with it."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    with tempfile.TemporaryDirectory(prefix=unfinished_name(""), dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def unfinished_name(name):
    return f"{UNFINISHED}{os.getpid()}-{MACHINE}-{PROCESS}-{name}"


def write_json(path, content):
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def sweep(folder):
    """Remove the unfinished files of processes of this machine that are no more."""
    for path in folder.glob(f"{UNFINISHED}*"):
        owner, machine, process, *_ = path.name.removeprefix(UNFINISHED).split("-") + ["", ""]
        with contextlib.suppress(ValueError, OverflowError, OSError):
            alive = process == PROCESS if int(owner) == os.getpid() else is_alive(int(owner))
            if machine == MACHINE and not alive:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_alive(process):
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


def _to_disk(path):
    with open(path, "r+b") as stream:
        os.fsync(stream.fileno())
