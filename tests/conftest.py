"""Fixtures: made data in the place of Fashion-MNIST, a browser, the real set."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from fmnist import runs, runtime, source
from tests.synthetic_data import made_arrays, write_folder


def pytest_addoption(parser):
    parser.addoption(
        "--all-inputs", action="store_true", help="try every broken input, not one of every cause"
    )


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return  # this process only hands out tests to others
    # A shell that runs the tests in the background has them ignore Ctrl-C, which some of them send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runtime.configure_tensorflow(concurrent_operations=2)
    import tensorflow as tf

    tf.get_logger().disabled = (
        True  # it complains of many trainings in one process, which no script has
    )


def pytest_collection_modifyitems(items):
    """Start with the slow tests, so that processes that share the tests end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without Fashion-MNIST, without network and without apt."""
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(source, "DEBIAN_FOLDER", tmp_path / "usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(source, "MIRRORS", ((tmp_path / "no mirror").as_uri() + "/",))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


@pytest.fixture
def made_folder(no_data, monkeypatch, tmp_path):
    """A folder with made data, which data.py takes for the official one."""
    folder = tmp_path / "made"
    monkeypatch.setattr(source, "FILES", write_folder(folder, made_arrays()))
    return folder


@pytest.fixture
def made_data(made_folder, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(made_folder))
    return made_folder


@pytest.fixture
def unlearnable_data(made_data, monkeypatch):
    """Labels by chance: what is learnt of them makes every other image's loss higher."""
    monkeypatch.setattr(source, "FILES", write_folder(made_data, made_arrays(random_labels=True)))


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
    import plots

    monkeypatch.setattr(plots, "evaluation_figures", lambda *arguments: {})


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
    for folder in (os.environ.get("FASHION_MNIST_DIR"), cache, source.DEBIAN_FOLDER):
        if folder and (Path(folder) / "train-images-idx3-ubyte.gz").exists():
            return str(folder)
    pytest.skip("Fashion-MNIST is not installed")
