"""Exports of a run: written, run on the test images, and kept where they agree with the network."""

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

LARGEST_DIFFERENCE = 1e-4  # of a probability, of what computes in float32
LARGEST_LOSS = 0.003  # of accuracy, of what does not
BATCH = 250
RECORD = "exports.json"
HEAD = ("", "accuracy", "largest difference", "size, KB", "of model.keras", "one image, ms")


class ExportError(cli.UserError):
    """An export failed, or does not agree."""


def export(
    run: Path, names: Collection[str], folder: Path, data_dir: str | None = None
) -> tuple[dict[str, dict], dict[str, str]]:
    """Write the exports that agree with a run. Return their rows, and failures by name.

    The folder then holds what exports.json says. Other formats that an earlier call left stay if
    they are of the same model, and have rows as well, or else go. Raises DataError, RunError and
    ExportError.
    """
    config = runs.load_evaluation_config(run)
    model, dataset = runs.load_model(run), data.load_for_run(config, data_dir)
    runs.check_fingerprint(run, dataset)
    digest = hashlib.sha256((run / runs.MODEL).read_bytes()).hexdigest()
    before = exported_before(folder / RECORD)
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
    with atomic_io.atomic_writes(folder) as unfinished:
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
        atomic_io.write_json(
            unfinished / RECORD,
            {"run": str(run), "model_sha256": digest, "formats": rows, "failed": failures},
        )
    for name in (before["formats"].keys() | failures.keys()) & FORMATS.keys() - rows.keys():
        remove(folder / FORMATS[name].path)
    return rows, failures


def exported_before(path: Path) -> dict[str, Any]:
    """Return what exports.json holds, or nothing where there is none. Raises ExportError."""
    try:
        record = json.loads(path.read_text()) if path.exists() else {}
        return {
            "model_sha256": record.get("model_sha256"),
            "formats": dict(record.get("formats", {})),
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise ExportError(f"{path} is broken ({cli.one_line(error)}); remove it") from None


def check(
    kind: Format,
    model: keras.Model,
    path: Path,
    dataset: data.Dataset,
    expected: np.ndarray,
    original: dict[str, Any],
) -> dict[str, Any]:
    """Write an export and return its row. Raises ExportError if it does not agree."""
    missing = [module for module in kind.modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ExportError(cli.not_installed(*missing))
    try:
        kind.write(model, path, dataset.train.images)
        answers = in_batches(kind.load(path, BATCH), dataset.test.images)
        predict_one = kind.load(path, 1)
        row = {
            "accuracy": metrics.accuracy(dataset.test.labels, answers),
            "difference": float(np.abs(answers - expected).max()),
            "bytes": size(path),
            "latency_ms": metrics.latency(lambda image: predict_one(image[None]), IMAGE_SHAPE),
        }
    except (MemoryError, OSError):
        raise
    except Exception as error:  # whatever a converter or a runtime raises
        raise ExportError(f"{type(error).__name__}: {cli.one_line(error)[:300]}") from error
    if kind.exact and not row["difference"] <= LARGEST_DIFFERENCE:
        raise ExportError(
            f"it differs by up to {row['difference']:.1e} from model.keras, and is not kept"
        )
    if not row["accuracy"] >= original["accuracy"] - LARGEST_LOSS:
        raise ExportError(f"it is only {row['accuracy']:.2%} accurate, and is not kept")
    return row


def in_batches(predict: Predict, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, 10) of a number of images that BATCH divides or not."""
    padded = np.concatenate(
        [images, np.zeros((-len(images) % BATCH, *images.shape[1:]), images.dtype)]
    )
    return np.concatenate(
        [predict(padded[start : start + BATCH]) for start in range(0, len(padded), BATCH)]
    )[: len(images)]


def size(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    return sum(
        file.stat().st_size
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    )


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def table_rows(rows: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of the table with the columns HEAD."""
    whole = rows["model.keras"]["bytes"]
    return [
        (
            name,
            f"{row['accuracy']:.2%}",
            f"{row['difference']:.1e}",
            f"{row['bytes'] / 1000:,.0f}",
            f"{row['bytes'] / whole:.0%}",
            f"{row['latency_ms']:.3f}",
        )
        for name, row in rows.items()
    ]
