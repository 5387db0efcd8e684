"""Train a convolutional network on Fashion-MNIST, with early stopping.

    python train_cnn.py                                   the default network, some eight minutes on two cores
    python train_cnn.py --model gap_cnn --seed 1
    python train_cnn.py --limit 6000 --epochs 3           a quick look
    python train_cnn.py --model batchnorm_cnn --schedule one-cycle --epochs 15 --learning-rate 0.004 --patience 0
    python train_cnn.py --resume                          go on with the newest run that was broken off

Leaves a run directory in runs/ with the best weights, the history and every setting.
"""

import argparse
import contextlib
import functools
import math
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from fmnist import runtime

from fmnist.training import augmentation
import data
from fmnist import atomic_io
from fmnist import runs
from fmnist.recipes import RECIPES

# As in model.py, whose import takes seconds.
MODEL_NAMES = ("dropout_cnn", "batchnorm_cnn", "gap_cnn", "lenet_l2", "allconv_cnn", "deep_cnn", "mobilenet")
# Options that not every network has, and those that have it.
OWN = {
    "l2": MODEL_NAMES[:-1],
    "batch_norm": MODEL_NAMES[:-1],
    "convolutions": ("gap_cnn",),
    "weights": ("mobilenet",),
}
OPTIMIZERS = ("adam", "muon")
SCHEDULES = ("constant", "plateau", "cosine", "one-cycle")
STEPS_PER_EXECUTION = 32  # batches between two returns to Python
VALIDATION_BATCH = 250
FLOAT32_MAX = 3.4e38
NEWEST = object()  # stands for the run that --resume without a name goes on with


class TrainingError(Exception):
    """Training cannot go on. One line, for the user."""


class Diverged(TrainingError):
    """Training cannot go on, and would not with the same options."""


def set_up(config, dataset):
    """Return all that the epochs of a training need.

    model: the network, stock layers, to be saved.
    twin: the compiled network to be fitted, which trains the weights of `model`.
    training, validation: the batches.
    stream: a variable, seed and epoch, that decides order and augmentation.
    """
    import keras
    import tensorflow as tf

    from fmnist.training.data_pruning import Focus
    from model import build_model, draw_weights, training_twin, whiten

    stream = tf.Variable([config["seed"], 0])
    focus = Focus(len(dataset.train.labels), config["easy_every"]) if config["easy_every"] > 1 else None
    training = data.batches(dataset.train, config["batch_size"], shuffle=stream, focus=focus,
                            augment=functools.partial(augmentation.augment, kind=config["augment"]))
    validation = data.batches(dataset.validation, VALIDATION_BATCH)

    chosen = {name: config[name] for name in ("dropout", "l2", "width", "convolutions")}
    if config["batch_norm"]:
        chosen["batch_norm"] = config["batch_norm"] == "yes"
    model = build_model(config["model"], config["members"], **chosen)
    draw_weights(model, config["seed"])
    whiten(model, dataset.train.images)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config["label_smoothing"])
    optimizer = build_optimizer(config, len(training))
    # What is saved opens without this project, whose optimizer and schedule it would not know.
    model.compile("adam", loss, metrics=["accuracy"])
    twin = training_twin(model, config["seed"], optimizer.iterations, focus)
    twin.compile(optimizer, loss, weighted_metrics=["accuracy"], steps_per_execution=STEPS_PER_EXECUTION)
    # Metrics make their variables when they are first asked; a step that makes any is traced twice, for a second each.
    answers = tf.zeros((1, len(data.CLASS_NAMES)))
    twin.compute_metrics(None, answers, answers)
    return model, twin, training, validation, stream


def train(config, run=None, callbacks=()):
    """Train one network as the config says and return the path of its run directory.

    config: a dict with every option of this script under its name, as `parse_options` returns it.
    run: an unfinished run directory of that very config, to go on as if it had never been broken off.
    callbacks: of Keras, that are called after the epoch is saved.
    Raises data.DataError, runs.RunError, TrainingError; a KeyboardInterrupt says what was saved.
    """
    runtime.start(config["seed"], at_once=2)  # the halves of training_twin
    import tensorflow as tf

    dataset = data.load(config["data_dir"], config["val_size"], config["limit"], config["seed"])
    print(f"Data: {dataset.source}; {len(dataset.train.labels):,} images to train, "
          f"{len(dataset.validation.labels):,} to validate")
    model, twin, training, validation, stream = set_up(config, dataset)
    twin.optimizer.build(twin.trainable_variables)
    state = [*model.weights, *twin.optimizer.variables, *([twin.focus.losses] if twin.focus else [])]

    if config["weights"] and not (run and runs.load_state(run)[1]):
        load_weights(config, model)
    if not run:
        run = runs.create(config["runs_dir"], config["name"], {**config, "fingerprint": dataset.fingerprint})
    elif config["fingerprint"] != dataset.fingerprint:
        raise runs.RunError(f"{run} was trained on other data than {dataset.source}")
    with runs.lock(run):
        history = restore(run, config, model, state)
        print(f"Run: {run}; {config['model']} with {model.count_params():,} parameters"
              + (f"; {len(history)} epochs were done before" if history else ""))
        try:
            with last_words(f"train_cnn.py: killed, or crashed; if nobody did it, memory ran out: other programs or "
                            f"--batch-size {config['batch_size']} take too much. {how_to_go_on(run)}"):
                with interrupts_noted() as interrupts:
                    callbacks = [*epoch_callbacks(run, config, model, twin, state, history, stream, interrupts),
                                 *callbacks]
                    if not is_over(config, history):
                        twin.fit(training, validation_data=validation, initial_epoch=len(history), shuffle=False,
                                 epochs=config["epochs"], callbacks=callbacks, verbose=1 if sys.stdout.isatty() else 2)
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)(f"Interrupted. {what_is_kept(run, config, history)}") from None
        except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.AbortedError):  # by oneDNN, short of memory
            raise TrainingError(f"out of memory in epoch {len(history) + 1}; try less than --batch-size "
                                f"{config['batch_size']}. {what_is_kept(run, config, history)}") from None
        except OSError as error:
            raise TrainingError(f"{runtime.one_line(error)}. {what_is_kept(run, config, history)}") from None
        if runs.diverged(history):
            causes = f"--learning-rate {config['learning_rate']:g}"
            causes += f" or --l2 {config['l2']:g}" if config["l2"] else ""
            raise Diverged(f"the loss of epoch {len(history)} is not a number, most likely because {causes} is "
                           f"too high. {what_is_kept(run, config, history)}")
        runs.finish(run)

    chosen = runs.chosen_epoch(config, history)
    print(f"\nKept epoch {chosen['epoch']} of {len(history)}: validation accuracy "
          f"{chosen['val_accuracy']:.2%}, loss {chosen['val_loss']:.4f}")
    print(f"Saved {run / runs.MODEL}, {runs.HISTORY_FILE} and {runs.CONFIG}")
    if interrupts:
        raise type(interrupts[0])(f"Interrupted after the last batch: {run} is finished; next: python evaluate_model.py "
                                  f"{shlex.quote(str(run))}")
    return run


def load_weights(config, model):
    """Raises TrainingError."""
    from model import borrowed_weights, load_backbone

    try:
        with data.socket_timeout():
            load_backbone(model, borrowed_weights(config["width"], config["weights"]))
    except ValueError as error:
        raise TrainingError(f"{error}; name a file that holds them, or leave --weights out") from None


def epoch_callbacks(run, config, model, twin, state, history, stream, interrupts):
    """Return what is done at the ends of batches and epochs, in its order.

    state: all variables that a training goes on with.
    history: grows by a row an epoch; holds those that were done before.
    interrupts: of interrupts_noted.
    """
    import keras

    started = None

    def begin_epoch(epoch, logs):
        nonlocal started
        note_seconds()
        started = time.perf_counter()
        stream.assign([config["seed"], epoch])

    def note_seconds():
        if started is not None:
            history[-1]["seconds"] = time.perf_counter() - started

    def end_batch(batch, logs):
        if interrupts:
            raise interrupts[0]

    def end_epoch(epoch, logs):
        row = {"epoch": epoch + 1, **logs, "learning_rate": float(twin.optimizer.learning_rate),
               "seconds": time.perf_counter() - started}  # until it is known how long the writing takes
        grown = [*history, row]
        runs.save_state(run, [variable.numpy() for variable in state], grown)
        runs.save_epoch(run, grown, model if row is runs.chosen_epoch(config, grown) else None)
        history.append(row)
        if runs.diverged(history):
            twin.stop_training = True

    def end_training(logs):
        note_seconds()
        runs.save_epoch(run, history)

    def remember(logs):
        """Tell the callbacks that keep count of epochs what they saw before the run was broken off."""
        for row in history:
            if config["schedule"] == "plateau":
                twin.optimizer.learning_rate = row["learning_rate"]
            for callback in counting:
                callback.on_epoch_end(row["epoch"] - 1, dict(row))

    counting = []
    if config["schedule"] == "plateau":
        counting.append(keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_delta=0))
    if config["patience"]:
        # The best weights need no restoring: end_epoch has written them to the run.
        counting.append(keras.callbacks.EarlyStopping(patience=config["patience"]))
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=begin_epoch, on_epoch_end=end_epoch,
                                                on_train_batch_end=end_batch, on_train_end=end_training),
                 keras.callbacks.TerminateOnNaN(), *counting, keras.callbacks.LambdaCallback(on_train_begin=remember)]
    if twin.optimizer.use_ema:
        # First, so that the weights that were validated are still there when end_epoch saves them.
        callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
        callbacks[0]._ema_weights_in_model = bool(history)  # as they were saved
    return callbacks


def build_optimizer(config, steps_per_epoch):
    import keras

    from fmnist.training.optimizers import ConvolutionMuon

    rate, decay = learning_rate(config, steps_per_epoch), config["weight_decay"]
    ema_steps = config["ema_epochs"] * steps_per_epoch
    averaging = dict(use_ema=ema_steps > 1, ema_momentum=1 - 1 / max(ema_steps, 1))
    if config["optimizer"] == "adam":
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay or None, **averaging)
    else:
        optimizer = ConvolutionMuon(rate, weight_decay=decay, adam_weight_decay=decay, momentum=0.9,
                                    exclude_layers=["classifier"], **averaging)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def learning_rate(config, steps_per_epoch):
    """Return a number, or a Keras schedule that spans all epochs and ends at zero."""
    import keras

    from fmnist.training.optimizers import OneCycle

    peak, steps = config["learning_rate"], config["epochs"] * steps_per_epoch
    if config["schedule"] == "cosine":
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    if config["schedule"] == "one-cycle":
        return OneCycle(peak, steps)
    return peak


def restore(run, config, model, state):
    """Give the variables the values they had after the last epoch of an unfinished run and return its history.

    The state is written first at an epoch's end: what was to follow may be missing, and is written now.
    """
    arrays, history = runs.load_state(run)
    if not history:
        return history
    if [(array.shape, array.dtype.name) for array in arrays] != [(tuple(each.shape), each.dtype) for each in state]:
        raise runs.RunError(f"{run / runs.CHECKPOINT / runs.STATE} belongs to another network than {runs.CONFIG} names")
    for variable, array in zip(state, arrays):
        variable.assign(array)
    runs.save_epoch(run, history, model if history[-1] is runs.chosen_epoch(config, history) else None)
    return history


def is_over(config, history):
    """Return whether the history ends as a training of this config does."""
    chosen = runs.chosen_epoch(config, history)
    stopped = chosen and config["patience"] and len(history) - chosen["epoch"] >= config["patience"]
    return bool(stopped) or runs.diverged(history) or len(history) >= config["epochs"]


def what_is_kept(run, config, history):
    """Return the sentences about a run that ended early. A run without weights is removed."""
    chosen = runs.chosen_epoch(config, history)
    if chosen is None:
        runs.discard(run)
        return "No epoch was finished, nothing was saved."
    return (f"The {'best' if config['patience'] else 'last'} weights, of epoch {chosen['epoch']} with a validation "
            f"loss of {chosen['val_loss']:.4f}, are in {run / runs.MODEL}; next: python evaluate_model.py "
            f"{shlex.quote(str(run))}" + ("" if runs.diverged(history) else f". {how_to_go_on(run)}"))


def how_to_go_on(run):
    return f"To go on: python train_cnn.py --resume {shlex.quote(str(run))}"


@contextlib.contextmanager
def last_words(text):
    """Let `text` be printed on stderr if this process ends without a chance to speak, as it does for want of memory.

    A shell waits at a pipe for the line that an orderly end sends; at the pipe's end without it, it speaks.
    """
    if not shutil.which("sh"):
        yield
        return
    script = """trap '' INT TERM HUP; read -r line || printf '\\n%s\\n' "$1" >&2"""
    with subprocess.Popen(["sh", "-c", script, "sh", text], stdin=subprocess.PIPE, bufsize=0) as shell:
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                shell.stdin.write(b"\n")


@contextlib.contextmanager
def interrupts_noted():
    """Yield a list that grows when Ctrl-C or SIGTERM comes, which then does nothing else; twice, it interrupts.

    One that comes after the last batch is too late for the training, which ends as it would have.

    So files are written to their end, and TensorFlow, which makes an error of its own of an interrupt
    while it traces a function, does not see it.
    """
    noted = []
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main one alone
        yield noted
        return

    def note(number, frame):
        noted.append(runtime.Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        if len(noted) > 1:
            raise noted[0]

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def option_parser():
    parser = runtime.Parser(__doc__)
    add = parser.add_argument
    add("--recipe", default="classic", choices=RECIPES,
        help="what the other options are where they are not given; the values below are those of %(default)s")
    add("--model", default=MODEL_NAMES[0], choices=MODEL_NAMES, help="network of model.py (%(default)s)")
    add("--members", type=number(int, 1, 100), default=1,
        help="networks that are trained side by side, and whose mean is the answer (%(default)s)")
    add("--epochs", type=number(int, 1, 1e6), default=50, help="at most so many (%(default)s)")
    add("--batch-size", type=number(int, 1), default=256, help="images a step (%(default)s)")
    add("--learning-rate", type=number(float, 1e-9, FLOAT32_MAX), default=3e-3,
        help="of the optimizer, at its highest (%(default)s)")
    add("--optimizer", default="adam", choices=OPTIMIZERS, help="(%(default)s)")
    add("--weight-decay", type=number(float, 0, FLOAT32_MAX), default=0.0,
        help="share of every kernel that a step takes off, times the learning rate (%(default)s)")
    add("--schedule", default="plateau", choices=SCHEDULES,
        help="of the learning rate: constant, halved on a plateau of the validation loss, or falling to "
             "zero over --epochs, from the start (cosine) or after a warm-up (one-cycle) (%(default)s)")
    add("--patience", type=number(int, 0, 1e6), default=5,
        help="stop after so many epochs without a lower validation loss and keep the best weights; "
             "0: run all epochs and keep the last (%(default)s)")
    add("--ema-epochs", type=number(float, 0, 1000), default=0.5,
        help="validate and keep the exponential moving average of the weights over about so many epochs; "
             "0: the weights as they are (%(default)s)")
    add("--dropout", type=number(float, 0, 1),
        help="rate before the last layer, half as much between convolutions (the network's own)")
    add("--l2", type=number(float, 0, FLOAT32_MAX), help="factor of the penalty on squared kernels (the network's own)")
    add("--width", type=number(float, 0.05, 20), default=1.0,
        help="factor of the numbers of trained filters and units (%(default)s)")
    add("--batch-norm", choices=("yes", "no"),
        help="batch normalisation after every trained convolution (the network's own)")
    add("--convolutions", type=int, choices=range(1, 5), help="of gap_cnn (3)")
    add("--weights", type=runtime.path_option, metavar="imagenet|FILE",
        help="what mobilenet starts from, fetched by Keras or from a file of its backbone's weights (by chance)")
    add("--label-smoothing", type=number(float, 0, 1), default=0.0, help="(%(default)s)")
    add("--val-size", type=number(float, 0), default=5000,
        help="validation images out of the 60,000: a count, or a fraction below 1 (%(default)s)")
    add("--augment", default="flip", choices=augmentation.KINDS, help="random changes (%(default)s)")
    add("--easy-every", type=number(int, 1, 1e6), default=1,
        help="train on the three quarters of the images whose losses are lowest in each such epoch only (%(default)s)")
    add("--seed", type=number(int, 0, 2**31), default=0, help="of everything random (%(default)s)")
    add("--limit", type=number(int, 1), help="use so many images for training and validation together")
    add("--data-dir", type=runtime.path_option,
        help="folder with the four files (FASHION_MNIST_DIR, or found and fetched by itself)")
    add("--runs-dir", type=runtime.path_option, default="runs", help="where run directories are made (%(default)s)")
    add("--name", type=run_name, help="of the run directory (time and network)")
    add("--resume", type=runtime.path_option, nargs="?", const=NEWEST, metavar="RUN",
        help="go on with a run that was broken off, the newest of --runs-dir if none is named, with its own options")
    return parser


def parse_options(argv=None, refuse=None):
    """Return the options as a dict, with `resume` only where it is given.

    On a wrong one, calls `refuse` with a message, or exits with code 2.
    """
    parser = option_parser()
    if refuse:
        parser.error = refuse
    parser.set_defaults(**RECIPES[parser.parse_args(argv).recipe])
    options = vars(parser.parse_args(argv))
    if options["resume"] is None:
        del options["resume"]
    else:
        for key, value in options.items():
            if value != parser.get_default(key) and key not in ("resume", "runs_dir", "data_dir"):
                parser.error(f"--resume takes --{key.replace('_', '-')} from the run")
        return options
    for name, models in OWN.items():
        if options[name] is not None and options["model"] not in models:
            parser.error(f"--{name.replace('_', '-')} does nothing in {options['model']}")
    try:
        train_size, _ = data.split_sizes(options["val_size"], options["limit"])
        options["val_size"] = data.split_sizes(options["val_size"])[1]
    except data.DataError as error:
        parser.error(str(error))
    if options["easy_every"] > max(train_size // 10, 2):
        parser.error(f"--easy-every {options['easy_every']} leaves next to nothing of the easy ones of {train_size} images")
    if options["batch_size"] > train_size:
        parser.error(f"--batch-size {options['batch_size']} is more than the {train_size} training images")
    return options


def flags(options):
    """Return options as they are typed; one that is None is left out."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]


def settings(config):
    """Return what decides what a training gives: no places of things."""
    return {key: value for key, value in config.items() if key not in ("runs_dir", "name", "data_dir")}


def same_settings(recorded, config):
    """Return whether a config that was recorded is of the same settings. An option that came later has its default."""
    recorded = {**vars(option_parser().parse_args([])), **recorded}
    return all(recorded[key] == value for key, value in settings(config).items())


def options_of(run, names):
    """Return the options that a run was made with, checked once more, and its fingerprint. Raises runs.RunError."""
    def refuse(message):
        raise runs.RunError(f"{run / runs.CONFIG} is from another version of this project, or broken: {message}")

    config = runs.load_config(run)
    for key in {*names, "fingerprint"} - {*config}:
        refuse(f"it has no {key}")
    for key in {*config} - {*names, *runs.ABOUT}:
        refuse(f"it has {key}")
    given = flags({name: config[name] for name in names})
    options = {name: value for name, value in parse_options(given, refuse).items() if name in names}
    for name in names:
        if config[name] is None and options[name] is not None:
            refuse(f"{name} is null")
    return {**options, "fingerprint": config["fingerprint"]}


def number(kind, low, below=math.inf):
    """Return an argparse type: int or float, not less than low and less than below."""
    def parse(text):
        value = kind(text)
        if not low <= value < below:
            upper = f" and below {below:g}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low:g}{upper}")
        return value
    parse.__name__ = kind.__name__  # for argparse's own complaint
    return parse


def run_name(text):
    if not runs.NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder name of letters, digits and . _ + -")
    return text


def main(argv=None):
    options = parse_options(argv)
    resume = options.pop("resume", None)

    def work():
        config, run = options, None
        if resume is not None:
            run = runs.newest(options["runs_dir"], finished=False) if resume is NEWEST else Path(resume)
        if run and runs.is_finished(run):
            print(f"{run} is finished.")
            atomic_io.sweep(run)  # it may have been killed while it finished
        else:
            if run:
                made_with = options_of(run, options.keys())
                config = made_with | {"data_dir": options["data_dir"] or made_with["data_dir"]}
            run = train(config, run)
        print(f"Next: python evaluate_model.py {shlex.quote(str(run))}")

    return runtime.exit_code("train_cnn.py", work, (data.DataError, runs.RunError, TrainingError))


if __name__ == "__main__":
    sys.exit(main())
