"""Train and score one contestant: a network or a classical classifier."""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import data
from evaluate_model import TRAINING_SAMPLE, evaluate
from fmnist import runs
from fmnist.config import TrainConfig
from fmnist.evaluation import metrics
from fmnist.inference.numpy_predictor import predictor
from fmnist.source import CLASS_NAMES
from model import IMAGE_SHAPE
from tools.comparison import baselines
from tools.comparison.contestants import CONTESTANTS
from train_cnn import train_or_resume


def score(name: str, config: TrainConfig) -> dict[str, Any]:
    """Train a contestant, or resume its training, and return the scores of result.json."""
    return score_network(config) if CONTESTANTS[name] else score_baseline(name, config)


def score_network(config: TrainConfig) -> dict[str, Any]:
    """Train and score a network."""
    keras.backend.clear_session()  # frees the networks of earlier trainings in this process
    run = train_or_resume(config)
    scores = evaluate(run, config.data_dir)
    return {
        "parameters": scores["parameters"],
        "seconds": sum(row["seconds"] for row in runs.load_history(run)),
        "latency_ms": metrics.latency(predictor(runs.load_model(run)), IMAGE_SHAPE),
        "train_accuracy": scores["train"]["accuracy"],
        "val_accuracy": scores["validation"]["accuracy"],
        "accuracy": scores["accuracy"],
        **macro_scores(scores["per_class"]),
        "predicted": predicted_classes(run),
    }


def score_baseline(name: str, config: TrainConfig) -> dict[str, Any]:
    """Train and score a classifier from scikit-learn."""
    dataset = data.load(config.data_dir, config.val_size, config.limit, config.seed, config.fold)
    classifier = baselines.BASELINES[name](config.seed)
    started = time.perf_counter()
    classifier.fit(*dataset.train)
    seconds = time.perf_counter() - started

    def probabilities(classes: np.ndarray) -> np.ndarray:
        return metrics.one_hot(classes, len(CLASS_NAMES))

    def accuracy(part: data.Part) -> float:
        return metrics.accuracy(part.labels, probabilities(classifier.predict(part.images)))

    labels, test = dataset.test.labels, classifier.predict(dataset.test.images)
    sample = data.Part(*(array[:TRAINING_SAMPLE] for array in dataset.train))
    return {
        "parameters": None,
        "seconds": seconds,
        "latency_ms": metrics.latency(lambda image: classifier.predict(image[None]), IMAGE_SHAPE),
        "train_accuracy": accuracy(sample),
        "val_accuracy": accuracy(dataset.validation),
        "accuracy": metrics.accuracy(labels, probabilities(test)),
        **macro_scores(metrics.per_class(labels, probabilities(test), CLASS_NAMES)),
        "predicted": digits(test),
    }


def macro_scores(per_class: dict[str, Any]) -> dict[str, float]:
    """Return precision, recall and F1 as means over the classes."""
    macro = per_class["macro avg"]
    return {"precision": macro["precision"], "recall": macro["recall"], "f1": macro["f1-score"]}


def predicted_classes(run: Path) -> str:
    """Return the predicted classes of the test set of an evaluated run, one digit per image."""
    return digits(np.load(run / runs.PREDICTIONS)["probabilities"].argmax(axis=1))


def digits(classes: np.ndarray) -> str:
    """Return classes (N,) as a string of N digits."""
    return "".join(map(str, classes))
