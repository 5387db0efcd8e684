"""One side of measure_speed.py, in a process of its own.

    python -m benchmarks.speed_worker plain_training dropout_cnn

Gets ready, prints a line of JSON, and then takes one turn for every line of JSON on standard input,
the turn's options, and answers with a line of JSON: so that the sides can alternate.
"""

import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.processes import in_own_process
from fmnist import runtime
from fmnist.config import TrainConfig

LIMIT = 9600  # images of the training benchmarks: 8,800 to train on and 800 to validate
MODEL = "dropout_cnn"
Side = tuple[Callable[..., dict[str, Any]], dict[str, Any]]  # its turn, and facts about it


# Training. Every turn is one epoch with validation.


def plain_training(name: str) -> Side:
    """model.fit as in most tutorials: float arrays, batch 64, nothing set."""
    import keras

    import data
    from model import build_model

    keras.utils.set_random_seed(0)
    model = build_model(name)
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    dataset = data.load(limit=LIMIT)
    train, validation = (
        (part.images, keras.utils.to_categorical(part.labels))
        for part in (dataset.train, dataset.validation)
    )

    def turn():
        return timed_fit(
            model, len(train[1]), x=train[0], y=train[1], batch_size=64, validation_data=validation
        )

    return turn, facts(model)


def plain_epoch() -> Side:
    """The leaderboard's unit of cost: the same on 55,000 images, without validation."""
    import keras

    import data
    from model import build_model

    model = build_model(MODEL)
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    train = data.load().train
    labels = keras.utils.to_categorical(train.labels)

    def turn():
        epoch = timed_fit(model, len(labels), x=train.images, y=labels, batch_size=64)
        return {**epoch, "calm_seconds": epoch["seconds"] - epoch["stall"]}

    return turn, facts(model)


def our_training(name: str) -> Side:
    """The set-up of train_cnn.py with its default options, but for the flips, which plain Keras has
    not.
    """
    config = TrainConfig(model=name, limit=LIMIT, augment="none")
    runtime.configure_tensorflow(config.seed, concurrent_operations=2)
    import data

    dataset = data.load(limit=LIMIT)
    model, fast_model, training, validation, random_stream = set_up(config, dataset)

    def turn():
        random_stream.assign_add([0, 1])
        return timed_fit(
            fast_model,
            len(dataset.train.labels),
            x=training,
            validation_data=validation,
            shuffle=False,
        )

    return turn, {**facts(model), "validated": len(dataset.validation.labels)}


def set_up(config: TrainConfig, dataset: Any) -> tuple[Any, ...]:
    """Return what train_cnn.train() fits, for a network without whitening and without data pruning.

    That is the network, its accelerated model, both kinds of batches, and the random stream.
    """
    import keras
    import tensorflow as tf

    import data
    from fmnist import networks
    from fmnist.training import augmentation, fast_model, optimizers
    from model import build_model
    from train_cnn import STEPS_PER_EXECUTION, VALIDATION_BATCH

    random_stream = tf.Variable([config.seed, 0])
    augment = functools.partial(augmentation.augment, kind=config.augment)
    training = data.batches(
        dataset.train, config.batch_size, shuffle=random_stream, augment=augment
    )
    model = build_model(config.model, **config.network_settings())
    networks.initialise(model, config.seed)
    optimizer = optimizers.build_optimizer(config, len(training))
    fast = fast_model.accelerate(model, config.seed, optimizer.iterations)
    fast.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        weighted_metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    return model, fast, training, data.batches(dataset.validation, VALIDATION_BATCH), random_stream


def our_training_without_onednn(name: str) -> Side:
    """As someone who has set the switch has it."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    return our_training(name)


def our_training_without_determinism(name: str) -> Side:
    runtime.configure_tensorflow(concurrent_operations=2)  # without a seed: not deterministic yet
    import tensorflow as tf

    # our_training() configures TensorFlow again, with a seed
    tf.config.experimental.enable_op_determinism = lambda: None
    return our_training(name)


def our_cost() -> Side:
    """Training alone, of any number of images in batches of any size."""
    runtime.configure_tensorflow(0, concurrent_operations=2)
    import data

    (images, labels, *_), _ = data.read()
    everything = data.normalise(images, labels)
    set_ups = {}

    def turn(images, batch_size):
        if (images, batch_size) not in set_ups:
            part = data.Part(*(array[:images] for array in everything))
            few = data.Part(*(array[:10] for array in part))
            dataset = data.Dataset(part, few, few, "", "")
            set_ups[images, batch_size] = set_up(TrainConfig(batch_size=batch_size), dataset)
        _, fast_model, training, _, _ = set_ups[images, batch_size]
        return timed_fit(fast_model, images, x=training, shuffle=False)

    return turn, {}


def timed_fit(model: Any, images: int, **options: Any) -> dict[str, Any]:
    """Fit one epoch. The stall is what passes between the last batches and the end of their
    iterators.
    """
    import keras

    clock = {}
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: clock.update(begin=time.perf_counter()),
        on_train_batch_end=lambda batch, logs: clock.update(trained=time.perf_counter()),
    )
    watch.on_test_begin = lambda logs: clock.update(testing=time.perf_counter())
    watch.on_test_batch_end = lambda batch, logs: clock.update(tested=time.perf_counter())
    history = model.fit(epochs=1, verbose=0, callbacks=[watch], **options).history
    end = time.perf_counter()
    stall = clock.get("testing", end) - clock["trained"] + end - clock.get("tested", end)
    return {
        "seconds": end - clock["begin"],
        "stall": stall,
        "images": images,
        "val_accuracy": history.get("val_accuracy", [None])[0],
    }


def facts(model: Any) -> dict[str, int]:
    """Return the number of parameters, and the floating-point operations to train on one image."""
    from keras import layers

    flops = []
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            flops.append(2 * np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, layers.Dense):
            flops.append(2 * np.prod(layer.kernel.shape))
    # Forward, and the gradients of weights and inputs; the images need none.
    return {"parameters": model.count_params(), "flops": int(3 * sum(flops) - flops[0])}


def training_and_validation() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of both parts of the training benchmarks."""
    import data

    dataset = data.load(limit=LIMIT)
    return [tuple(dataset.train), tuple(dataset.validation)]


def torch_training(layout: str) -> Side:
    """PyTorch at the batch size that is fastest here."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layout = getattr(torch, layout)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(1600, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    ).to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters())
    loss_of = nn.CrossEntropyLoss()
    (images, labels), (val_images, val_labels) = (
        (
            torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout),
            torch.from_numpy(labels),
        )
        # Loading imports TensorFlow, which has no place in the process that is measured.
        for images, labels in in_own_process(training_and_validation)
    )

    def fit(count, batch_size):
        model.train()
        for chosen in torch.randperm(count).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss_of(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()

    def seconds(batch_size):
        begin = time.perf_counter()
        fit(2048, batch_size)
        return time.perf_counter() - begin

    fastest = min((64, 128, 256), key=lambda batch_size: min(seconds(batch_size) for _ in range(2)))

    def turn():
        begin = time.perf_counter()
        fit(len(labels), fastest)
        model.eval()
        with torch.no_grad():
            right = sum(
                (model(some).argmax(1) == true).sum().item()
                for some, true in zip(val_images.split(250), val_labels.split(250), strict=True)
            )
        return {
            "seconds": time.perf_counter() - begin,
            "stall": 0.0,
            "images": len(labels),
            "val_accuracy": right / len(val_labels),
        }

    return turn, {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "batch_size": fastest,
    }


# Prediction. A turn evaluates the 10,000 test images and predicts some of them one by one.


def plain_prediction() -> Side:
    """model.evaluate on float arrays and model.predict, nothing set."""
    import keras

    import data
    from model import build_model

    model = build_model(MODEL)
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    test = data.load().test
    labels = keras.utils.to_categorical(test.labels)
    return prediction(
        lambda: model.evaluate(test.images, labels, verbose=0),
        lambda image: model.predict(image[np.newaxis], verbose=0),
        test.images[:20],
    )


def our_prediction() -> Side:
    """As evaluate_model.py scores a run, and numpy_predictor.predictor."""
    runtime.configure_tensorflow(0)
    import data
    from fmnist.inference.numpy_predictor import predictor
    from model import build_model

    model = build_model(MODEL)
    test = data.load().test
    batches = data.batches(test, 250)
    return prediction(
        lambda: model.predict(batches, verbose=0), predictor(model), test.images[:500]
    )


def onnx_prediction() -> Side:
    """ONNX Runtime as it comes."""
    runtime.configure_tensorflow(0)
    import onnxruntime
    import tf2onnx  # noqa: F401  what Keras exports with

    import data
    from model import build_model

    model, images = build_model(MODEL), data.load().test.images
    model(images[:1])  # Keras exports no model that was never called
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/model.onnx", format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(
            f"{folder}/model.onnx", providers=["CPUExecutionProvider"]
        )
    name = session.get_inputs()[0].name
    return prediction(
        lambda: [
            session.run(None, {name: images[i : i + 250]}) for i in range(0, len(images), 250)
        ],
        lambda image: session.run(None, {name: image[np.newaxis]}),
        images[:500],
    )


def prediction(
    evaluate: Callable[[], Any], predict: Callable[[np.ndarray], Any], images: np.ndarray
) -> Side:
    def seconds(function, *arguments):
        begin = time.perf_counter()
        function(*arguments)
        return time.perf_counter() - begin

    def turn():
        return {
            "evaluation": seconds(evaluate),
            "one_image": [seconds(predict, image) for image in images],
        }

    return turn, {}


# The machine's limit.


def matrix_multiply() -> Side:
    """The best rate of TensorFlow's float32 product of two square matrices, in operations a
    second.
    """
    runtime.configure_tensorflow(0)
    import tensorflow as tf

    def seconds(matrix):
        begin = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        return time.perf_counter() - begin

    matrices = [tf.random.normal((size, size)) for size in (1024, 1536, 2048, 3072)]

    def turn():
        return {
            "rate": max(
                2 * len(matrix) ** 3 / min(seconds(matrix) for _ in range(5)) for matrix in matrices
            )
        }

    return turn, {}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    side, *names = sys.argv[1:]
    try:
        turn, about = globals()[side](*names)
    except ImportError as error:
        answers.write(json.dumps({"missing": error.name}) + "\n")
        return
    answers.write(json.dumps(about) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(turn(**json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
