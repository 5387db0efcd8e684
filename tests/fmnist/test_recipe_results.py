import json

import pytest

from fmnist import recipe_results
from fmnist.recipes import RECIPES


@pytest.fixture
def leaderboard(tmp_path, monkeypatch):
    """Return the path of a leaderboard that does not exist yet."""
    monkeypatch.setattr(recipe_results, "LEADERBOARD", tmp_path / "leaderboard.json")
    return tmp_path / "leaderboard.json"


def test_the_other_recipes_are_listed_with_the_means_over_the_seeds(leaderboard):
    entries = {
        "0": {"accuracy_without_flips": 0.93, "accuracy": 0.97, "seconds": 40},
        "1": {"accuracy_without_flips": 0.95, "accuracy": 0.97, "seconds": 60},
    }
    slow = {"0": {"accuracy_without_flips": 0.951, "seconds": 240}}
    leaderboard.write_text(json.dumps({"shortest": slow, "quick": entries, "best": slow}))
    (line,) = recipe_results.other_recipes("classic")
    assert line.endswith(": --recipe quick 94.0% in 50 s, --recipe best 95.1% in 4 min")
    assert "quick" not in recipe_results.other_recipes("quick")[0]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"quick": {"0": {}}}', '{"quick": 1}'])
def test_a_missing_or_corrupt_leaderboard_gives_no_line(leaderboard, text):
    if text is not None:
        leaderboard.write_text(text)
    assert recipe_results.other_recipes("classic") == []


def test_the_leaderboard_of_the_project_covers_all_recipes_for_the_test_set():
    line = recipe_results.other_recipes(None)[0]
    assert all(f"--recipe {name} " in line for name in {*RECIPES} - {"photo"})
