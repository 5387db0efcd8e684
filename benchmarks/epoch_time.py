"""Time a training epoch of the default network: plain Keras against this project.

    python benchmarks/epoch_time.py

The two sides take turns, each in a process of its own, and both validate on the same images.
Plain Keras is `model.fit` on float arrays, batch 64, in TensorFlow's default environment; ours is
train_cnn.train with its default options. The first epoch of a process is left out on both sides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def time_ours(epochs):
    """Return the seconds of every epoch, checkpoints included."""
    import runs
    import train_cnn

    with tempfile.TemporaryDirectory() as folder:
        options = train_cnn.parse_options(["--epochs", str(epochs), "--patience", "0", "--runs-dir", folder])
        return [row["seconds"] for row in runs.load_history(train_cnn.train(options))]


def time_plain(epochs):
    """Return the seconds of every epoch."""
    import keras
    from keras import layers

    import data

    dataset = data.load()
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Dropout(0.25), layers.Flatten(),
        layers.Dense(128, activation="relu"), layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    clock = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: clock.append(time.perf_counter()))
    train, validation = ((part.images, keras.utils.to_categorical(part.labels))
                         for part in (dataset.train, dataset.validation))
    model.fit(*train, validation_data=validation, batch_size=64, epochs=epochs, verbose=0, callbacks=[watch])
    clock.append(time.perf_counter())
    return [end - start for start, end in zip(clock, clock[1:])]


def measure(side, epochs):
    """Return the seconds of the epochs after the first, timed in a fresh process."""
    environment = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run([sys.executable, __file__, "--side", side, "--epochs", str(epochs)],
                          env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each side has its turn (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of each process (%(default)s)")
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1 or options.epochs < 2:
        parser.error("one round of two epochs is the least, as the first epoch is left out")
    if options.side:
        print(json.dumps({"plain": time_plain, "ours": time_ours}[options.side](options.epochs)))
        return

    seconds = {"plain": [], "ours": []}
    for number in range(1, options.rounds + 1):
        for side, times in seconds.items():
            times += measure(side, options.epochs)
            print(f"round {number}, {side:5}: median so far {statistics.median(times):.2f} s", flush=True)
    plain, ours = (statistics.median(times) for times in seconds.values())
    for side, times in seconds.items():
        print(f"{side:5}  median {statistics.median(times):5.2f} s, from {min(times):.2f} to {max(times):.2f}, "
              f"{len(times)} epochs")
    print(f"ours / plain: {ours / plain:.2f}")


if __name__ == "__main__":
    main()
