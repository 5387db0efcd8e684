import pytest

import train_cnn
from fmnist.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_it_changes(name):
    classic = train_cnn.parse_options([])
    options = train_cnn.parse_options(["--recipe", name])
    assert {key for key in options if options[key] != classic[key]} == {*RECIPES[name]} | {"recipe"} - {
        "recipe" if name == "classic" else ""}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in RECIPES[name].items()]
    assert train_cnn.parse_options(flags) == {**options, "recipe": "classic"}  # every value is one a user could give


def test_an_option_overrides_the_recipe():
    options = train_cnn.parse_options(["--recipe", "quick", "--epochs", "2", "--seed", "5"])
    assert options == {**train_cnn.parse_options(["--recipe", "quick"]), "epochs": 2, "seed": 5}
    assert train_cnn.parse_options(["--optimizer", "adam", "--recipe", "quick"])["optimizer"] == "adam"
