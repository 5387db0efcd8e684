"""The programs that measure_speed.py compares, each run in its own process.

    python -m benchmarks.speed_worker plain_training dropout_cnn

The process prepares one program and prints the facts about it as a line of JSON. For every line of
JSON on standard input, which contains the options of a turn, it performs one turn and prints the
measurement as a line of JSON. Therefore several processes can take turns.
"""

import functools
import itertools
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
from fmnist.recipes import ADAM

BATCH_SIZES = (64, 128, 256, 512, 1024)
LIMIT = 9600  # images of the training benchmarks: 8,800 for training and 800 for validation
MODEL = "dropout_cnn"
# Settings of this project. Like plain Keras: Adam at a constant learning rate, without flips.
SETTINGS = {**ADAM, "schedule": "constant", "augment": "none"}
Program = tuple[Callable[..., dict[str, Any]], dict[str, Any]]  # function of a turn, and facts


# Training. A turn is one epoch with validation.


def plain_training(name: str, batch_size: str) -> Program:
    """Train with plain Keras as in most tutorials, on float arrays."""
    fit, model = plain_fit(name)
    return lambda: fit(int(batch_size)), {**facts(model), "batch_size": int(batch_size)}


def plain_batch_size(name: str) -> Program:
    """Find the batch size with which plain Keras trains fastest, apart from stalls."""
    fit, model = plain_fit(name)

    def seconds(batch_size):
        fit(batch_size)  # not counted: it includes tracing
        epochs = [fit(batch_size) for _ in range(2)]
        return min(epoch["seconds"] - epoch["stall"] for epoch in epochs)

    return lambda: {"batch_size": min(BATCH_SIZES, key=seconds)}, {}


def plain_fit(name: str, limit: int | None = LIMIT) -> tuple[Callable[[int], dict[str, Any]], Any]:
    """Return a function that trains one epoch in plain Keras with a batch size, and the model.

    Args:
        name: name of the network.
        limit: number of training and validation images; None trains on all training images,
            without validation.
    """
    import keras

    import data
    from fmnist import networks
    from model import build_model

    keras.utils.set_random_seed(0)
    model = build_model(name)
    networks.initialise(model, 0)  # after few steps, accuracy depends on the initial weights
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    dataset = data.load(limit=limit)
    (images, labels), validation = (
        (part.images, keras.utils.to_categorical(part.labels))
        for part in (dataset.train, dataset.validation)
    )
    options = {"x": images, "y": labels, "validation_data": validation if limit else None}
    return lambda batch_size: timed_fit(model, len(labels), batch_size=batch_size, **options), model


def plain_epoch() -> Program:
    """Train with plain Keras on 55,000 images, the unit of cost of the leaderboard."""
    fit, model = plain_fit(MODEL, limit=None)

    def turn():
        epoch = fit(64)
        return {**epoch, "seconds_without_stall": epoch["seconds"] - epoch["stall"]}

    return turn, facts(model)


def project_training(name: str, batch_size: str | None = None) -> Program:
    """Train in the accelerated training model.

    Args:
        name: name of the network.
        batch_size: batch size, with the learning rate of plain Keras and without averaging of the
            weights; None for SETTINGS.
    """
    settings = dict(SETTINGS)
    if batch_size:
        settings |= {"batch_size": int(batch_size), "learning_rate": 1e-3, "ema_epochs": 0}
    config = TrainConfig(**settings, model=name, limit=LIMIT)
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

    return turn, {
        **facts(model),
        "batch_size": config.batch_size,
        "validated": len(dataset.validation.labels),
    }


def set_up(config: TrainConfig, dataset: Any) -> tuple[Any, ...]:
    """Prepare a training as train_cnn.train() does, without whitening and data pruning.

    Returns:
        The network, its accelerated training model, the training and the validation batches, and
        the random stream.
    """
    import keras

    import data
    from fmnist import networks
    from fmnist.training import augmentation, fast_model, loop, optimizers
    from model import build_model
    from train_cnn import STEPS_PER_EXECUTION, VALIDATION_BATCH

    random_stream = loop.random_stream(config.seed)
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


def project_training_without_onednn(name: str) -> Program:
    """Train as project_training(), with oneDNN switched off in the environment."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    return project_training(name)


def project_training_without_determinism(name: str) -> Program:
    """Train as project_training(), with nondeterministic operations."""
    runtime.configure_tensorflow(concurrent_operations=2)  # no seed, therefore no determinism yet
    import tensorflow as tf

    # project_training() configures TensorFlow again with a seed, which would enable determinism.
    tf.config.experimental.enable_op_determinism = lambda: None
    return project_training(name)


def project_cost() -> Program:
    """Train without validation. The options of a turn are number of images and batch size."""
    runtime.configure_tensorflow(0, concurrent_operations=2)
    import data

    (images, labels, *_), _ = data.read()
    everything = data.normalise(images, labels)
    set_ups = {}

    def turn(images, batch_size):
        if (images, batch_size) not in set_ups:
            part = data.Part(*(array[:images] for array in everything))
            unused = data.Part(*(array[:10] for array in part))
            dataset = data.Dataset(part, unused, unused, "", "")
            config = TrainConfig(**SETTINGS | {"augment": "flip", "batch_size": batch_size})
            set_ups[images, batch_size] = set_up(config, dataset)
        _, fast_model, training, _, _ = set_ups[images, batch_size]
        return timed_fit(fast_model, images, x=training, shuffle=False)

    return turn, {}


def timed_fit(model: Any, images: int, **options: Any) -> dict[str, Any]:
    """Fit one epoch and return its time, its stall and the validation accuracy.

    The stall is the time between the last batch and the end of its iterator, for the training and
    the validation batches together.
    """
    import keras

    clock = {}
    timer = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: clock.update(begin=time.perf_counter()),
        on_train_batch_end=lambda batch, logs: clock.update(trained=time.perf_counter()),
    )
    timer.on_test_begin = lambda logs: clock.update(testing=time.perf_counter())
    timer.on_test_batch_end = lambda batch, logs: clock.update(tested=time.perf_counter())
    history = model.fit(epochs=1, verbose=0, callbacks=[timer], **options).history
    end = time.perf_counter()
    stall = clock.get("testing", end) - clock["trained"] + end - clock.get("tested", end)
    return {
        "seconds": end - clock["begin"],
        "stall": stall,
        "images": images,
        "val_accuracy": history.get("val_accuracy", [None])[0],
    }


def facts(model: Any) -> dict[str, int]:
    """Return the numbers of parameters and of floating-point operations per training image."""
    from keras import layers

    flops = []
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            flops.append(2 * np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, layers.Dense):
            flops.append(2 * np.prod(layer.kernel.shape))
    # Forward pass, gradients of the weights and gradients of the inputs. The first layer needs no
    # gradients of its inputs, the images.
    return {"parameters": model.count_params(), "flops": int(3 * sum(flops) - flops[0])}


def training_and_validation() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of the training and the validation set of the benchmarks."""
    import data

    dataset = data.load(limit=LIMIT)
    return [tuple(dataset.train), tuple(dataset.validation)]


def torch_training() -> Program:
    """Train with PyTorch, with the memory layout and the batch size that are fastest here."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    loss_of = nn.CrossEntropyLoss()
    (images, labels), (val_images, val_labels) = (
        (torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
        # Loading imports TensorFlow, which must not affect the measured process.
        for images, labels in in_own_process(training_and_validation)
    )

    def network(layout):
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
        ).to(memory_format=getattr(torch, layout))
        return model, torch.optim.Adam(model.parameters())

    def fit(model, optimizer, batch_size, count):
        model.train()
        for indices in torch.randperm(count).split(batch_size):
            optimizer.zero_grad()
            loss_of(model(images[indices]), labels[indices]).backward()
            optimizer.step()

    def seconds(choice):
        layout, batch_size = choice
        model, optimizer = network(layout)
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            fit(model, optimizer, batch_size, len(labels))
            times.append(time.perf_counter() - begin)
        return min(times[1:])

    layouts = ("contiguous_format", "channels_last")
    layout, batch_size = min(itertools.product(layouts, BATCH_SIZES), key=seconds)
    model, optimizer = network(layout)

    def turn():
        begin = time.perf_counter()
        fit(model, optimizer, batch_size, len(labels))
        model.eval()
        with torch.no_grad():
            correct = sum(
                (model(batch).argmax(1) == batch_labels).sum().item()
                for batch, batch_labels in zip(
                    val_images.split(250), val_labels.split(250), strict=True
                )
            )
        return {
            "seconds": time.perf_counter() - begin,
            "stall": 0.0,
            "images": len(labels),
            "val_accuracy": correct / len(val_labels),
        }

    return turn, {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "batch_size": batch_size,
    }


# Prediction. A turn predicts the 10,000 test images in batches, and a few of them one by one.


def plain_prediction() -> Program:
    """Predict with plain Keras: model.evaluate on float arrays, model.predict for single images."""
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


def project_prediction() -> Program:
    """Predict as evaluate_model.py does, and single images with the NumPy predictor."""
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


def onnx_prediction() -> Program:
    """Predict with ONNX Runtime with its default settings."""
    runtime.configure_tensorflow(0)
    import onnxruntime
    import tf2onnx  # noqa: F401  used by model.export()

    import data
    from model import build_model

    model, images = build_model(MODEL), data.load().test.images
    model(images[:1])  # Keras can only export a model that has been called
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
) -> Program:
    """Return a program that measures a prediction of the test set and of single images."""

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


# Upper limit of the arithmetic throughput.


def matrix_multiply() -> Program:
    """Multiply float32 matrices; a turn returns the highest rate in operations per second."""
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
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # messages of libraries go to standard error instead
    program, *names = sys.argv[1:]
    try:
        turn, facts_of_program = globals()[program](*names)
    except ImportError as error:
        output.write(json.dumps({"missing": error.name}) + "\n")
        return
    output.write(json.dumps(facts_of_program) + "\n")
    for line in sys.stdin:
        output.write(json.dumps(turn(**json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
