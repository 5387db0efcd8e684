"""Trained networks that classify photographs and images, with the settings of their evaluation."""

import base64
import functools
import io
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import contourpy
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from fmnist import cli, networks, runs
from fmnist.evaluation import metrics, ood, tta
from fmnist.inference import calibration, photo, segmentation, whole_photo
from fmnist.inference.numpy_predictor import predictor
from fmnist.source import CLASS_NAMES

BATCH = 256  # photos that are read before they are classified
IMAGES_PER_CALL = 32  # of a compiled predictor
FEW = 4  # images that a compiled predictor classifies one by one
TOP_K = 3
OUT_OF_DISTRIBUTION = "out of distribution: unlike the training images, or low confidence"
NOVEL = "out of distribution: unlike photographs of clothes, shoes and bags"
LOW_CONFIDENCE = "low confidence: photograph one item from the front, or one shoe from the side"
OUTLINE_CELLS = 64  # the outline of an item is drawn on a grid of as many cells per edge


class Outcome(NamedTuple):
    """The prediction of a network for one photo.

    Attributes:
        probabilities: calibrated class probabilities (10,); all zero if no item was found.
        uncertain: whether the prediction is uncertain.
        warnings: what may be wrong, and what to do.
    """

    probabilities: np.ndarray
    uncertain: bool
    warnings: list[str]


class Classifier(NamedTuple):
    """A network with the settings of its evaluation.

    Attributes:
        run: run directory.
        model: network that returns class probabilities.
        flips: whether to average over mirror images, see tta.views().
        shifts: whether to average over shifted images, see tta.views().
        temperature: calibration temperature; 1 for a run without evaluation.
        label_smoothing: label smoothing that the calibration undoes; 0 without evaluation.
        known: result of ood.fit(); None for a run without evaluation.
        on_photographs: calibrations for photographs; None for a run that was not trained on them.
        predict: function of images that returns the uncalibrated probabilities.
    """

    run: Path
    model: keras.Model
    flips: bool
    shifts: bool
    temperature: float
    label_smoothing: float
    known: ood.Novelty | None
    on_photographs: calibration.Calibrations | None
    predict: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the calibrated class probabilities (N, 10) of images (N, 28, 28, 1) in [0, 1]."""
        outputs = [self.predict(view) for view in tta.views(images, self.flips, self.shifts)]
        return metrics.calibrated(np.mean(outputs, axis=0), self.temperature, self.label_smoothing)

    def classify_images(self, photos: Sequence[photo.Photo]) -> list[Outcome]:
        """Return the outcomes for photos that are finished images of the data set."""
        images = np.concatenate([converted.images for converted in photos])
        probabilities = self.probabilities(images)
        novel = np.zeros(len(photos), bool)
        if self.known is not None:
            novel = ood.is_novel(self.known, images, probabilities)
        return [
            Outcome(row, bool(is_novel), [OUT_OF_DISTRIBUTION] if is_novel else [])
            for row, is_novel in zip(probabilities, novel, strict=True)
        ]

    def classify_photographs(self, photos: Sequence[photo.Photo]) -> list[Outcome]:
        """Return the outcomes for photographs."""
        counts = [len(converted.images) for converted in photos]
        images = np.concatenate([converted.images for converted in photos])
        if self.on_photographs:
            outputs = [self.predict(view) for view in tta.views(images, True, False)]
            outputs = np.mean(outputs, axis=0)
        else:
            outputs = self.probabilities(images)
        outcomes = []
        for converted, views in zip(photos, np.split(outputs, np.cumsum(counts)[:-1]), strict=True):
            probabilities = photo.combined(views, converted.whole)
            warnings = list(converted.warnings)
            if self.on_photographs:
                is_plain = converted.whole is None
                settings = self.on_photographs.plain if is_plain else self.on_photographs.other
                [probabilities] = metrics.calibrated(probabilities[None], settings.temperature)
                is_novel = not is_plain and converted.whole.is_novel
                is_low = probabilities.max() < settings.least_confidence
                if is_novel:
                    warnings.append(NOVEL)
                elif is_low:
                    warnings.append(LOW_CONFIDENCE)
                uncertain = is_novel or is_low
            else:
                if self.known is not None and ood.is_novel(
                    self.known, converted.images[:1], probabilities[None]
                ):
                    warnings.append(OUT_OF_DISTRIBUTION)
                uncertain = bool(warnings)
            outcomes.append(Outcome(probabilities, bool(uncertain), warnings))
        return outcomes


class PhotoClassifier(NamedTuple):
    """A network for photographs and one for finished images of the data set, maybe the same.

    Attributes:
        photographs: classifies photographs.
        images: classifies pictures of 28 × 28 pixels.
        segment: result of segmentation.load().
        classify_whole: result of whole_photo.load(); None if the network for photographs was not
            trained on any.
    """

    photographs: Classifier
    images: Classifier
    segment: photo.Segment
    classify_whole: photo.ClassifyWhole | None

    def read(
        self,
        source: str | Path | BinaryIO,
        area: tuple[float, float, float, float] = photo.WHOLE,
    ) -> photo.Photo:
        """Return the Photo in a picture file. For arguments and errors, see photo.read()."""
        return photo.read(source, self.segment, self.classify_whole, area)

    def convert(self, picture: np.ndarray) -> photo.Photo:
        """Return the Photo of a picture (height, width, 3) uint8."""
        return photo.convert(picture, self.segment, self.classify_whole)

    def compiled(self) -> "PhotoClassifier":
        """Return a classifier that predicts single photos faster, see compile_predictor()."""
        images = self.images._replace(predict=compile_predictor(self.images.model))
        photographs = images
        if self.photographs is not self.images:
            predict = compile_predictor(self.photographs.model)
            photographs = self.photographs._replace(predict=predict)
        return self._replace(images=images, photographs=photographs)

    def description(self) -> str:
        """Return which networks are used, and what their runs lack."""
        photographs, images = map(short, (self.photographs.run, self.images.run))
        used = [photographs]
        if images != photographs:
            used = [f"{photographs} for photographs", f"{images} for 28 × 28 images"]
            used.append("--run selects another network")
        hints = [evaluation_hint(self.images)] if self.images.known is None else []
        return "\n".join([f"Run: {'; '.join(used)}", *hints])

    def classify(self, photos: Sequence[photo.Photo]) -> list[Outcome]:
        """Return the outcome for every photo."""
        nothing = np.zeros(len(CLASS_NAMES), np.float32)
        outcomes = [Outcome(nothing, True, converted.warnings) for converted in photos]
        for classify, is_finished in (
            (self.images.classify_images, True),
            (self.photographs.classify_photographs, False),
        ):
            indices = [
                index
                for index, converted in enumerate(photos)
                if len(converted.images) and photo.is_finished(converted.picture) == is_finished
            ]
            found = classify([photos[index] for index in indices]) if indices else []
            for index, outcome in zip(indices, found, strict=True):
                outcomes[index] = outcome
        return outcomes


def short(run: Path) -> str:
    """Return the path of a run, relative to the current folder if it is inside."""
    return str(run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run)


def compile_predictor(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of images (N, 28, 28, 1) that returns probabilities (N, 10).

    For few images, it is much faster than networks.predict(). It is compiled before it is returned.
    """
    predict_one = predictor(model)
    signature = [tf.TensorSpec((IMAGES_PER_CALL, *photo.SHAPE))]
    predict_many = tf.function(model, input_signature=signature)

    def predict(images: np.ndarray) -> np.ndarray:
        if len(images) <= FEW:
            return np.stack([predict_one(image) for image in images])
        count = -(-len(images) // IMAGES_PER_CALL)
        padded = np.zeros((count * IMAGES_PER_CALL, *photo.SHAPE), np.float32)
        padded[: len(images)] = images
        parts = [predict_many(part).numpy() for part in np.split(padded, count)]
        return np.concatenate(parts)[: len(images)]

    for count in (1, IMAGES_PER_CALL):
        predict(np.zeros((count, *photo.SHAPE), np.float32))
    return predict


def load_photo_classifier(run: str | None, runs_dir: str) -> PhotoClassifier:
    """Return the PhotoClassifier of a run.

    Args:
        run: run directory; None for pretrained/photo, and the newest finished run in `runs_dir`,
            else pretrained/best, for pictures of 28 × 28 pixels.
        runs_dir: parent folder of the runs.

    Raises:
        RunError: a run is missing or corrupt.
    """
    images = load_classifier(runs.find_run(run, runs_dir))
    photographs = images if run else load_classifier(runs.FOR_PHOTOS)
    classify_whole = whole_photo.load() if photographs.on_photographs else None
    return PhotoClassifier(photographs, images, segmentation.load(), classify_whole)


def prediction(converted: photo.Photo, outcome: Outcome) -> dict[str, Any]:
    """Return the prediction for one photo as a JSON object.

    Without an item, the label, the confidence, the probabilities and the model input are None.
    """
    common = {
        "uncertain": outcome.uncertain,
        "warnings": outcome.warnings,
        "outline": outline(converted),
    }
    if not len(converted.images):
        empty = {"label": None, "confidence": None, "top_k": []}
        return {**empty, **common, "probabilities": None, "model_input": None}
    rounded = [round(float(probability), 4) for probability in outcome.probabilities]
    best = np.argsort(-outcome.probabilities, kind="stable")[:TOP_K]
    top_k = [{"label": CLASS_NAMES[index], "confidence": rounded[index]} for index in best]
    return {
        **top_k[0],
        "top_k": top_k,
        **common,
        "probabilities": dict(zip(CLASS_NAMES, rounded, strict=True)),
        "model_input": data_url(converted.images[-1]),
    }


def outline(converted: photo.Photo) -> list[str]:
    """Return the outline of the item: closed lines, as in the attribute `points` of SVG.

    A line is "x,y x,y …", in fractions of the picture. There is none without an item and for a
    finished image.
    """
    if converted.mask is None:
        return []
    size = OUTLINE_CELLS, OUTLINE_CELLS
    mask = Image.fromarray(converted.mask.astype(np.float32))
    # With a margin of background, an outline is closed also where the item touches the edge.
    values = np.pad(np.asarray(mask.resize(size, Image.Resampling.BOX)), 1)
    left, top, right, bottom = converted.area
    corner, scale = np.array([left, top]), np.array([right - left, bottom - top])
    lines = contourpy.contour_generator(z=values).lines(0.5)
    points = [((line - 0.5) / OUTLINE_CELLS).clip(0, 1) * scale + corner for line in lines]
    return [" ".join(f"{x:.4g},{y:.4g}" for x, y in line) for line in points]


def data_url(image: np.ndarray) -> str:
    """Return an image (28, 28, 1) in [0, 1] as the data URL of a PNG file."""
    stream = io.BytesIO()
    pixels = (image[..., 0] * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def load_classifier(run: Path) -> Classifier:
    """Return the Classifier of a run. Raises RunError."""
    runs.load_config(run)
    model, evaluation = runs.load_model(run), load_evaluation(run)
    on_photographs, predict = calibration.load(run), functools.partial(networks.predict, model)

    if evaluation is None:
        return Classifier(run, model, False, False, 1, 0, None, on_photographs, predict)
    return Classifier(
        run,
        model,
        evaluation["test_time_flips"],
        evaluation["test_time_shifts"],
        evaluation["temperature"],
        evaluation["label_smoothing"],
        load_novelty(run, evaluation),
        on_photographs,
        predict,
    )


def evaluation_hint(classifier: Classifier) -> str:
    """Return the message for a Classifier whose run is not evaluated after its last epoch."""
    # Photographs have a calibration of their own.
    scope = "for images of 28 × 28 pixels, " if classifier.on_photographs else ""
    return (
        f"The last epoch of this run is not evaluated: {scope}confidences are not calibrated and "
        "out-of-distribution pictures are not detected. To change that, run: "
        f"python evaluate_model.py {shlex.quote(str(classifier.run))}"
    )


def load_evaluation(run: Path) -> dict[str, Any] | None:
    """Return the metrics of a run; None if its last epoch is not evaluated. Raises RunError."""
    path = run / runs.METRICS
    if not path.exists():
        return None
    try:
        # An older file lacks shifts and has a former name of `uncertain`. Its temperature was
        # fitted without undoing label smoothing.
        older = {"test_time_shifts": False, "label_smoothing": 0.0}
        evaluation = older | json.loads(path.read_text())
        evaluation.setdefault("uncertain", evaluation.pop("unsure", None))
        if not 0.1 < evaluation["temperature"] < 10:
            raise ValueError("the temperature is not between 0.1 and 10")
        if not 0 <= evaluation["label_smoothing"] < 1:
            raise ValueError("label_smoothing is not between 0 and 1")
        if not all(isinstance(evaluation[option], bool) for option in runs.VIEWS):
            raise ValueError("test_time_flips and test_time_shifts must be true or false")
        return evaluation if evaluation["epochs"] == len(runs.load_history(run)) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise runs.RunError(
            f"{path} is corrupt ({cli.one_line(error)}); create it again: "
            f"python evaluate_model.py {shlex.quote(str(run))}"
        ) from None


def load_novelty(run: Path, evaluation: dict[str, Any]) -> ood.Novelty:
    """Return the statistics of a run's training images, see ood.fit(). Raises RunError."""
    path = run / runs.NOVELTY
    try:
        with np.load(path, allow_pickle=False) as saved:
            known = ood.Novelty(**saved)
        blank = np.zeros((1, *photo.SHAPE), np.float32), np.zeros((1, len(CLASS_NAMES)), np.float32)
        ood.is_novel(known, *blank)  # fails for arrays of other shapes
        if not all(np.isfinite(array).all() for array in known):
            raise ValueError("it contains NaN or infinite values")
        return known
    except MemoryError:
        raise
    except Exception as error:  # a corrupt archive raises many kinds
        options = "".join(
            f" --{option.replace('_', '-')}" for option in runs.VIEWS if evaluation[option]
        )
        raise runs.RunError(
            f"{path} is missing or corrupt ({cli.one_line(error)}); create it: "
            f"python evaluate_model.py {shlex.quote(str(run))}{options}"
        ) from None
