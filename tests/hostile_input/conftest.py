"""Fixtures for hostile inputs: synthetic data, a finished and an unfinished run."""

import shutil

import pytest
from matplotlib.figure import Figure

import plots
import train_cnn
from fmnist import runs, source
from tests import synthetic_data
from tests.hostile_input.cases import Environment, change_settings


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Create the environment that the tests copy. The network is trained once."""
    root = tmp_path_factory.mktemp("template")
    options = [
        *synthetic_data.OPTIONS,
        "--val-size",
        "100",
        "--batch-size",
        "100",
        "--runs-dir",
        str(root / "runs"),
        "--model",
        "lenet_l2",
        "--epochs",
        "3",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            source,
            "FILES",
            synthetic_data.write_dataset(root / "data", synthetic_data.make_arrays()),
        )
        patch.setenv("FASHION_MNIST_DIR", str(root / "data"))
        with patch.context() as inner:
            inner.setattr(runs, "finish", lambda run: None)
            assert train_cnn.main([*options, "--name", "unfinished"]) == 0
        shutil.copytree(root / "runs/unfinished", root / "runs/finished")
        runs.finish(root / "runs/finished")
        change_settings("finished", name="finished")(
            Environment(root, None, root / "runs/finished", None)
        )
        change_settings("unfinished", epochs=5)(
            Environment(root, None, None, root / "runs/unfinished")
        )
        return root, source.FILES


@pytest.fixture
def environment(template, no_data, tmp_path, monkeypatch):
    folder, files = template
    root = shutil.copytree(folder, tmp_path / "environment")
    root.chmod(0o755)
    monkeypatch.setattr(source, "FILES", files)
    monkeypatch.setenv("FASHION_MNIST_DIR", "data")
    (root / "keras").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(root / "keras"))
    monkeypatch.chdir(root)
    small_figure = {"curves": Figure(figsize=(1, 1))}
    monkeypatch.setattr(plots, "evaluation_figures", lambda *arguments: small_figure)
    return Environment(root, root / "data", root / "runs/finished", root / "runs/unfinished")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = metafunc.module.CASES
        if not metafunc.config.getoption("--all-inputs"):
            # Keep the first case of every cause.
            cases = list({case.cause: case for case in reversed(cases)}.values())
        metafunc.parametrize(
            "case", cases, ids=[f"{case.cause} | {case.input}"[:80] for case in cases]
        )
