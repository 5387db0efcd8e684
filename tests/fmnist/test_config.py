import dataclasses
import inspect
import json

import pytest

from fmnist import config
from fmnist.config import MODEL_OPTIONS, ConfigError, TrainConfig, parse_arguments
from fmnist.recipes import ADAM, RECIPES
from model import MODELS


def parsed(*argv):
    return parse_arguments("", list(argv))[0]


def test_networks_and_their_options_agree_with_model_py():
    assert tuple(MODELS) == config.MODEL_NAMES
    for name, network in MODELS.items():
        # The weights are loaded after the network is built.
        options = set(MODEL_OPTIONS[name]) - {"weights"}
        assert options == set(inspect.signature(network).parameters)


@pytest.mark.parametrize("name", RECIPES)
def test_the_settings_of_a_recipe_are_valid_options(name):
    flags = [
        token for key, value in RECIPES[name].items() for token in (config.flag(key), str(value))
    ]
    expected = TrainConfig(recipe=name).to_record() | {"recipe": "classic"}
    assert parsed(*flags).to_record() == expected


@pytest.mark.parametrize("name", ["adam", *RECIPES])
def test_no_recipe_depends_on_the_defaults(name):
    settings = RECIPES.get(name, ADAM)
    groups = {config.OPTIMISATION, config.REGULARISATION, config.TRAINING}
    training = {
        field.name
        for field in dataclasses.fields(TrainConfig)
        if field.metadata["group"] in groups and field.metadata["default"] is not None
    }
    # The recipe itself and the seed are chosen by the user.
    missing = training - {"recipe", "seed"} - {*settings}
    # Whoever uses ADAM chooses the length of the training.
    assert missing == ({"epochs", "schedule", "patience"} if settings is ADAM else set())


def test_classic_applies_to_its_own_network_only():
    assert TrainConfig() == TrainConfig(**RECIPES["classic"])
    other = TrainConfig(model="gap_cnn")
    assert (other.epochs, other.optimizer, other.dropout) == (50, "adam", None)
    assert TrainConfig(dropout=None).dropout is None  # the network's own
    assert TrainConfig(recipe="quick", model="gap_cnn").epochs == RECIPES["quick"]["epochs"]


def test_help_texts_name_both_defaults():
    texts = {field.name: config.help_text(field) for field in dataclasses.fields(TrainConfig)}
    assert texts["epochs"].endswith("(default: 14 for dropout_cnn, 50 for other networks)")
    assert texts["batch_size"].endswith("(default: 256)")


def test_an_option_overrides_the_recipe():
    quick = TrainConfig(recipe="quick")
    assert parsed("--recipe", "quick", "--epochs", "2", "--seed", "5") == dataclasses.replace(
        quick, epochs=2, seed=5
    )
    assert parsed("--optimizer", "adam", "--recipe", "quick").optimizer == "adam"
    assert TrainConfig(recipe="quick", optimizer="adam").optimizer == "adam"


SETTINGS = [
    {},
    {"recipe": "best", "epochs": 3, "val_size": 2000},
    {"model": "gap_cnn", "convolutions": 2, "batch_norm": False},
    {"model": "mobilenet", "weights": "imagenet", "width": 0.35},
    {"l2": 1e-6, "dropout": 0.0, "batch_norm": True},
    {"data_dir": "a folder", "runs_dir": "other", "name": "mine", "limit": 6000, "seed": 3},
    {"val_size": 0.2, "fold": 0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_config_survives_the_conversion_to_flags_and_to_json(settings):
    original = TrainConfig(**settings)
    assert parsed(*original.to_flags()) == original
    assert TrainConfig.from_record(json.loads(json.dumps(original.to_record()))) == original
    assert original.gives_the_same_as(original.to_record())


def test_no_option_replaces_a_value_of_the_recipe_by_that_of_the_network():
    with pytest.raises(ConfigError, match="--dropout"):
        TrainConfig(dropout=None).to_flags()


def test_flags_contain_only_settings_that_differ_from_the_recipe():
    assert TrainConfig(recipe="quick", epochs=3, val_size=2000).to_flags() == [
        "--recipe",
        "quick",
        "--epochs",
        "3",
        "--val-size",
        "2000",
    ]
    assert TrainConfig().to_flags() == []


def test_a_config_is_frozen_and_a_fractional_val_size_becomes_a_number_of_images():
    frozen = TrainConfig(val_size=0.1)
    assert frozen.val_size == 6000
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.epochs = 3


def test_paths_do_not_affect_the_result_and_the_oldest_records_lack_three_settings():
    record = TrainConfig(epochs=3).to_record()
    assert TrainConfig(
        epochs=3, runs_dir="elsewhere", name="other", data_dir="there"
    ).gives_the_same_as(record)
    assert not TrainConfig(epochs=4).gives_the_same_as(record)
    del record["ensemble_size"], record["prune_every"]
    assert TrainConfig(epochs=3, prune_every=1).gives_the_same_as(record)
    assert not TrainConfig(epochs=3, prune_every=2).gives_the_same_as(record)
    assert not TrainConfig(epochs=3, prune_every=1, ensemble_size=2).gives_the_same_as(record)
    del record["fold"]
    assert TrainConfig(epochs=3, prune_every=1).gives_the_same_as(record)
    assert not TrainConfig(epochs=3, prune_every=1, fold=0).gives_the_same_as(record)
    del record["optimizer"]
    assert not TrainConfig(epochs=3, prune_every=1).gives_the_same_as(record)
    assert not TrainConfig(epochs=3).gives_the_same_as(record | {"epochs": "three"})


def test_a_record_of_an_earlier_version_is_accepted():
    record = TrainConfig(model="gap_cnn", batch_norm=False).to_record()
    assert TrainConfig.from_record(record | {"batch_norm": "no"}).batch_norm is False


def with_old_names(record):
    """Return a record as it was written before settings were renamed."""
    old = {new: old for old, new in config.OLD_NAMES.items()}
    return {old.get(name, name): value for name, value in record.items()}


def test_old_names_of_settings_are_accepted_in_a_record():
    best = TrainConfig(recipe="best")
    record = with_old_names(best.to_record())
    assert record["members"] == 2 and "ensemble_size" not in record
    assert TrainConfig.from_record(record) == best
    assert best.gives_the_same_as(record)


def test_old_options_are_accepted_but_not_in_the_help_text(capsys):
    assert parsed("--members", "2", "--easy-every", "3") == TrainConfig(
        ensemble_size=2, prune_every=3
    )
    with pytest.raises(SystemExit):
        parsed("--help")
    text = capsys.readouterr().out
    assert "--ensemble-size" in text
    assert not any(config.flag(old) in text for old in config.OLD_NAMES)


@pytest.mark.parametrize(
    "settings, message_part",
    [
        ({"epochs": 0}, "--epochs"),
        ({"epochs": True}, "--epochs"),
        ({"epochs": 2.0}, "--epochs"),
        ({"epochs": None}, "--epochs"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"learning_rate": 10**400}, "--learning-rate"),
        ({"learning_rate": "0.1"}, "--learning-rate"),
        ({"dropout": 1}, "--dropout"),
        ({"model": "vgg"}, "dropout_cnn"),
        ({"model": ["gap_cnn"]}, "--model"),
        ({"recipe": "slow"}, "classic"),
        ({"recipe": {}}, "--recipe"),
        ({"batch_norm": "often"}, "--batch-norm"),
        ({"batch_norm": 1}, "--batch-norm"),
        ({"name": "../up"}, "--name"),
        ({"runs_dir": ""}, "--runs-dir"),
        ({"convolutions": 2}, "--convolutions has no effect on dropout_cnn"),
        ({"model": "mobilenet", "l2": 0.1}, "--l2 has no effect on mobilenet"),
        ({"val_size": 3}, "validation size"),
        ({"limit": 5}, "limit"),
        ({"batch_size": 55_001}, "--batch-size 55001"),
        ({"prune_every": 5501}, "--prune-every"),
        ({"fold": 12}, "--fold must be at least 0 and below 12"),
        ({"fold": -1}, "--fold"),
        ({"fold": 0, "val_size": 5500}, "--fold needs a --val-size"),
        ({"fold": 0, "limit": 6000}, "--fold and --limit"),
    ],
)
def test_an_invalid_setting_is_rejected_in_one_line(settings, message_part):
    with pytest.raises(ConfigError, match=message_part) as caught:
        TrainConfig(**settings)
    assert "\n" not in str(caught.value)


def test_an_incomplete_record_is_rejected():
    record = TrainConfig().to_record()
    del record["epochs"]
    with pytest.raises(ConfigError, match="epochs is missing"):
        TrainConfig.from_record(record)


def test_every_setting_has_a_distinct_help_text_with_its_default():
    texts = [config.help_text(field) for field in dataclasses.fields(TrainConfig)]
    assert len(set(texts)) == len(texts)
    assert all("(default: " in text for text in texts)


def test_every_setting_belongs_to_an_argument_group(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    text = capsys.readouterr().out
    positions = [text.index(f"\n{group}:\n") for group in config.GROUPS]
    assert positions == sorted(positions)
