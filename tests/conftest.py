"""Small made data that stands in for Fashion-MNIST, with check sums of its own."""

import contextlib
import gzip
import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

import data  # noqa: E402
import engine  # noqa: E402
import evaluate_model  # noqa: E402
import runs  # noqa: E402

TRAIN, TEST = 600, 200


def pytest_addoption(parser):
    parser.addoption("--torture", action="store_true", help="try every broken input, not one of every cause")


def pytest_configure(config):
    if config.option.numprocesses and not hasattr(config, "workerinput"):
        return  # this process only hands out tests to others
    # A shell that runs the tests in the background has them ignore Ctrl-C, which some of them send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    engine.start()
    import tensorflow as tf

    tf.get_logger().disabled = True  # it complains of many trainings in one process, which no script has


def made_arrays(seed=0, random_labels=False):
    """Ten classes of noisy stripes, that a network learns in an epoch; no two images are equal."""
    rng = np.random.default_rng(seed)
    arrays = []
    for count in (TRAIN, TEST):
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for image, label in zip(images, labels):
            image[2 * label + 2:2 * label + 6] += 190
        if random_labels:
            labels = rng.permutation(labels)
        arrays += [images, labels]
    arrays[-1][::20] = (arrays[-1][::20] + 1) % 10  # some mistakes for the figures to show
    return arrays


def idx_bytes(array):
    return np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes() + array.tobytes()


def write_folder(folder, arrays):
    """Write the four files and return what data.FILES has to say of them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, array in zip(data.FILES, arrays):
        content = idx_bytes(array)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        files[name] = data.File(array.shape, hashlib.sha256(content).hexdigest())
    return files


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without Fashion-MNIST, without network and without apt."""
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(data, "MIRRORS", ((tmp_path / "no mirror").as_uri() + "/",))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


@pytest.fixture
def made_folder(no_data, monkeypatch, tmp_path):
    """A folder with made data, which data.py takes for the official one."""
    folder = tmp_path / "made"
    monkeypatch.setattr(data, "FILES", write_folder(folder, made_arrays()))
    return folder


@pytest.fixture
def made_data(made_folder, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(made_folder))
    return made_folder


@pytest.fixture
def unlearnable_data(made_data, monkeypatch):
    """Labels by chance: what is learnt of them makes every other image's loss higher."""
    monkeypatch.setattr(data, "FILES", write_folder(made_data, made_arrays(random_labels=True)))


@pytest.fixture
def interrupted_after_an_epoch(monkeypatch):
    """A context in which Ctrl-C comes as soon as an epoch is saved."""
    @contextlib.contextmanager
    def interrupted():
        save_epoch = runs.save_epoch

        def interrupt(*arguments):
            save_epoch(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(runs, "save_epoch", interrupt)
            yield

    return interrupted


@pytest.fixture
def no_figures(monkeypatch):
    """Spare an evaluation the seconds that drawing takes."""
    monkeypatch.setattr(evaluate_model, "draw", lambda *arguments: {})
    monkeypatch.setattr(evaluate_model, "page", lambda *arguments: "")


@pytest.fixture
def browser():
    """Skips where there is none on this machine."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def real_data():
    """Skips where Fashion-MNIST is not on this machine: tests download nothing."""
    cache = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets/fashion-mnist"
    for folder in (os.environ.get("FASHION_MNIST_DIR"), cache, data.DEBIAN_FOLDER):
        if folder and (Path(folder) / "train-images-idx3-ubyte.gz").exists():
            return str(folder)
    pytest.skip("Fashion-MNIST is not installed")
