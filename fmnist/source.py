"""The files of Fashion-MNIST: facts, places where they are found, and checks of every byte.

The content of a source is used only after its SHA-256 was found to be the official one.
"""

import contextlib
import gzip
import hashlib
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fmnist import atomic_io, cli, runtime

PIXEL_MEAN, PIXEL_DEVIATION = 0.2860, 0.3530  # of the training images, from black 0 to white 1
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
TIMEOUT_SECONDS = 20


class File(NamedTuple):
    """One IDX file. The SHA-256 is of the unzipped bytes: packagers compress anew."""

    shape: tuple[int, ...]
    sha256: str


FILES = {
    "train-images-idx3-ubyte": File(
        (60000, 28, 28), "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte": File(
        (60000,), "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte": File(
        (10000, 28, 28), "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte": File(
        (10000,), "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}


class DataError(cli.UserError):
    """The data set is missing, damaged or cannot be split as asked. One line, for the user."""


def split_sizes(val_size: float = 5000, limit: int | None = None) -> tuple[int, int]:
    """Return the numbers of training and validation images. See data.load(). Raises DataError."""
    available = FILES["train-labels-idx1-ubyte"].shape[0]
    smallest = len(CLASS_NAMES)  # a stratified part holds every class at least once
    total = available if limit is None else limit
    if not 2 * smallest <= total <= available:
        raise DataError(f"the limit must be from {2 * smallest} to {available} images, not {total}")
    count = val_size * available if val_size < 1 else val_size
    if not smallest <= count <= available - smallest or val_size > 1 and val_size % 1:
        raise DataError(
            f"the validation size must be from {smallest} to {available - smallest} "
            f"images, or a fraction of {available} as large; {val_size} is not"
        )
    validation = min(max(round(count * total / available), smallest), total - smallest)
    return total - validation, validation


def fingerprint() -> str:
    """Return the SHA-256 that stands for the content of all four files."""
    return hashlib.sha256("".join(file.sha256 for file in FILES.values()).encode()).hexdigest()


def find(data_dir: str | Path | None = None) -> tuple[list[bytes], str]:
    """Return the bytes of the four arrays, in the order of FILES, and where they were found.

    Raises:
        DataError: where a folder that is named does not hold them, or no source does.
    """
    named = data_dir if data_dir is not None else os.environ.get("FASHION_MNIST_DIR") or None
    if named is not None:
        return _read_folder(Path(os.path.expanduser(named))), str(named)

    caches = _keras_caches()
    for folder in (*caches, DEBIAN_FOLDER):
        if any(os.path.exists(_path(folder, name)) for name in FILES):
            try:
                return _read_folder(folder), str(folder)
            except DataError as error:
                print(f"warning: {error}; trying the next source", file=sys.stderr)

    failures = []
    for description, fetch in (
        ("the official mirrors", _download),
        (f"Debian's package {DEBIAN_PACKAGE}", _unpack_debian_package),
    ):
        try:
            cache = next((folder for folder in caches if _is_writable(folder)), caches[0])
            return _fetch_into(cache, fetch), f"{description}, kept in {cache}"
        except (DataError, OSError, ImportError) as error:
            failures.append(f"{description}: {_one_line(error)}")
    raise DataError(
        "Fashion-MNIST was not found on this machine and could not be fetched "
        f"({'; '.join(failures)}). "
        "Bring its four files into a folder and name it with --data-dir"
    )


def _keras_caches() -> list[Path]:
    """Return the folders where Keras keeps this data set: the second if the first is read-only."""
    homes = os.environ.get("KERAS_HOME") or "~/.keras", Path(tempfile.gettempdir()) / ".keras"
    return [
        Path(os.path.abspath(os.path.expanduser(home))) / "datasets/fashion-mnist" for home in homes
    ]


def _is_writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return os.access(existing, os.W_OK)


def _read_folder(folder: Path) -> list[bytes]:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; name one that holds the four Fashion-MNIST files"
        )
    return [_read(_path(folder, name), name) for name in FILES]


def _path(folder: Path, name: str) -> Path:
    """Return the .gz file, or the unzipped one where only that is there."""
    zipped, unzipped = folder / f"{name}.gz", folder / name
    return unzipped if os.path.exists(unzipped) and not os.path.exists(zipped) else zipped


def _read(path: Path, name: str) -> bytes:
    """Return the bytes of the array in an IDX file, gzipped or not, if it is the official one.

    Format: https://github.com/zalandoresearch/fashion-mnist (the one of MNIST): a magic number
    that tells type and dimensions, the dimensions as big-endian 32-bit integers, then the bytes.
    """
    file = FILES[name]
    header = struct.pack(f">{1 + len(file.shape)}I", 0x0800 + len(file.shape), *file.shape)
    size = len(header) + math.prod(file.shape)
    remedy = "replace it with the official file, or name another folder with --data-dir"
    if os.path.exists(path) and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is no file of bytes; {remedy}")  # a pipe would be waited for
    try:
        with open(path, "rb") as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            content = (gzip.GzipFile(fileobj=stream) if zipped else stream).read(size + 1)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; a folder must hold all four files") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or cut off ({error}); {remedy}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {remedy}") from None

    digest = hashlib.sha256(content).hexdigest()
    if digest == file.sha256:
        return content[len(header) :]
    for other, official in FILES.items():
        if digest == official.sha256:
            raise DataError(f"{path} holds the content of {other}; {remedy}")
    if content[:4] != header[:4]:
        raise DataError(
            f"{path} is not an IDX file of {'images' if len(file.shape) > 1 else 'labels'} "
            f"(wrong magic number); {remedy}"
        )
    if content[: len(header)] != header:
        raise DataError(f"{path} does not hold an array of shape {file.shape}; {remedy}")
    if len(content) != size:
        raise DataError(f"{path} is {'cut off' if len(content) < size else 'too long'}; {remedy}")
    raise DataError(f"{path} was altered (its SHA-256 is not the official one); {remedy}")


def _fetch_into(cache: Path, fetch: Callable[[Path], Path]) -> list[bytes]:
    """Let `fetch` fill a private folder, check what came, and only then move it into the cache.

    So a fetch that is killed leaves nothing that is later trusted, and two at once do not meet.
    """
    with atomic_io.temporary_folder(cache) as private:
        folder = fetch(private)
        contents = _read_folder(folder)
        for name in FILES:
            target = cache / f"{name}.gz"
            if _is_official(target, name):
                continue
            # Another fetch may have been faster, so that nothing is there any more, or a good file.
            with contextlib.suppress(FileNotFoundError):
                target.rename(
                    f"{target}.wrong-{private.name.removeprefix(atomic_io.TEMPORARY_PREFIX)}"
                )
            os.replace(folder / f"{name}.gz", target)
    return contents


def _is_official(path: Path, name: str) -> bool:
    try:
        _read(path, name)
        return True
    except DataError:
        return False


def _download(folder: Path) -> Path:
    """Download the four files by Keras into a folder and return it. Raises DataError."""
    runtime.configure_tensorflow()
    import keras

    failures = []
    for mirror in MIRRORS:
        try:
            with socket_timeout():
                for name in FILES:
                    keras.utils.get_file(
                        f"{name}.gz",
                        mirror + f"{name}.gz",
                        cache_dir=folder,
                        cache_subdir="",
                        force_download=True,
                    )
                    _read(folder / f"{name}.gz", name)
            return folder
        except Exception as error:  # get_file raises plain Exception where a URL fails
            failures.append(_one_line(error))
    raise DataError(failures[-1])


@contextlib.contextmanager
def socket_timeout() -> Iterator[None]:
    """Limit how long a socket waits.

    Keras' download has no limit, and a silent network would hang it for ever.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _unpack_debian_package(folder: Path) -> Path:
    """Fetch the package with apt, as any user and without touching the system's own state."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("apt is not on this machine")
    for private in ("state/lists/partial", "cache/archives/partial"):
        (folder / private).mkdir(parents=True)
    waiting = ["-q", "-o", f"Acquire::http::Timeout={TIMEOUT_SECONDS}", "-o", "Acquire::Retries=1"]
    private = [
        "-o",
        f"Dir::State={folder}/state",
        "-o",
        f"Dir::State::Lists={folder}/state/lists",
        "-o",
        f"Dir::Cache={folder}/cache",
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "APT::Sandbox::User=",
    ]
    try:
        _run(["apt-get", *waiting, "-o", "APT::Sandbox::User=", "download", DEBIAN_PACKAGE], folder)
    except DataError:  # the system's package lists are missing or old: fetch our own
        _run(["apt-get", *waiting, *private, "update"], folder)
        _run(["apt-get", *waiting, *private, "download", DEBIAN_PACKAGE], folder)
    package = next(folder.glob("*.deb"), None)
    if package is None:
        raise DataError("apt-get brought no package")
    _run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
    return folder / "unpacked" / DEBIAN_FOLDER.relative_to("/")


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if result.returncode != 0:
        raise DataError(
            f"{command[0]}: {_one_line(result.stderr) or f'exit code {result.returncode}'}"
        )


def _one_line(error: object) -> str:
    lines = str(error).split("\n")
    return next((line for line in reversed(lines) if line.strip()), "").strip()
