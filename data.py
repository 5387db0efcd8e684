"""Fashion-MNIST: found on disk or fetched, checked, split, normalised and batched.

    dataset = load()
    dataset.train.images    (55000, 28, 28, 1) float32 in [0, 1]
    dataset.train.labels    (55000,) int64, 0 to 9, named by CLASS_NAMES

Paper: Xiao, Rasul, Vollgraf, "Fashion-MNIST", https://arxiv.org/abs/1708.07747
"""

import contextlib
import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fmnist import atomic_io

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
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
        (60000, 28, 28), "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": File(
        (60000,), "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": File(
        (10000, 28, 28), "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": File(
        (10000,), "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}


class DataError(Exception):
    """The data set is missing, damaged or cannot be split as asked. One line, for the user."""


class Part(NamedTuple):
    """Images (N, 28, 28, 1), float32 in [0, 1], and labels (N,), int64."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    train: Part
    validation: Part
    test: Part
    source: str       # where the files were found
    fingerprint: str  # SHA-256 over the content of the four files


def load(data_dir=None, val_size=5000, limit=None, seed=0):
    """Return the Dataset: a stratified split of the training images, and the test images.

    val_size: images held out for validation, or a fraction of the 60,000 if below 1.
    limit: number of training and validation images together; validation shrinks in
        proportion. The test set is always whole.
    seed: of the split.
    Raises DataError.
    """
    train_size, val_size = split_sizes(val_size, limit)
    arrays, source = find(data_dir)
    train_images, train_labels, test_images, test_labels = arrays

    from sklearn.model_selection import train_test_split  # slow to import, not needed for --help

    train, validation = train_test_split(
        np.arange(len(train_labels)), train_size=train_size, test_size=val_size,
        stratify=train_labels, random_state=seed)
    return Dataset(
        train=_normalised(train_images[train], train_labels[train]),
        validation=_normalised(train_images[validation], train_labels[validation]),
        test=_normalised(test_images, test_labels),
        source=source,
        fingerprint=fingerprint(),
    )


def split_sizes(val_size=5000, limit=None):
    """Return the numbers of training and validation images. Raises DataError."""
    available = FILES["train-labels-idx1-ubyte"].shape[0]
    smallest = len(CLASS_NAMES)  # a stratified part holds every class at least once
    total = available if limit is None else limit
    if not 2 * smallest <= total <= available:
        raise DataError(f"the limit must be from {2 * smallest} to {available} images, not {total}")
    count = val_size * available if val_size < 1 else val_size
    if not smallest <= count <= available - smallest or val_size > 1 and val_size % 1:
        raise DataError(f"the validation size must be from {smallest} to {available - smallest} "
                        f"images, or a fraction of {available} as large; {val_size} is not")
    validation = min(max(round(count * total / available), smallest), total - smallest)
    return total - validation, validation


def fingerprint():
    """Return the SHA-256 that stands for the content of all four files."""
    return hashlib.sha256("".join(file.sha256 for file in FILES.values()).encode()).hexdigest()


def batches(part, batch_size, shuffle=None, augment=None, focus=None):
    """Return a tf.data.Dataset of batches: images (B, 28, 28, 1) and one-hot labels (B, 10).

    shuffle: None for the given order, or a tensor of two integers (say, seed and epoch) that
        decides the order; where it is a tf.Variable, it is read anew whenever iteration starts.
    augment: function of (images, seed, turns) that returns images, called for every batch with a
        seed made of `shuffle` and the batch's number, and for every image its number plus the epoch.
    focus: a focus.Focus that chooses the images of an epoch and says how often they have had their turn. The
        batches are then of (images, their numbers), labels and weights.
    """
    import tensorflow as tf

    images = tf.constant(part.images)
    labels = tf.one_hot(part.labels, len(CLASS_NAMES))
    count = focus.size if focus else len(part.labels)

    # Shuffling numbers and gathering whole batches costs a fraction of shuffling images.
    def order(_):
        numbers = tf.range(count)
        if shuffle is None:
            chosen = numbers, numbers
        else:
            numbers = tf.random.experimental.stateless_shuffle(numbers, shuffle)
            chosen = numbers, numbers + shuffle[1]
            if focus:
                chosen = tuple(tf.gather(each, numbers) for each in focus.choose(shuffle[1]))
        return tf.data.Dataset.from_tensor_slices(chosen).batch(batch_size)

    def gather(batch, chosen):
        numbers, turns, *weights = chosen
        some = tf.gather(images, numbers)
        if augment is not None:
            some = augment(some, tf.random.fold_in(shuffle, batch), turns)
        return (some, numbers) if focus else some, tf.gather(labels, numbers), *weights

    options = tf.data.Options()
    # With autotune on, the end of every epoch waits for a sleeping thread, up to seconds.
    options.autotune.enabled = False
    return (tf.data.Dataset.range(1).flat_map(order).enumerate().map(gather)
            .apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
            .prefetch(2).with_options(options))


def _normalised(images, labels):
    return Part(np.divide(images, 255, dtype=np.float32)[..., np.newaxis], labels.astype(np.int64))


# Finding the files. A source is used only after every byte of it was checked.

def find(data_dir=None):
    """Return the four arrays, and the name of the first source that holds them."""
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
    for description, fetch in (("the official mirrors", _download),
                               (f"Debian's package {DEBIAN_PACKAGE}", _unpack_debian_package)):
        try:
            cache = next((folder for folder in caches if _is_writable(folder)), caches[0])
            return _fetch_into(cache, fetch), f"{description}, kept in {cache}"
        except (DataError, OSError, ImportError) as error:
            failures.append(f"{description}: {_one_line(error)}")
    raise DataError(
        f"Fashion-MNIST was not found on this machine and could not be fetched ({'; '.join(failures)}). "
        f"Bring its four files into a folder and name it with --data-dir")


def _keras_caches():
    """Return the folders where Keras keeps this data set: the second where the first is read-only."""
    homes = os.environ.get("KERAS_HOME") or "~/.keras", Path(tempfile.gettempdir()) / ".keras"
    return [Path(os.path.abspath(os.path.expanduser(home))) / "datasets/fashion-mnist" for home in homes]


def _is_writable(folder):
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return os.access(existing, os.W_OK)


def _read_folder(folder):
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds the four Fashion-MNIST files")
    return [_read(_path(folder, name), name) for name in FILES]


def _path(folder, name):
    """Return the .gz file, or the unzipped one where only that is there."""
    zipped, unzipped = folder / f"{name}.gz", folder / name
    return unzipped if os.path.exists(unzipped) and not os.path.exists(zipped) else zipped


def _read(path, name):
    """Return the array in an IDX file, gzipped or not, if it is the official one to the byte.

    Format: https://github.com/zalandoresearch/fashion-mnist (the one of MNIST): a magic number
    that tells type and dimensions, the dimensions as big-endian 32-bit integers, then the bytes.
    """
    file = FILES[name]
    header = np.array([0x0800 + len(file.shape), *file.shape], ">u4").tobytes()
    size = len(header) + int(np.prod(file.shape))
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
        return np.frombuffer(content, np.uint8, offset=len(header)).reshape(file.shape)
    for other, official in FILES.items():
        if digest == official.sha256:
            raise DataError(f"{path} holds the content of {other}; {remedy}")
    if content[:4] != header[:4]:
        raise DataError(f"{path} is not an IDX file of {'images' if len(file.shape) > 1 else 'labels'} "
                        f"(wrong magic number); {remedy}")
    if content[:len(header)] != header:
        raise DataError(f"{path} does not hold an array of shape {file.shape}; {remedy}")
    if len(content) != size:
        raise DataError(f"{path} is {'cut off' if len(content) < size else 'too long'}; {remedy}")
    raise DataError(f"{path} was altered (its SHA-256 is not the official one); {remedy}")


def _fetch_into(cache, fetch):
    """Let `fetch` fill a private folder, check what came, and only then move it into the cache.

    So a fetch that is killed leaves nothing that is later trusted, and two at once do not meet.
    """
    with atomic_io.unfinished_folder(cache) as private:
        folder = fetch(private)
        arrays = _read_folder(folder)
        for name in FILES:
            target = cache / f"{name}.gz"
            if _is_official(target, name):
                continue
            # Another fetch may have been faster, so that nothing is there any more, or a good file.
            with contextlib.suppress(FileNotFoundError):
                target.rename(f"{target}.wrong-{private.name.removeprefix(atomic_io.UNFINISHED)}")
            os.replace(folder / f"{name}.gz", target)
    return arrays


def _is_official(path, name):
    try:
        _read(path, name)
        return True
    except DataError:
        return False


def _download(folder):
    import keras

    failures = []
    for mirror in MIRRORS:
        try:
            with socket_timeout():
                for name in FILES:
                    keras.utils.get_file(f"{name}.gz", mirror + f"{name}.gz", cache_dir=folder,
                                         cache_subdir="", force_download=True)
                    _read(folder / f"{name}.gz", name)
            return folder
        except Exception as error:  # get_file raises plain Exception where a URL fails
            failures.append(_one_line(error))
    raise DataError(failures[-1])


@contextlib.contextmanager
def socket_timeout():
    """Keras' download sets no time limit of its own: a silent network would hang it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _unpack_debian_package(folder):
    """Fetch the package with apt, as any user and without touching the system's own state."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("apt is not on this machine")
    for private in ("state/lists/partial", "cache/archives/partial"):
        (folder / private).mkdir(parents=True)
    waiting = ["-q", "-o", f"Acquire::http::Timeout={TIMEOUT_SECONDS}", "-o", "Acquire::Retries=1"]
    private = ["-o", f"Dir::State={folder}/state", "-o", f"Dir::State::Lists={folder}/state/lists",
               "-o", f"Dir::Cache={folder}/cache", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
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


def _run(command, folder):
    result = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise DataError(f"{command[0]}: {_one_line(result.stderr) or f'exit code {result.returncode}'}")


def _one_line(error):
    lines = str(error).split("\n")
    return next((line for line in reversed(lines) if line.strip()), "").strip()
