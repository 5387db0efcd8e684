import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import data
import train_cnn
from fmnist import runs
from tests import ROOT
from tools import export_model
from tools.exporting import export, formats


@pytest.fixture
def run(made_data, tmp_path):
    """A trained run that tests must leave as it is."""
    keep = tmp_path.parent / "exporting"
    if not keep.exists():
        options = [
            "--model",
            "gap_cnn",
            "--val-size",
            "100",
            "--epochs",
            "4",
            "--batch-size",
            "50",
            "--ema-epochs",
            "0",
            "--patience",
            "0",
            "--runs-dir",
            str(keep),
            "--name",
            "run",
        ]
        assert train_cnn.main(options) == 0
    return keep / "run"


@pytest.mark.slow
def test_every_format_agrees_in_its_own_runtime(run, tmp_path, capfd):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("ai_edge_litert")
    out = tmp_path / "exports"
    assert export_model.main(["--run", str(run), "--output-dir", str(out)]) == 0
    printed, err = capfd.readouterr()
    assert err == ""
    said = json.loads((out / "exports.json").read_text())
    assert said["failed"] == {} and list(said["formats"]) == ["model.keras", *export.FORMATS]
    for name, row in said["formats"].items():
        assert name in printed
        if name in export.FORMATS and export.FORMATS[name].exact:
            assert (
                row["difference"] <= 1e-4
                and row["accuracy"] == said["formats"]["model.keras"]["accuracy"]
            )
    # Less in larger networks.
    assert said["formats"]["litert_int8"]["bytes"] <= 0.4 * said["formats"]["litert"]["bytes"]
    # What is kept answers as the model does, in a process that knows nothing of this project.
    image = data.load(val_size=100).test.images[:1]
    expected = runs.load_model(run).predict(image, verbose=0)[0]
    code = (
        "import numpy, onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(out / 'model.onnx')!r})\n"
        f"image = numpy.array({image.ravel().tolist()}, numpy.float32).reshape(1, 28, 28, 1)\n"
        "print(*session.run(None, {session.get_inputs()[0].name: image})[0][0])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    np.testing.assert_allclose(list(map(float, answer.split())), expected, atol=1e-5)


@pytest.mark.slow
def test_an_export_that_does_not_agree_is_not_kept(run, tmp_path, monkeypatch, capsys):
    load = formats.load_saved_model

    def wrong(path, batch):
        right = load(path, batch)
        return lambda images: right(images) + np.float32(2e-4)

    monkeypatch.setitem(
        export.FORMATS, "saved_model", export.FORMATS["saved_model"]._replace(load=wrong)
    )
    assert (
        export_model.main(
            ["--run", str(run), "--formats", "saved_model", "--output-dir", str(tmp_path / "out")]
        )
        == 1
    )
    assert "saved_model: it differs by up to 2.0e-04" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [
        "exports.json"
    ]


@pytest.fixture
def stand_ins(monkeypatch):
    """Exports that are made in no time."""
    for name, kind in export.FORMATS.items():
        monkeypatch.setitem(
            export.FORMATS,
            name,
            kind._replace(
                modules=(),
                exact=False,
                write=lambda model, path, images: path.write_bytes(b"an export"),
                load=lambda path, batch: (
                    lambda images: np.eye(10, dtype=np.float32)[:1].repeat(len(images), axis=0)
                ),
            ),
        )
    monkeypatch.setattr(export, "LARGEST_LOSS", 1)


@pytest.mark.slow
def test_other_formats_of_the_same_model_stay_and_those_of_another_go(
    run, stand_ins, tmp_path, capsys
):
    def run_export(*formats, of=run, code=0):
        assert (
            export_model.main(
                ["--run", str(of), "--output-dir", str(tmp_path / "out"), "--formats", *formats]
            )
            == code
        )
        said = json.loads((tmp_path / "out/exports.json").read_text())["formats"]
        return list(said)[1:], sorted(path.name for path in (tmp_path / "out").glob("model*"))

    (tmp_path / "out").mkdir()
    (tmp_path / "out/model_int8.tflite").write_bytes(b"of no export")
    assert run_export("onnx") == (["onnx"], ["model.onnx", "model_int8.tflite"])
    assert run_export("litert") == (
        ["onnx", "litert"],
        ["model.onnx", "model.tflite", "model_int8.tflite"],
    )
    (tmp_path / "out/model.onnx").unlink()
    assert run_export("litert") == (["litert"], ["model.tflite", "model_int8.tflite"])
    assert run_export("onnx") == (
        ["onnx", "litert"],
        ["model.onnx", "model.tflite", "model_int8.tflite"],
    )
    other = shutil.copytree(run, tmp_path / "other")
    network = runs.load_model(other)
    network.layers[-1].bias.assign(np.arange(10))
    network.save(other / runs.MODEL)
    assert run_export("litert", of=other) == (["litert"], ["model.tflite", "model_int8.tflite"])
    (tmp_path / "out/exports.json").write_text("{")
    assert export_model.main(["--run", str(run), "--output-dir", str(tmp_path / "out")]) == 1
    assert "exports.json is broken" in capsys.readouterr().err


def test_one_that_fails_does_not_stop_the_others_and_a_missing_package_is_named(
    run, tmp_path, monkeypatch, capsys
):
    def fail(model, path, images):
        path.write_bytes(b"half")
        raise ValueError("no such operation")

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "tf2onnx" else find(name, *rest),
    )
    monkeypatch.setitem(
        export.FORMATS, "litert", export.FORMATS["litert"]._replace(modules=(), write=fail)
    )
    options = [
        "--run",
        str(run),
        "--formats",
        "litert",
        "onnx",
        "saved_model",
        "--output-dir",
        str(tmp_path / "out"),
    ]
    assert export_model.main(options) == 1
    err = capsys.readouterr().err
    assert "litert: ValueError: no such operation" in err
    assert 'onnx: not installed: tf2onnx; try: python -m pip install -e ".[export]"' in err
    assert err.count("\n") == 1
    assert (tmp_path / "out/saved_model/1/saved_model.pb").exists()
    assert not (tmp_path / "out/model.tflite").exists()


def test_what_loses_accuracy_is_not_kept(run, tmp_path, monkeypatch, capsys):
    def guess(path, batch):
        return lambda images: np.full((len(images), 10), 0.1, np.float32)

    kind = export.FORMATS["saved_model"]._replace(
        write=lambda *arguments: None, load=guess, exact=False
    )
    monkeypatch.setitem(export.FORMATS, "saved_model", kind)
    assert (
        export_model.main(
            ["--run", str(run), "--formats", "saved_model", "--output-dir", str(tmp_path / "out")]
        )
        == 1
    )
    assert "accurate, and is not kept" in capsys.readouterr().err


def test_impossible_options_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        export_model.parse_options(["--formats", "caffe"])
    assert stop.value.code == 2
    assert export_model.main(["--run", str(tmp_path)]) == 1
    assert "not a run directory" in capsys.readouterr().err


def test_what_comes_with_the_project_is_left_as_it_is(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in ("pretrained/best", runs.PRETRAINED):
        assert export_model.default_folder(Path(path), "runs") == Path("runs/exports")
    assert export_model.default_folder(Path("runs/mine"), "runs") == Path("runs/mine/exports")


def test_any_number_of_images_goes_in_batches_of_one_size():
    seen = []

    def predict(images):
        seen.append(len(images))
        return images.reshape(len(images), -1)[:, :2]

    images = np.arange(251 * 784, dtype=np.float32).reshape(251, 28, 28, 1)
    np.testing.assert_array_equal(
        export.in_batches(predict, images), images.reshape(251, -1)[:, :2]
    )
    assert seen == [250, 250]
