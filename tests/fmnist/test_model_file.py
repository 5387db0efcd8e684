import json
import sys
import zipfile

import keras
import pytest

from fmnist import model_file, runs
from model import build_model
from tests.saved_models import check_that_plain_keras_opens_them


def saved(tmp_path, **versions):
    """Save a network and a config.json with other package versions; return the run."""
    model = build_model("dropout_cnn", width=0.1)
    model_file.save(model, tmp_path / runs.MODEL)
    config = {"versions": {"keras": keras.__version__, "tensorflow": "2.0", **versions}}
    (tmp_path / runs.CONFIG).write_text(json.dumps(config))
    return tmp_path


def change(path, **changes):
    """Change files of the archive model.keras: the content is a function of the old one."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name).decode("latin1") for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            content = changes.get(name.partition(".")[0], str)(content)
            archive.writestr(name, content.encode("latin1"))


def with_unknown_argument(config):
    return config.replace('"filters"', '"argument_of_the_future": 1, "filters"', 1)


def with_version(version):
    return lambda metadata: metadata.replace(keras.__version__, version)


@pytest.mark.slow
def test_plain_keras_opens_saved_networks_without_a_warning(tmp_path):
    names = ("dropout_cnn", "gap_cnn", "ensemble")  # make test-old-keras tests the others
    check_that_plain_keras_opens_them(sys.executable, tmp_path, names)


def test_the_file_has_no_argument_that_older_versions_reject(tmp_path):
    path = saved(tmp_path) / runs.MODEL
    with zipfile.ZipFile(path) as archive:
        text = archive.read(model_file.CONFIG).decode()
    assert [name for name in model_file.NEW_ARGUMENTS if name in text] == []
    assert model_file.keras_version(path) == keras.__version__


def test_a_new_argument_that_is_not_the_default_is_kept(tmp_path):
    layer = keras.layers.BatchNormalization(renorm=True)
    model_file.save(keras.Sequential([keras.Input((3,)), layer]), tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].renorm


def test_the_error_for_a_file_of_a_newer_keras_names_both_versions(tmp_path):
    run = saved(tmp_path)
    change(run / runs.MODEL, config=with_unknown_argument, metadata=with_version("99.1.0"))
    expected = rf'keras 99.1.0, and {keras.__version__} is installed.*pip install "keras>=99.1.0"'
    with pytest.raises(runs.RunError, match=expected) as caught:
        runs.load_model(run)
    assert "corrupt" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["keras", "tensorflow"])
def test_the_error_uses_the_versions_in_the_config(tmp_path, package):
    run = saved(tmp_path, **{package: "99.1.0"})
    change(run / runs.MODEL, config=with_unknown_argument, metadata=lambda text: "{}")
    with pytest.raises(runs.RunError, match=rf"saved with {package} 99.1.0"):
        runs.load_model(run)


def test_a_file_of_an_older_keras_that_cannot_be_opened_is_corrupt(tmp_path):
    run = saved(tmp_path)
    change(run / runs.MODEL, config=with_unknown_argument, metadata=with_version("3.0.0"))
    with pytest.raises(runs.RunError, match="is corrupt .*; saved with Keras 3.0.0"):
        runs.load_model(run)


@pytest.mark.parametrize("version", ["", "x", [], None, 3])
def test_invalid_versions_are_ignored(tmp_path, version):
    run = saved(tmp_path, keras=version, tensorflow=version)
    change(run / runs.MODEL, config=with_unknown_argument, metadata=lambda text: "[]")
    with pytest.raises(runs.RunError, match="is corrupt"):
        runs.load_model(run)


def test_a_truncated_file_of_a_newer_keras_is_corrupt(tmp_path):
    run = saved(tmp_path, keras="99.1.0")
    (run / runs.MODEL).write_bytes((run / runs.MODEL).read_bytes()[:5000])
    with pytest.raises(runs.RunError, match="is corrupt"):
        runs.load_model(run)
