"""Fixtures: synthetic data that replaces Fashion-MNIST, the real data set, a browser."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from fmnist import runs, runtime, source
from tests.synthetic_data import make_arrays, write_dataset

# make test-old-keras sets the variable and runs this file only.
collect_ignore = [] if "OLD_KERAS_PYTHON" in os.environ else ["test_old_keras.py"]


def pytest_addoption(parser):
    parser.addoption(
        "--all-inputs",
        action="store_true",
        help="test all hostile inputs (default: one input per cause)",
    )


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return  # pytest-xdist: this process runs no tests
    # A shell makes background processes ignore SIGINT, but some tests send it to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No figure of a command may depend on these settings of a user.
    os.environ["MPLBACKEND"] = "not_installed"
    runtime.configure_tensorflow(concurrent_operations=2)
    import matplotlib
    import tensorflow as tf

    matplotlib.rcParams["text.usetex"] = True  # without LaTeX, every text fails

    # TensorFlow warns of retracing, because the tests train many models in one process.
    tf.get_logger().disabled = True


def pytest_collection_modifyitems(items):
    """Run the slow tests first, so that parallel processes finish at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """Simulate a machine without Fashion-MNIST, network and apt."""
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(source, "DEBIAN_FOLDER", tmp_path / "usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(source, "MIRRORS", ((tmp_path / "no mirror").as_uri() + "/",))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


@pytest.fixture
def synthetic_data_dir(no_data, monkeypatch, tmp_path):
    """Return a folder with synthetic data that data.py accepts as Fashion-MNIST."""
    folder = tmp_path / "synthetic"
    monkeypatch.setattr(source, "FILES", write_dataset(folder, make_arrays()))
    return folder


@pytest.fixture
def synthetic_dataset(synthetic_data_dir, monkeypatch):
    """Return the folder with synthetic data, which is also set as the default of --data-dir."""
    monkeypatch.setenv("FASHION_MNIST_DIR", str(synthetic_data_dir))
    return synthetic_data_dir


@pytest.fixture
def random_label_dataset(synthetic_dataset, monkeypatch):
    """Synthetic data with random labels: training increases the validation loss."""
    monkeypatch.setattr(
        source, "FILES", write_dataset(synthetic_dataset, make_arrays(random_labels=True))
    )


@pytest.fixture
def interrupt_after_first_epoch(monkeypatch):
    """Return a context manager in which Ctrl-C occurs after the first epoch is saved."""

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
    """Skip the figures of an evaluation, which take several seconds."""
    import plots

    monkeypatch.setattr(plots, "evaluation_figures", lambda *arguments: {})


@pytest.fixture(autouse=True)
def figures_without_markup(monkeypatch):
    """Fail if the labels of a saved figure are markup, which Matplotlib does not interpret here."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    savefig = Figure.savefig

    def checked_savefig(figure, *arguments, **options):
        savefig(figure, *arguments, **options)
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert not [text for text in texts if "\\mathdefault" in text]

    monkeypatch.setattr(Figure, "savefig", checked_savefig)


@pytest.fixture
def default_style():
    """Draw figures with the default settings of Matplotlib, for tests of single figures."""
    from fmnist import figure_style

    with figure_style.default_style():
        yield


@pytest.fixture
def browser():
    """Return a Chromium browser; skip the test if none is installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def real_data():
    """Return the folder of Fashion-MNIST; skip the test if it is not installed."""
    cache = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets/fashion-mnist"
    for folder in (os.environ.get("FASHION_MNIST_DIR"), cache, source.DEBIAN_FOLDER):
        if folder and (Path(folder) / "train-images-idx3-ubyte.gz").exists():
            return str(folder)
    pytest.skip("Fashion-MNIST is not installed")
