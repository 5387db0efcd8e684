"""Export a run, verify the exports on the test set, and keep those that agree with the network."""

import hashlib
import importlib.util
import json
import shutil
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras
import numpy as np

import data
from fmnist import atomic_io, cli, runs, runtime
from fmnist.evaluation import metrics
from fmnist.inference.numpy_predictor import predictor
from model import IMAGE_SHAPE
from tools.exporting.formats import FORMATS, Format, Predict

LARGEST_DIFFERENCE = 1e-4  # of a probability, for formats that compute in float32
LARGEST_ACCURACY_LOSS = 0.003  # for all formats
BATCH = 250
RECORD = "exports.json"
HEAD = (
    "format",
    "accuracy",
    "largest difference",
    "size, KB",
    "relative size",
    "time per image, ms",
)


class ExportError(cli.UserError):
    """An export failed or does not agree with the network."""


def export(
    run: Path, names: Collection[str], folder: Path, data_dir: str | None = None
) -> tuple[dict[str, dict], dict[str, str]]:
    """Export a run and return the rows and the error messages of the formats by name.

    exports.json lists the exports in the folder. Other formats from an earlier call are kept, with
    their rows, if they are of the same model; otherwise they are removed.

    Args:
        run: run directory.
        names: names of the formats.
        folder: folder for the exports.
        data_dir: folder with the four data files; None to find or download them.

    Raises:
        UserError: a DataError, RunError or ExportError.
    """
    config = runs.load_evaluation_config(run)
    model, dataset = runs.load_model(run), data.load_for_run(config, data_dir)
    runs.check_fingerprint(run, dataset)
    digest = hashlib.sha256((run / runs.MODEL).read_bytes()).hexdigest()
    before = load_record(folder / RECORD)
    images, labels = dataset.test
    expected, predict_one = in_batches(model.predict_on_batch, images), predictor(model)
    original = {
        "accuracy": metrics.accuracy(labels, expected),
        "difference": 0.0,
        "bytes": size(run / runs.MODEL),
        "latency_ms": metrics.latency(predict_one, IMAGE_SHAPE),
    }
    rows, failures = {}, {}
    if before["model_sha256"] == digest:
        rows = {
            name: row
            for name, row in before["formats"].items()
            if name in FORMATS and name not in names and (folder / FORMATS[name].path).exists()
        }
    with atomic_io.atomic_writes(folder) as temporary:
        for name in names:
            kind = FORMATS[name]
            path = temporary / kind.path
            print(f"Exporting {name}", flush=True)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with runtime.quiet(), warnings.catch_warnings(action="ignore"):
                    rows[name] = check(kind, model, path, dataset, expected, original)
            except ExportError as error:
                failures[name] = str(error)
                remove(path)
        rows = {"model.keras": original} | {name: rows[name] for name in FORMATS if name in rows}
        atomic_io.write_json(
            temporary / RECORD,
            {"run": str(run), "model_sha256": digest, "formats": rows, "failed": failures},
        )
    for name in (before["formats"].keys() | failures.keys()) & FORMATS.keys() - rows.keys():
        remove(folder / FORMATS[name].path)
    return rows, failures


def load_record(path: Path) -> dict[str, Any]:
    """Return the content of exports.json, empty if it is missing. Raises ExportError."""
    try:
        record = json.loads(path.read_text()) if path.exists() else {}
        return {
            "model_sha256": record.get("model_sha256"),
            "formats": dict(record.get("formats", {})),
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise ExportError(f"{path} is corrupt ({cli.one_line(error)}); remove it") from None


def check(
    kind: Format,
    model: keras.Model,
    path: Path,
    dataset: data.Dataset,
    expected: np.ndarray,
    original: dict[str, Any],
) -> dict[str, Any]:
    """Write an export, verify it and return its row.

    Args:
        kind: format of the export.
        model: network to export.
        path: path of the export.
        dataset: the data; its test set verifies the export.
        expected: class probabilities of the network on the test set, (N, 10).
        original: row of the network.

    Raises:
        ExportError: if the export fails, or does not agree with the network.
    """
    missing = [module for module in kind.modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ExportError(cli.not_installed(*missing))
    try:
        kind.write(model, path, dataset.train.images)
        probabilities = in_batches(kind.load(path, BATCH), dataset.test.images)
        predict_one = kind.load(path, 1)
        row = {
            "accuracy": metrics.accuracy(dataset.test.labels, probabilities),
            "difference": float(np.abs(probabilities - expected).max()),
            "bytes": size(path),
            "latency_ms": metrics.latency(lambda image: predict_one(image[None]), IMAGE_SHAPE),
        }
    except (MemoryError, OSError):
        raise
    except Exception as error:  # converters and runtimes raise many types
        raise ExportError(f"{type(error).__name__}: {cli.one_line(error)[:300]}") from error
    if kind.exact and not row["difference"] <= LARGEST_DIFFERENCE:
        raise ExportError(
            f"rejected: probabilities differ by up to {row['difference']:.1e} from those of "
            "model.keras"
        )
    if not row["accuracy"] >= original["accuracy"] - LARGEST_ACCURACY_LOSS:
        raise ExportError(
            f"rejected: the accuracy is {row['accuracy']:.2%}, that of model.keras "
            f"{original['accuracy']:.2%}"
        )
    return row


def in_batches(predict: Predict, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, 10) of images (N, 28, 28, 1), predicted in batches of BATCH.

    The last batch is padded, because some runtimes accept one batch size only.
    """
    padded = np.concatenate(
        [images, np.zeros((-len(images) % BATCH, *images.shape[1:]), images.dtype)]
    )
    return np.concatenate(
        [predict(padded[start : start + BATCH]) for start in range(0, len(padded), BATCH)]
    )[: len(images)]


def size(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    return sum(
        file.stat().st_size
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    )


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def table_rows(rows: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of the table with the head HEAD."""
    original_bytes = rows["model.keras"]["bytes"]
    return [
        (
            name,
            f"{row['accuracy']:.2%}",
            f"{row['difference']:.1e}",
            f"{row['bytes'] / 1000:,.0f}",
            f"{row['bytes'] / original_bytes:.0%}",
            f"{row['latency_ms']:.3f}",
        )
        for name, row in rows.items()
    ]
