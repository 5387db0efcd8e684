"""A world for every case: synthetic data, a finished and an unfinished run."""

import shutil

import pytest
from matplotlib.figure import Figure

import plots
import train_cnn
from fmnist import runs, source
from tests import synthetic_data
from tests.hostile_input.cases import World, settings_are


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """One world, trained once, that the tests copy."""
    root = tmp_path_factory.mktemp("template")
    options = [
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
            synthetic_data.write_folder(root / "data", synthetic_data.made_arrays()),
        )
        patch.setenv("FASHION_MNIST_DIR", str(root / "data"))
        with patch.context() as inner:
            inner.setattr(runs, "finish", lambda run: None)
            assert train_cnn.main([*options, "--name", "unfinished"]) == 0
        shutil.copytree(root / "runs/unfinished", root / "runs/finished")
        runs.finish(root / "runs/finished")
        settings_are("finished", name="finished")(World(root, None, root / "runs/finished", None))
        settings_are("unfinished", epochs=5)(World(root, None, None, root / "runs/unfinished"))
        return root, source.FILES


@pytest.fixture
def world(template, no_data, tmp_path, monkeypatch):
    folder, files = template
    root = shutil.copytree(folder, tmp_path / "world")
    root.chmod(0o755)
    monkeypatch.setattr(source, "FILES", files)
    monkeypatch.setenv("FASHION_MNIST_DIR", "data")
    (root / "keras").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(root / "keras"))
    monkeypatch.chdir(root)
    quick = {"curves": Figure(figsize=(1, 1))}
    monkeypatch.setattr(plots, "evaluation_figures", lambda *arguments: quick)
    return World(root, root / "data", root / "runs/finished", root / "runs/unfinished")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = metafunc.module.CASES
        if not metafunc.config.getoption("--all-inputs"):
            # The first of each.
            cases = list({case.cause: case for case in reversed(cases)}.values())
        metafunc.parametrize(
            "case", cases, ids=[f"{case.cause} | {case.input}"[:80] for case in cases]
        )
