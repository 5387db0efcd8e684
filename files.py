"""Files and folders that appear whole or not at all, whenever a process is killed and wherever a disk is full.

What is not complete has a name that begins with UNFINISHED and the number of the process, of this machine, that
writes it.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

UNFINISHED = ".unfinished-"


@contextlib.contextmanager
def whole_file(path):
    """Give the path of a temporary file that takes the place of `path` once it is complete.

    It ends like `path`, as some writers tell the format by the suffix.
    """
    temporary = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_files(folder):
    """Give a temporary folder; its files take their places in `folder` once all of them are complete.

    Only a process that is killed in that very moment leaves new ones beside old ones. Raises OSError.
    """
    with unfinished_folder(folder) as temporary:
        yield temporary
        places = {path: folder / path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file()}
        for path, place in places.items():
            _to_disk(path)
            place.parent.mkdir(exist_ok=True)
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, "A folder is where a file has to be", str(place))
        for path, place in places.items():
            os.replace(path, place)


@contextlib.contextmanager
def unfinished_folder(parent):
    """Give a temporary folder in `parent`, which is made if need be. What is left in it goes with it."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    prefix = f"{UNFINISHED}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def write_json(path, content):
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def sweep(folder):
    """Remove the unfinished files of processes that are no more."""
    if os.name != "posix":  # elsewhere signal 0 would end the process that it asks for
        return
    for path in folder.glob(f"{UNFINISHED}*"):
        owner = path.name.removeprefix(UNFINISHED).split("-")[0]
        with contextlib.suppress(ValueError, OverflowError, OSError):
            if not is_alive(int(owner)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_alive(process):
    """Return whether a process of this machine runs, by its number."""
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
