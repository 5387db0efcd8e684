"""TrainConfig: every training setting with its type, default, range and help text.

The argument parser of train_cnn.py, config.json, `--resume`, the recipes, the comparison and the
hyperparameter search all use it.

    TrainConfig(recipe="quick", epochs=3)         a recipe with another number of epochs
    TrainConfig.from_arguments(namespace)         the options of a command line
    TrainConfig.from_record(json.load(file))      the content of config.json
"""

import argparse
import dataclasses
import math
import os
import shlex
import types
import typing
from collections.abc import Callable
from typing import Any

from fmnist import cli, source
from fmnist.recipes import RECIPES

# The networks of model.py and the settings that each accepts.
MODEL_OPTIONS = {
    "dropout_cnn": ("dropout", "l2", "width", "batch_norm"),
    "batchnorm_cnn": ("dropout", "l2", "width", "batch_norm"),
    "gap_cnn": ("dropout", "l2", "width", "batch_norm", "convolutions"),
    "lenet_l2": ("dropout", "l2", "width", "batch_norm"),
    "allconv_cnn": ("dropout", "l2", "width", "batch_norm"),
    "deep_cnn": ("dropout", "l2", "width", "batch_norm"),
    "resnet": ("dropout", "l2", "width"),
    "mobilenet": ("dropout", "width", "weights"),
}
MODEL_NAMES = tuple(MODEL_OPTIONS)
NETWORK_SETTINGS = ("dropout", "l2", "width", "batch_norm", "convolutions", "weights")
OPTIMIZERS = ("adam", "muon")
SCHEDULES = ("constant", "plateau", "cosine", "one-cycle")
ENGINES = ("auto", "fast", "plain")
AUGMENTATIONS = ("none", "flip", "flip+shift", "flip+shift+erase", "photo")
# Settings that do not change the result.
WITHOUT_EFFECT = ("runs_dir", "name", "data_dir", "tensorboard")
# Former names of settings, still accepted on the command line and in config.json.
OLD_NAMES = {"members": "ensemble_size", "easy_every": "prune_every"}
# Settings that the oldest records lack, with the values of trainings before the setting existed.
ADDED_LATER = {
    "ensemble_size": 1,
    "prune_every": 1,
    "engine": "fast",
    "mixed_precision": False,
    "init_from": None,
    "fold": None,
    "tensorboard": False,
}
# Settings that a run must share with the run from whose weights it starts: they determine the
# network, and which images are the validation set.
SHARED_WITH_START = (
    *("model", "ensemble_size", "width", "batch_norm", "convolutions"),
    *("seed", "val_size", "limit", "fold"),
)
# The argument groups of `--help`.
DATA, MODEL, OPTIMISATION = "data", "model", "optimisation"
REGULARISATION, TRAINING, DEVICE, RUN = "regularisation", "training", "device", "run"
GROUPS = (DATA, MODEL, OPTIMISATION, REGULARISATION, TRAINING, DEVICE, RUN)
FLOAT32_MAX = 3.4e38
YES_NO = {"yes": True, "no": False}
UNSET = type("Unset", (), {"__repr__": lambda self: "<from the recipe>"})()


class ConfigError(cli.UserError, ValueError):
    """A setting is invalid. The message contains the command line option."""


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    low: float = -math.inf,
    below: float = math.inf,
    choices: tuple[str, ...] = (),
    check: Callable[[str], str] | None = None,
    metavar: str | None = None,
) -> Any:
    """Return a field of TrainConfig.

    Args:
        default: value for networks without a recipe; a setting whose default is None accepts None.
        group: argument group in the help text, one of GROUPS.
        help: complete phrase; the default is appended to it.
        low: smallest valid number.
        below: exclusive upper bound of a number.
        choices: valid texts.
        check: argparse type that rejects invalid texts.
        metavar: placeholder of the value in the help text.
    """
    return dataclasses.field(
        default=UNSET,
        metadata={
            "default": default,
            "group": group,
            "help": help,
            "low": low,
            "below": below,
            "choices": choices,
            "check": check,
            "metavar": metavar,
        },
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every training setting. The recipe supplies the settings that are not given.

    A validation size below 1 is a fraction and becomes a number of images.

    Raises:
        ConfigError: for an invalid value.
    """

    recipe: str = setting(
        "classic",
        TRAINING,
        "recipe that supplies all settings that are not given; classic is for dropout_cnn only",
        choices=tuple(RECIPES),
    )
    model: str = setting("dropout_cnn", MODEL, "network to train", choices=MODEL_NAMES)
    ensemble_size: int = setting(
        1,
        MODEL,
        "number of networks in an ensemble, trained together; the prediction is their mean output",
        low=1,
        below=100,
        metavar="N",
    )
    epochs: int = setting(50, TRAINING, "maximum number of epochs", low=1, below=1e6, metavar="N")
    batch_size: int = setting(
        256, OPTIMISATION, "number of images per training step", low=1, metavar="N"
    )
    learning_rate: float = setting(
        3e-3, OPTIMISATION, "peak learning rate", low=1e-9, below=FLOAT32_MAX, metavar="RATE"
    )
    optimizer: str = setting("adam", OPTIMISATION, "optimizer to use", choices=OPTIMIZERS)
    weight_decay: float = setting(
        0.0,
        REGULARISATION,
        "decoupled weight decay of the kernels",
        low=0,
        below=FLOAT32_MAX,
        metavar="RATE",
    )
    schedule: str = setting(
        "plateau",
        OPTIMISATION,
        "learning rate schedule: constant; plateau (halved when the validation loss stops "
        "falling); cosine (falls to zero over --epochs); one-cycle (warm-up, then falls to zero)",
        choices=SCHEDULES,
    )
    patience: int = setting(
        5,
        TRAINING,
        "early stopping: stop after this many epochs without a lower validation loss and keep the "
        "best weights; 0 runs all epochs and keeps the last weights",
        low=0,
        below=1e6,
        metavar="N",
    )
    ema_epochs: float = setting(
        0.5,
        OPTIMISATION,
        "time constant, in epochs, of the exponential moving average of the weights that is "
        "validated and saved; 0 turns averaging off",
        low=0,
        below=1000,
        metavar="EPOCHS",
    )
    dropout: float | None = setting(
        None,
        REGULARISATION,
        "dropout rate before the last layer; the rate between convolutions is half of it",
        low=0,
        below=1,
        metavar="RATE",
    )
    l2: float | None = setting(
        None,
        REGULARISATION,
        "L2 regularisation strength of the kernels",
        low=0,
        below=FLOAT32_MAX,
        metavar="STRENGTH",
    )
    width: float = setting(
        1.0,
        MODEL,
        "width multiplier: scales the number of trained filters and units",
        low=0.05,
        below=20,
        metavar="FACTOR",
    )
    batch_norm: bool | None = setting(
        None,
        MODEL,
        "batch normalisation after the trained convolutions, and after the hidden dense layer in "
        "dropout_cnn and batchnorm_cnn",
    )
    convolutions: int | None = setting(
        None, MODEL, "number of convolutions, for gap_cnn only", low=1, below=5, metavar="N"
    )
    weights: str | None = setting(
        None,
        MODEL,
        "initial backbone weights, for mobilenet only: imagenet (downloaded by Keras) or a file "
        "(default: random initialisation)",
        check=cli.path,
        metavar="imagenet|FILE",
    )
    init_from: str | None = setting(
        None,
        MODEL,
        "finished run from whose weights the training starts, with a new optimizer; network, "
        "--seed, --val-size, --limit and --fold must be the same (default: random initialisation)",
        check=cli.path,
        metavar="RUN",
    )
    label_smoothing: float = setting(
        0.0,
        REGULARISATION,
        "label smoothing of the training loss",
        low=0,
        below=1,
        metavar="FRACTION",
    )
    val_size: float = setting(
        5000,
        DATA,
        "size of the validation set, taken from the 60,000 training images: a number of images, "
        "or a fraction below 1",
        low=0,
        metavar="SIZE",
    )
    augment: str = setting(
        "flip", REGULARISATION, "augmentation of the training images", choices=AUGMENTATIONS
    )
    prune_every: int = setting(
        1,
        TRAINING,
        "data pruning: train on each easy image (the 75 %% with the lowest loss) in every N-th "
        "epoch only; 1 uses all images in every epoch",
        low=1,
        below=1e6,
        metavar="N",
    )
    engine: str = setting(
        "auto",
        DEVICE,
        "fast: an equivalent of the network that trains faster on CPUs; plain: the network itself, "
        "on any device; auto: plain on a GPU, else fast",
        choices=ENGINES,
    )
    mixed_precision: bool = setting(
        False,
        DEVICE,
        "compute in float16 on a GPU, or in bfloat16 on a processor with AVX512_BF16 or AMX",
    )
    seed: int = setting(
        0,
        TRAINING,
        "random seed of the split, the initial weights, the order of the images, augmentation and "
        "dropout",
        low=0,
        below=2**31,
        metavar="N",
    )
    limit: int | None = setting(
        None,
        DATA,
        "use only this many images for training and validation together (default: all 60,000)",
        low=1,
        metavar="N",
    )
    fold: int | None = setting(
        None,
        DATA,
        "cross-validation: use fold K, counted from 0, of the 60,000 / --val-size folds of the "
        "training images as the validation set (default: random validation set)",
        low=0,
        metavar="K",
    )
    data_dir: str | None = setting(None, DATA, cli.DATA_DIR_HELP, check=cli.path, metavar="DIR")
    runs_dir: str = setting(
        "runs", RUN, "folder for run directories", check=cli.path, metavar="DIR"
    )
    name: str | None = setting(
        None,
        RUN,
        "name of the run directory (default: date, time and network)",
        check=cli.run_name,
        metavar="NAME",
    )
    tensorboard: bool = setting(
        False,
        RUN,
        "write curves, weight histograms and confusion matrices for TensorBoard to the run "
        "directory",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # recipe and model come first
            value = getattr(self, field.name)
            value = self.default_of(field) if value is UNSET else checked(field, value)
            object.__setattr__(self, field.name, value)
        for name in NETWORK_SETTINGS:
            if name not in MODEL_OPTIONS[self.model] and getattr(self, name) is not None:
                raise ConfigError(f"{flag(name)} has no effect on {self.model}; leave it out")
        if self.weights and self.init_from:
            raise ConfigError("--weights and --init-from exclude each other; leave one out")
        try:
            train_size, _ = source.split_sizes(self.val_size, self.limit, self.fold)
            object.__setattr__(self, "val_size", source.split_sizes(self.val_size)[1])
        except source.DataError as error:
            raise ConfigError(str(error)) from None
        if self.prune_every > max(train_size // 10, 2):
            raise ConfigError(
                f"--prune-every {self.prune_every} is too large for {train_size} training images; "
                f"use at most {max(train_size // 10, 2)}"
            )
        if self.batch_size > train_size:
            raise ConfigError(
                f"--batch-size {self.batch_size} exceeds the {train_size} training images; use at "
                f"most {train_size}"
            )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "TrainConfig":
        """Return the config of parsed options, see add_options(). Raises ConfigError."""
        return cls(**{name: value for name, value in vars(arguments).items() if name in names()})

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "TrainConfig":
        """Return the config of a record that to_record() made. Raises ConfigError.

        Former names of settings are accepted, and ADDED_LATER supplies the settings that the oldest
        records lack; other keys are ignored.
        """
        record = ADDED_LATER | with_current_names(record)
        missing = [name for name in names() if name not in record]
        if missing:
            raise ConfigError(f"the setting {missing[0]} is missing")
        return cls(**{name: record[name] for name in names()})

    def to_record(self) -> dict[str, Any]:
        """Return the settings by name, as JSON values."""
        return dataclasses.asdict(self)

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that affect the result: all except WITHOUT_EFFECT."""
        record = self.to_record()
        return {name: value for name, value in record.items() if name not in WITHOUT_EFFECT}

    def network_settings(self) -> dict[str, Any]:
        """Return the keyword arguments of model.build_model()."""
        return {name: getattr(self, name) for name in NETWORK_SETTINGS if name != "weights"}

    def gives_the_same_as(self, record: dict[str, Any]) -> bool:
        """Return whether recorded settings give the same result as this config.

        The engine auto accepts records of both engines. A record that lacks a setting gives another
        result, see from_record().
        """
        same = {name: getattr(self, name) for name in WITHOUT_EFFECT}
        if self.engine == "auto":
            same["engine"] = self.engine
        try:
            return TrainConfig.from_record(with_current_names(record) | same) == self
        except ConfigError:
            return False

    def default_of(self, field: dataclasses.Field) -> Any:
        """Return the default of a setting in the recipe of this config.

        The recipe classic, which nobody has to name, applies to its own network only.
        """
        recipe, default = RECIPES.get(self.recipe, {}), field.metadata["default"]
        if self.recipe == "classic" and self.model not in (recipe["model"], UNSET):
            return default
        return recipe.get(field.name, default)

    def to_flags(self) -> list[str]:
        """Return the options of train_cnn.py that give this config, omitting defaults.

        Raises:
            ConfigError: no option expresses None in place of a value of the recipe.
        """
        flags = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and self.default_of(field) is not None:
                raise ConfigError(
                    f"{flag(field.name)}: no option stands for the network's own value"
                )
            if value != self.default_of(field):
                text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
                if isinstance(value, float) and value.is_integer():
                    text = str(int(value))
                flags += [flag(field.name), text]
        return flags


def flags_of_start(record: dict[str, Any]) -> list[str]:
    """Return the options that a run needs to start from the weights of a recorded run.

    These are SHARED_WITH_START and the batch size, as far as they are not the defaults. The record
    need not be valid.
    """
    flags = []
    for field in dataclasses.fields(TrainConfig):
        value = record.get(field.name)
        if field.name in (*SHARED_WITH_START, "batch_size") and value not in (
            None,
            field.metadata["default"],
        ):
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            flags += [flag(field.name), text]
    return flags


def with_current_names(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose settings have their current names instead of those in OLD_NAMES."""
    return {OLD_NAMES.get(name, name): value for name, value in record.items()}


def names() -> list[str]:
    """Return the names of all settings."""
    return [field.name for field in dataclasses.fields(TrainConfig)]


def flag(name: str) -> str:
    """Return the command line option of a setting."""
    return f"--{name.replace('_', '-')}"


def add_options(parser: argparse.ArgumentParser) -> dict[str, argparse._ArgumentGroup]:
    """Add an option for every setting to an argument parser and return the groups by name.

    The parsed namespace contains only the options that were given.
    """
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for field in dataclasses.fields(TrainConfig):
        options = {
            "dest": field.name,
            "default": argparse.SUPPRESS,
            "choices": field.metadata["choices"] or None,
            "metavar": field.metadata["metavar"],
            "type": lambda text, field=field: parsed(field, text),
        }
        if kind_of(field) is bool:  # the option alone means yes
            options |= {"metavar": "yes|no", "nargs": "?", "const": True}
        groups[field.metadata["group"]].add_argument(
            flag(field.name), help=help_text(field), **options
        )
        for old, new in OLD_NAMES.items():
            if new == field.name:
                parser.add_argument(flag(old), help=argparse.SUPPRESS, **options)
    return groups


def help_text(field: dataclasses.Field) -> str:
    """Return the help text of a setting, which ends with the default."""
    text, default = field.metadata["help"], field.metadata["default"]
    if "(default:" in text:
        return text
    others = default_text(field, default)
    own = default_text(field, RECIPES["classic"].get(field.name, default))
    if own == others:
        return f"{text} (default: {own})"
    network = RECIPES["classic"]["model"]
    return f"{text} (default: {own} for {network}, {others} for other networks)"


def default_text(field: dataclasses.Field, default: Any) -> str:
    """Return a default as text for the help text."""
    if default is None:
        return "that of the network"
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if kind_of(field) is float else str(default)


def parse_arguments(
    docstring: str, argv: list[str] | None = None
) -> tuple[TrainConfig | None, argparse.Namespace]:
    """Return the config of train_cnn.py's command line (None with --resume) and its options.

    The namespace has `resume` (True for the newest run), `runs_dir` and `data_dir`. Exits with code
    2 on an invalid option.
    """
    parser = cli.Parser(docstring)
    add_options(parser)[RUN].add_argument(
        "--resume",
        type=cli.path,
        nargs="?",
        const=True,
        metavar="RUN",
        help="resume an interrupted run with its recorded settings; without RUN, the newest one in "
        "--runs-dir (default: start a new run)",
    )
    options = parser.parse_args(argv)
    if options.resume is not None:
        if extra := vars(options).keys() - {"resume", "runs_dir", "data_dir"}:
            parser.error(
                f"--resume uses the {flag(min(extra))} of the run; leave this option out, or start "
                "a new run from the weights of a finished one: --init-from "
                + ("RUN" if options.resume is True else shlex.quote(options.resume))
            )
        return None, argparse.Namespace(**{"runs_dir": "runs", "data_dir": None} | vars(options))
    try:
        return TrainConfig.from_arguments(options), options
    except ConfigError as error:
        parser.error(str(error))


def kind_of(field: dataclasses.Field) -> type:
    """Return the type of a field (int, float, str or bool), which may also allow None."""
    if not isinstance(field.type, types.UnionType):
        return field.type
    return next(kind for kind in typing.get_args(field.type) if kind is not types.NoneType)


def parsed(field: dataclasses.Field, text: str) -> Any:
    """Return the value of a command line argument. Raises argparse.ArgumentTypeError."""
    kind = kind_of(field)
    if kind is bool:
        if text not in YES_NO:
            raise argparse.ArgumentTypeError(f"must be yes or no, not {text!r}")
        return YES_NO[text]
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid {kind.__name__} value: {text[:100]!r}") from None
    if kind is str:
        return field.metadata["check"](value) if field.metadata["check"] else value
    return cli.check_range(value, field.metadata["low"], field.metadata["below"])


def checked(field: dataclasses.Field, value: Any) -> Any:
    """Return the value of a setting after checking type and range. Raises ConfigError."""
    if value is None and field.metadata["default"] is None:
        return None
    kind, choices = kind_of(field), field.metadata["choices"]
    if kind is bool and isinstance(value, str) and value in YES_NO:
        value = YES_NO[value]
    elif kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**53 else math.inf
    if type(value) is not kind:
        raise ConfigError(
            f"{flag(field.name)}: must be of type {kind.__name__}, not "
            f"{cli.one_line(repr(value))[:100]}"
        )
    if choices and value not in choices:
        raise ConfigError(f"{flag(field.name)}: must be one of {', '.join(choices)}, not {value!r}")
    try:
        if field.metadata["check"]:
            return field.metadata["check"](value)
        return (
            value
            if kind in (str, bool)
            else cli.check_range(value, field.metadata["low"], field.metadata["below"])
        )
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"{flag(field.name)}: {error}") from None
