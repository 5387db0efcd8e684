"""Export a trained network for other runtimes, run each export on the test images, and keep those that agree.

    python -m tools.export_model                          the newest finished run, else pretrained/best, in all formats
    python -m tools.export_model --run runs/my_run --formats onnx litert_int8

    saved_model     a TensorFlow SavedModel in the layout of TensorFlow Serving
    onnx            for ONNX Runtime
    litert          for LiteRT, once TensorFlow Lite
    litert_int8     the same with weights and activations of 8 bits, a quarter of the size; images and probabilities are float

All take images (N, 28, 28, 1) in [0, 1] and give probabilities (N, 10), those of model.keras: without test-time flips and
without the temperature of evaluate_model.py. Leaves those that agree, and exports.json, in the folder exports of the run.
"""

import hashlib
import importlib.util
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from fmnist import runtime

import numpy as np

from tools import compare_models
import data
import evaluate_model
from fmnist import atomic_io
from fmnist.evaluation import metrics
from tools import predict_image
from fmnist import runs

LARGEST_DIFFERENCE = 1e-4  # of a probability, of what computes in float32
LARGEST_LOSS = 0.003  # of accuracy, of what does not
CALIBRATION = 500  # training images that tell the range of the activations
BATCH = 250
RECORD = "exports.json"
HEAD = ("", "accuracy", "largest difference", "size, KB", "of model.keras", "one image, ms")


class ExportError(Exception):
    """An export failed, or does not agree. One line, for the user."""


class Format(NamedTuple):
    """path: in exports/; modules: that write and run it; write: of model, path and training images; load: a function of
    a path and a batch size that returns a function of images; exact: whether it computes in float32."""

    path: str
    modules: tuple
    write: object
    load: object
    exact: bool


def write_saved_model(model, path, images):
    model.export(path, format="tf_saved_model", verbose=False)


def load_saved_model(path, batch):
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    name, = serve.structured_outputs
    return lambda images: serve(tf.constant(images))[name].numpy()


def write_onnx(model, path, images):
    model.export(path, format="onnx", verbose=False)


def load_onnx(path, batch):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image, = session.get_inputs()
    return lambda images: session.run(None, {image.name: images})[0]


def write_litert(model, path, images):
    model.export(path, format="litert", verbose=False)


def write_litert_int8(model, path, images):
    import tensorflow as tf

    model.export(path, format="litert", verbose=False, optimizations=[tf.lite.Optimize.DEFAULT],
                 representative_dataset=lambda: ([image[None]] for image in images[:CALIBRATION]))


def load_litert(path, batch):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=runtime.cores())
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(image["index"], (batch, *image["shape"][1:]))
    interpreter.allocate_tensors()

    def run(images):
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    return run


FORMATS = {
    "saved_model": Format("saved_model/1", (), write_saved_model, load_saved_model, exact=True),
    "onnx": Format("model.onnx", ("tf2onnx", "onnx", "onnxruntime"), write_onnx, load_onnx, exact=True),
    "litert": Format("model.tflite", ("ai_edge_litert",), write_litert, load_litert, exact=True),
    "litert_int8": Format("model_int8.tflite", ("ai_edge_litert",), write_litert_int8, load_litert, exact=False),
}


def export(run, names, folder, data_dir=None):
    """Write the exports of a run that agree with it into a folder, and exports.json. Return rows, and failures by name.

    The folder then holds what exports.json says. Other formats that an earlier call left stay if they are of the same
    model, and have rows as well, or else go.
    Raises data.DataError, runs.RunError and ExportError.
    """
    config = evaluate_model.checked_config(run)
    runtime.start()
    from model import predictor

    model, dataset = runs.load_model(run), evaluate_model.data_of(config, data_dir)
    evaluate_model.check_fit(run, model, config, dataset)
    digest = hashlib.sha256((run / runs.MODEL).read_bytes()).hexdigest()
    before = exported_before(folder / RECORD)
    images, labels = dataset.test
    expected, predict_one = in_batches(model.predict_on_batch, images), predictor(model)
    original = {"accuracy": metrics.accuracy(labels, expected), "difference": 0.0, "bytes": size(run / runs.MODEL),
                "latency_ms": compare_models.latency(predict_one)}
    rows, failures = {}, {}
    if before["model_sha256"] == digest:
        rows = {name: row for name, row in before["formats"].items()
                if name in FORMATS and name not in names and (folder / FORMATS[name].path).exists()}
    with atomic_io.whole_files(folder) as unfinished:
        for name in names:
            kind = FORMATS[name]
            path = unfinished / kind.path
            print(f"Exporting {name}", flush=True)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with runtime.quiet(), warnings.catch_warnings(action="ignore"):
                    rows[name] = check(kind, model, path, dataset, expected, original)
            except ExportError as error:
                failures[name] = str(error)
                remove(path)
        rows = {"model.keras": original} | {name: rows[name] for name in FORMATS if name in rows}
        atomic_io.write_json(unfinished / RECORD,
                         {"run": str(run), "model_sha256": digest, "formats": rows, "failed": failures})
    for name in (before["formats"].keys() | failures.keys()) & FORMATS.keys() - rows.keys():
        remove(folder / FORMATS[name].path)
    return rows, failures


def exported_before(path):
    """Return what exports.json says, or the same of nothing where there is none. Raises ExportError."""
    try:
        said = json.loads(path.read_text()) if path.exists() else {}
        return {"model_sha256": said.get("model_sha256"), "formats": dict(said.get("formats", {}))}
    except (ValueError, AttributeError, TypeError) as error:
        raise ExportError(f"{path} is broken ({runtime.one_line(error)}); remove it") from None


def check(kind, model, path, dataset, expected, original):
    """Write an export and return its row. Raises ExportError where it cannot be made, or does not agree."""
    missing = [module for module in kind.modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ExportError(f"not installed: {', '.join(missing)}; try: python -m pip install -r requirements-export.txt")
    try:
        kind.write(model, path, dataset.train.images)
        answers = in_batches(kind.load(path, BATCH), dataset.test.images)
        predict_one = kind.load(path, 1)
        row = {"accuracy": metrics.accuracy(dataset.test.labels, answers),
               "difference": float(np.abs(answers - expected).max()), "bytes": size(path),
               "latency_ms": compare_models.latency(lambda image: predict_one(image[None]))}
    except (MemoryError, OSError):
        raise
    except Exception as error:  # whatever a converter or a runtime raises
        raise ExportError(f"{type(error).__name__}: {runtime.one_line(error)[:300]}") from error
    if kind.exact and not row["difference"] <= LARGEST_DIFFERENCE:
        raise ExportError(f"it differs by up to {row['difference']:.1e} from model.keras, and is not kept")
    if not row["accuracy"] >= original["accuracy"] - LARGEST_LOSS:
        raise ExportError(f"it is only {row['accuracy']:.2%} accurate, and is not kept")
    return row


def in_batches(predict, images):
    """Return the probabilities (N, 10) of a number of images that BATCH divides or not."""
    padded = np.concatenate([images, np.zeros((-len(images) % BATCH, *images.shape[1:]), images.dtype)])
    return np.concatenate([predict(padded[start:start + BATCH]) for start in range(0, len(padded), BATCH)])[:len(images)]


def size(path):
    """Return the bytes of a file, or of all in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def default_folder(run, runs_dir):
    """Return where the exports of a run go: into it, but for the one that comes with the project."""
    pretrained = run.resolve() == predict_image.PRETRAINED.resolve()
    return (Path(runs_dir) if pretrained else run) / "exports"


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def table_rows(rows):
    """Return the rows of the table with the columns HEAD."""
    whole = rows["model.keras"]["bytes"]
    return [(name, f"{row['accuracy']:.2%}", f"{row['difference']:.1e}", f"{row['bytes'] / 1000:,.0f}",
             f"{row['bytes'] / whole:.0%}", f"{row['latency_ms']:.3f}") for name, row in rows.items()]


def parse_options(argv=None):
    parser = runtime.Parser(__doc__)
    add = parser.add_argument
    predict_image.add_run_options(parser)
    add("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="FORMAT",
        help=f"some of {', '.join(FORMATS)} (all)")
    add("--data-dir", type=runtime.path_option, help="folder with the four files (FASHION_MNIST_DIR, or found and fetched)")
    add("--output-dir", type=runtime.path_option, help="where the exports are written (exports in the run, or in --runs-dir)")
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_options(argv)

    def work():
        run = predict_image.chosen_run(options.run, options.runs_dir)
        print(f"Run: {run}")
        folder = Path(options.output_dir or default_folder(run, options.runs_dir))
        rows, failures = export(run, dict.fromkeys(options.formats), folder, options.data_dir)
        print()
        evaluate_model.print_table(HEAD, table_rows(rows))
        kept = [str(folder / FORMATS[name].path) for name in options.formats if name in rows]
        if kept:
            print(f"Saved {', '.join(kept)}")
        if failures:
            raise ExportError("; ".join(f"{name}: {reason}" for name, reason in failures.items()))

    return runtime.exit_code("export_model.py", work, (data.DataError, runs.RunError, ExportError))


if __name__ == "__main__":
    sys.exit(main())
