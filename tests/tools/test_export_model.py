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
from tests.synthetic_data import OPTIONS
from tools import export_model
from tools.exporting import export, formats


@pytest.fixture
def run(synthetic_dataset, tmp_path):
    """A trained run, shared by the tests, which must not change it."""
    keep = tmp_path.parent / "exporting"
    if not keep.exists():
        options = [
            *OPTIONS,
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
def test_every_format_agrees_with_the_network_in_its_own_runtime(run, tmp_path, capfd):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("ai_edge_litert")
    out = tmp_path / "exports"
    assert export_model.main(["--run", str(run), "--output-dir", str(out)]) == 0
    printed, err = capfd.readouterr()
    assert err == ""
    record = json.loads((out / "exports.json").read_text())
    assert record["failed"] == {} and list(record["formats"]) == ["model.keras", *export.FORMATS]
    for name, row in record["formats"].items():
        assert name in printed
        if name in export.FORMATS and export.FORMATS[name].exact:
            assert (
                row["difference"] <= 1e-4
                and row["accuracy"] == record["formats"]["model.keras"]["accuracy"]
            )
    # The fraction is smaller for larger networks.
    assert record["formats"]["litert_int8"]["bytes"] <= 0.4 * record["formats"]["litert"]["bytes"]
    # The export predicts the same in a process that cannot import this project.
    image = data.load(val_size=100).test.images[:1]
    expected = runs.load_model(run).predict(image, verbose=0)[0]
    code = (
        "import numpy, onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(out / 'model.onnx')!r})\n"
        f"image = numpy.array({image.ravel().tolist()}, numpy.float32).reshape(1, 28, 28, 1)\n"
        "print(*session.run(None, {session.get_inputs()[0].name: image})[0][0])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    np.testing.assert_allclose(list(map(float, output.split())), expected, atol=1e-5)


@pytest.mark.slow
def test_an_export_with_other_probabilities_is_rejected(run, tmp_path, monkeypatch, capsys):
    load = formats.load_saved_model

    def load_with_error(path, batch):
        predict = load(path, batch)
        return lambda images: predict(images) + np.float32(2e-4)

    monkeypatch.setitem(
        export.FORMATS, "saved_model", export.FORMATS["saved_model"]._replace(load=load_with_error)
    )
    assert (
        export_model.main(
            ["--run", str(run), "--formats", "saved_model", "--output-dir", str(tmp_path / "out")]
        )
        == 1
    )
    assert "saved_model: rejected: probabilities differ by up to 2.0e-04" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [
        "exports.json"
    ]


@pytest.fixture
def fake_exports(monkeypatch):
    """Export formats that write a constant file at once."""
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
    monkeypatch.setattr(export, "LARGEST_ACCURACY_LOSS", 1)


@pytest.mark.slow
def test_other_formats_are_kept_if_they_are_of_the_same_model(run, fake_exports, tmp_path, capsys):
    def run_export(*names, source=run, code=0):
        assert (
            export_model.main(
                ["--run", str(source), "--output-dir", str(tmp_path / "out"), "--formats", *names]
            )
            == code
        )
        formats = json.loads((tmp_path / "out/exports.json").read_text())["formats"]
        return list(formats)[1:], sorted(path.name for path in (tmp_path / "out").glob("model*"))

    (tmp_path / "out").mkdir()
    (tmp_path / "out/model_int8.tflite").write_bytes(b"not an export")
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
    assert run_export("litert", source=other) == (["litert"], ["model.tflite", "model_int8.tflite"])
    (tmp_path / "out/exports.json").write_text("{")
    assert export_model.main(["--run", str(run), "--output-dir", str(tmp_path / "out")]) == 1
    assert "exports.json is corrupt" in capsys.readouterr().err


def test_a_failing_format_does_not_stop_the_others_and_a_missing_package_is_named(
    run, tmp_path, monkeypatch, capsys
):
    def fail(model, path, images):
        path.write_bytes(b"incomplete")
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
    assert 'onnx: not installed: tf2onnx; run: python -m pip install -e ".[export]"' in err
    assert err.count("\n") == 1
    assert (tmp_path / "out/saved_model/1/saved_model.pb").exists()
    assert not (tmp_path / "out/model.tflite").exists()


def test_an_export_with_a_lower_accuracy_is_rejected(run, tmp_path, monkeypatch, capsys):
    def load_uniform(path, batch):
        return lambda images: np.full((len(images), 10), 0.1, np.float32)

    kind = export.FORMATS["saved_model"]._replace(
        write=lambda *arguments: None, load=load_uniform, exact=False
    )
    monkeypatch.setitem(export.FORMATS, "saved_model", kind)
    assert (
        export_model.main(
            ["--run", str(run), "--formats", "saved_model", "--output-dir", str(tmp_path / "out")]
        )
        == 1
    )
    assert "saved_model: rejected: the accuracy is" in capsys.readouterr().err


def test_invalid_options_are_rejected(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        export_model.parse_options(["--formats", "caffe"])
    assert stop.value.code == 2
    assert export_model.main(["--run", str(tmp_path)]) == 1
    assert "not a run directory" in capsys.readouterr().err


def test_exports_of_the_pretrained_run_are_saved_outside_of_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in ("pretrained/best", runs.BEST):
        assert export_model.default_folder(Path(path), "runs") == Path("runs/exports")
    assert export_model.default_folder(Path("runs/mine"), "runs") == Path("runs/mine/exports")


def test_any_number_of_images_is_predicted_in_batches_of_one_size():
    batch_sizes = []

    def predict(images):
        batch_sizes.append(len(images))
        return images.reshape(len(images), -1)[:, :2]

    images = np.arange(251 * 784, dtype=np.float32).reshape(251, 28, 28, 1)
    np.testing.assert_array_equal(
        export.in_batches(predict, images), images.reshape(251, -1)[:, :2]
    )
    assert batch_sizes == [250, 250]
