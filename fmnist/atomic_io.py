"""Atomic writes: files and folders appear complete or not at all, even if the process is killed.

Until they are complete, they have a temporary name, which starts with TEMPORARY_PREFIX and
contains the process ID, the machine and a token of the process.
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

from fmnist import cli

TEMPORARY_PREFIX = ".unfinished-"
# Identifies this process, because process IDs are reused, especially in containers.
PROCESS_TOKEN = secrets.token_hex(4)
# A checksum of the host name, which is short and valid in a file name.
MACHINE_ID = f"{zlib.crc32(socket.gethostname().encode()):08x}"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` at the end of the context.

    The temporary file has the suffix of `path`, because some writers derive the format from it. If
    an exception is raised, `path` stays unchanged.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_writes(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, whose files are moved into `folder` at the end of the context.

    If an exception is raised, `folder` stays unchanged. Only a process that is killed while it
    moves the files leaves new files beside old ones.

    Raises:
        OSError: a file cannot be written or moved.
    """
    with temporary_folder(folder) as temporary:
        yield temporary
        targets = {
            path: folder / path.relative_to(temporary)
            for path in temporary.rglob("*")
            if path.is_file()
        }
        for path, target in targets.items():
            _flush(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "This path must not be a folder", str(target))
        for path, target in targets.items():
            os.replace(path, target)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder in `parent`, and remove it at the end of the context.

    `parent` is created if necessary, and stale temporary files in it are removed.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temp_files(parent)
    with tempfile.TemporaryDirectory(
        prefix=temporary_name(""), dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def check_writable(folder: Path, option: str = "--output-dir") -> None:
    """Check that files can be created in a folder, or in the first parent folder that exists.

    Args:
        folder: folder, which need not exist; it is not created.
        option: command line option of the folder, which the error message suggests.

    Raises:
        UserError: no file can be created.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise cli.UserError(
            f"cannot write to the folder {folder} ({error.strerror}); choose another {option}"
        ) from None


def temporary_name(name: str) -> str:
    """Return the temporary name of a file or folder that this process writes."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-{MACHINE_ID}-{PROCESS_TOKEN}-{name}"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def remove_stale_temp_files(folder: Path) -> None:
    """Remove temporary files and folders of processes of this machine that no longer run."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        owner, machine, token, *_ = path.name.removeprefix(TEMPORARY_PREFIX).split("-") + ["", ""]
        with contextlib.suppress(ValueError, OverflowError, OSError):
            alive = token == PROCESS_TOKEN if int(owner) == os.getpid() else is_alive(int(owner))
            if machine == MACHINE_ID and not alive:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_alive(process_id: int) -> bool:
    """Return whether the process with this ID runs on this machine."""
    if os.name != "posix":  # on Windows, os.kill with signal 0 would end the process
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _flush(path: Path) -> None:
    """Wait until the content of a file is on the disk, where the file system supports that."""
    with open(path, "r+b") as stream:
        try:
            os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
