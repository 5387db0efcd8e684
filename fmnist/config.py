"""TrainConfig: every setting of a training, once, with its type, default, check and help text.

The argument parser of train_cnn.py, config.json, `--resume`, the recipes, the comparison and the
search all use it.

    TrainConfig(recipe="quick", epochs=3)         the settings of a recipe, but for the epochs
    TrainConfig.from_arguments(namespace)         what was given on a command line
    TrainConfig.from_record(json.load(file))      what config.json holds
"""

import argparse
import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable
from typing import Any

from fmnist import cli, source
from fmnist.recipes import RECIPES

# The networks of model.py, and the settings that each of them takes.
MODEL_OPTIONS = {
    "dropout_cnn": ("dropout", "l2", "width", "batch_norm"),
    "batchnorm_cnn": ("dropout", "l2", "width", "batch_norm"),
    "gap_cnn": ("dropout", "l2", "width", "batch_norm", "convolutions"),
    "lenet_l2": ("dropout", "l2", "width", "batch_norm"),
    "allconv_cnn": ("dropout", "l2", "width", "batch_norm"),
    "deep_cnn": ("dropout", "l2", "width", "batch_norm"),
    "mobilenet": ("dropout", "width", "weights"),
}
MODEL_NAMES = tuple(MODEL_OPTIONS)
NETWORK_SETTINGS = ("dropout", "l2", "width", "batch_norm", "convolutions", "weights")
OPTIMIZERS = ("adam", "muon")
SCHEDULES = ("constant", "plateau", "cosine", "one-cycle")
AUGMENTATIONS = ("none", "flip", "flip+shift", "flip+shift+erase")
PLACES = ("runs_dir", "name", "data_dir")  # settings that change nothing in the result
FLOAT32_MAX = 3.4e38
YES_NO = {"yes": True, "no": False}
UNSET = type("Unset", (), {"__repr__": lambda self: "<of the recipe>"})()


class ConfigError(cli.UserError, ValueError):
    """A setting is impossible. The message spells it as the command line does."""


def setting(
    default: Any,
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
        default: the value of the recipe `classic`; where it is None, None is allowed.
        help: a phrase; the default is added to it.
        low: the least value of a number.
        below: what a number has to be below.
        choices: the values of a text.
        check: an argparse type that rejects impossible texts.
        metavar: what stands for the value in the help text.
    """
    return dataclasses.field(
        default=UNSET,
        metadata={
            "default": default,
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
    """Every setting of a training. What is not given is as the recipe has it.

    Raises ConfigError for an impossible value. A validation size below 1 becomes a number of
    images.
    """

    recipe: str = setting(
        "classic",
        "what the other settings are where they are not given; the defaults named below are those "
        "of classic",
        choices=tuple(RECIPES),
    )
    model: str = setting("dropout_cnn", "network of model.py", choices=MODEL_NAMES)
    members: int = setting(
        1,
        "number of networks that are trained together and whose mean output counts",
        low=1,
        below=100,
    )
    epochs: int = setting(50, "maximum number of epochs", low=1, below=1e6)
    batch_size: int = setting(256, "images per training step", low=1)
    learning_rate: float = setting(3e-3, "peak learning rate", low=1e-9, below=FLOAT32_MAX)
    optimizer: str = setting("adam", "optimizer", choices=OPTIMIZERS)
    weight_decay: float = setting(
        0.0, "decoupled weight decay of the kernels", low=0, below=FLOAT32_MAX
    )
    schedule: str = setting(
        "plateau",
        "learning rate schedule: constant, halved on a plateau of the validation loss, "
        "or falling to zero over --epochs, from the start (cosine) or after a warm-up (one-cycle)",
        choices=SCHEDULES,
    )
    patience: int = setting(
        5,
        "stop after so many epochs without a lower validation loss and keep the best weights; "
        "0: run all epochs and keep the last weights",
        low=0,
        below=1e6,
    )
    ema_epochs: float = setting(
        0.5,
        "validate and keep the exponential moving average of the weights over about so many "
        "epochs; 0: no averaging",
        low=0,
        below=1000,
    )
    dropout: float | None = setting(
        None, "dropout rate before the last layer, half of it between convolutions", low=0, below=1
    )
    l2: float | None = setting(
        None, "L2 regularisation strength of the kernels", low=0, below=FLOAT32_MAX
    )
    width: float = setting(
        1.0, "factor of the numbers of trained filters and units", low=0.05, below=20
    )
    batch_norm: bool | None = setting(None, "batch normalisation after every trained convolution")
    convolutions: int | None = setting(
        None, "number of convolutions, of gap_cnn only", low=1, below=5
    )
    weights: str | None = setting(
        None,
        "initial weights, of mobilenet only: imagenet, which Keras fetches, or a file of its "
        "backbone's weights",
        check=cli.path,
        metavar="imagenet|FILE",
    )
    label_smoothing: float = setting(0.0, "label smoothing of the training loss", low=0, below=1)
    val_size: float = setting(
        5000, "validation images out of the 60,000: a count, or a fraction below 1", low=0
    )
    augment: str = setting("flip", "augmentation of the training images", choices=AUGMENTATIONS)
    easy_every: int = setting(
        1,
        "data pruning: train on the three quarters of the images whose losses are lowest in "
        "every n-th epoch only",
        low=1,
        below=1e6,
        metavar="N",
    )
    seed: int = setting(0, "random seed of everything", low=0, below=2**31)
    limit: int | None = setting(
        None, "use only so many images for training and validation together", low=1
    )
    data_dir: str | None = setting(
        None,
        "folder with the four files (FASHION_MNIST_DIR, or found and fetched by itself)",
        check=cli.path,
    )
    runs_dir: str = setting("runs", "folder in which run directories are made", check=cli.path)
    name: str | None = setting(
        None,
        "name of the run directory, otherwise made of the time and the network",
        check=cli.run_name,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # the recipe is the first
            value = getattr(self, field.name)
            value = default_of(field, self.recipe) if value is UNSET else checked(field, value)
            object.__setattr__(self, field.name, value)
        for name in NETWORK_SETTINGS:
            if name not in MODEL_OPTIONS[self.model] and getattr(self, name) is not None:
                raise ConfigError(f"{flag(name)} does nothing in {self.model}")
        try:
            train_size, _ = source.split_sizes(self.val_size, self.limit)
            object.__setattr__(self, "val_size", source.split_sizes(self.val_size)[1])
        except source.DataError as error:
            raise ConfigError(str(error)) from None
        if self.easy_every > max(train_size // 10, 2):
            raise ConfigError(
                f"--easy-every {self.easy_every} leaves next to no easy image of {train_size}"
            )
        if self.batch_size > train_size:
            raise ConfigError(
                f"--batch-size {self.batch_size} is more than the {train_size} training images"
            )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "TrainConfig":
        """Return the config of a command line of add_options(). Raises ConfigError."""
        return cls(**{name: value for name, value in vars(arguments).items() if name in names()})

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "TrainConfig":
        """Return the config that a record of to_record() holds. Raises ConfigError.

        What else the record holds is ignored.
        """
        missing = [name for name in names() if name not in record]
        if missing:
            raise ConfigError(f"it has no {missing[0]}")
        return cls(**{name: record[name] for name in names()})

    def to_record(self) -> dict[str, Any]:
        """Return the settings by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that decide what a training gives: all but the places of things."""
        return {name: value for name, value in self.to_record().items() if name not in PLACES}

    def network_settings(self) -> dict[str, Any]:
        """Return the keyword arguments of model.build_model()."""
        return {name: getattr(self, name) for name in NETWORK_SETTINGS if name != "weights"}

    def gives_the_same_as(self, record: dict[str, Any]) -> bool:
        """Return whether recorded settings give the same result.

        A setting that the record lacks did not exist when the run was trained. It counts as the
        default of classic, which trains as before, also where a recipe sets it by now.
        """
        defaults = {field.name: field.metadata["default"] for field in dataclasses.fields(self)}
        try:
            return (
                TrainConfig.from_record(defaults | record).result_settings()
                == self.result_settings()
            )
        except ConfigError:
            return False

    def to_flags(self) -> list[str]:
        """Return the options of train_cnn.py that give this config, without defaults."""
        flags = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != default_of(field, self.recipe):
                text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
                if isinstance(value, float) and value.is_integer():
                    text = str(int(value))
                flags += [flag(field.name), text]
        return flags


def names() -> list[str]:
    """Return the names of all settings."""
    return [field.name for field in dataclasses.fields(TrainConfig)]


def flag(name: str) -> str:
    """Return a setting's name as the command line spells it."""
    return f"--{name.replace('_', '-')}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for every setting to an argument parser.

    Only those that are given are in its result.
    """
    for field in dataclasses.fields(TrainConfig):
        default, choices = field.metadata["default"], field.metadata["choices"]
        shown = (
            "the network's own" if field.name in NETWORK_SETTINGS and default is None else default
        )
        ending = "" if shown is None or "(" in field.metadata["help"] else f" (default: {shown})"
        parser.add_argument(
            flag(field.name),
            dest=field.name,
            default=argparse.SUPPRESS,
            help=field.metadata["help"] + ending,
            choices=choices or None,
            metavar="{yes,no}" if kind_of(field) is bool else field.metadata["metavar"],
            type=lambda text, field=field: parsed(field, text),
        )


def parse_arguments(
    docstring: str, argv: list[str] | None = None
) -> tuple[TrainConfig | None, argparse.Namespace]:
    """Return the config of train_cnn.py's command line, None with --resume, and its options.

    The namespace has `resume`, True for the newest run, `runs_dir` and `data_dir`. Exits with code
    2 on a wrong option.
    """
    parser = cli.Parser(docstring)
    add_options(parser)
    parser.add_argument(
        "--resume",
        type=cli.path,
        nargs="?",
        const=True,
        metavar="RUN",
        help="resume an interrupted run with its own settings, the newest of --runs-dir if none is "
        "named",
    )
    options = parser.parse_args(argv)
    if options.resume is not None:
        if extra := vars(options).keys() - {"resume", "runs_dir", "data_dir"}:
            parser.error(f"--resume takes {flag(min(extra))} from the run")
        return None, argparse.Namespace(**{"runs_dir": "runs", "data_dir": None} | vars(options))
    try:
        return TrainConfig.from_arguments(options), options
    except ConfigError as error:
        parser.error(str(error))


def kind_of(field: dataclasses.Field) -> type:
    """Return int, float, str or bool, of a field whose type may allow None as well."""
    if not isinstance(field.type, types.UnionType):
        return field.type
    return next(kind for kind in typing.get_args(field.type) if kind is not types.NoneType)


def default_of(field: dataclasses.Field, recipe: str) -> Any:
    """Return what a setting is where it is not given."""
    return RECIPES.get(recipe, {}).get(field.name, field.metadata["default"])


def parsed(field: dataclasses.Field, text: str) -> Any:
    """Return the value of a setting that is typed as a text. Raises argparse.ArgumentTypeError."""
    kind = kind_of(field)
    if kind is bool:
        if text not in YES_NO:
            raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
        return YES_NO[text]
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid {kind.__name__} value: {text[:100]!r}") from None
    if kind is str:
        return field.metadata["check"](value) if field.metadata["check"] else value
    return cli.check_range(value, field.metadata["low"], field.metadata["below"])


def checked(field: dataclasses.Field, value: Any) -> Any:
    """Return the value of a setting, of its type and in its range. Raises ConfigError."""
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
            f"{flag(field.name)}: {cli.one_line(repr(value))[:100]} is not of type {kind.__name__}"
        )
    if choices and value not in choices:
        raise ConfigError(f"{flag(field.name)}: {value!r} is not one of {', '.join(choices)}")
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
