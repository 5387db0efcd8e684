"""README, docs, help texts and messages: links, commands, tables and plain English."""

import argparse
import contextlib
import importlib
import json
import re
import shlex

import pytest

from benchmarks import tables
from fmnist import cli
from tests import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "pretrained").glob("*/README.md"),
    *(ROOT / "docs").rglob("*.md"),
]
COMMANDS = [
    "train_cnn",
    "evaluate_model",
    *(f"tools.{path.stem}" for path in (ROOT / "tools").glob("[a-z]*.py")),
    *(
        f"benchmarks.{path.stem}"
        for path in (ROOT / "benchmarks").glob("[a-z]*.py")
        if "\ndef main(" in path.read_text() and path.stem != "speed_worker"  # of measure_speed
    ),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Phrases that are never the standard term; docs/glossary.md has the terms to use.
WRONG_PHRASES = (
    "broken off",
    "goes on with",
    "by chance",
    "drawn by",
    "want of memory",
    "the ground is",
    "plain ground",
    "cluttered ground",
    "called unsure",
    "is unsure",
    "doubts",
    "guesses",
    "tells what",
    "tell what",
    "what the network sees",
    "what the network saw",
    "how sure",
    "surest",
    "in a hurry",
    "no number",
    "no longer a number",
    "cannot be told from",
    "a tie",
    "at its highest",
    "factor of the penalty",
    "side by side, in",
    "easy images in turn",
    "unlike what it knows",
    "knows nothing",
    "nothing is lost",
    "anything lost",
    "what is unfinished",
    "in the making",
    "made data",
    "torture",
    "better options",
    "the same ones",
    "is broken",
    "or broken",
    "cut off",
    "is refused",
    "are refused",
    "last words",
    "whose answer",
    "the answer is",
    "what it ran on",
    "said above",
    "calmer hour",
    "numbers of an image",
    "a picture of the results",
)
PROSE_SUFFIXES = {".md", ".py", ".html", ".toml", ".txt", ".yml", ""}
SKIPPED = {ROOT / "docs/glossary.md", ROOT / "tests/test_documentation.py"}


def prose_files():
    folders = ("benchmarks", "docs", "fmnist", "pretrained", "tests", "tools")
    inside = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    files = [*ROOT.glob("*"), ROOT / ".ci/run", *inside]
    return [
        path
        for path in files
        if path.is_file() and path.suffix in PROSE_SUFFIXES and path not in SKIPPED
    ]


def sentences(path):
    """Return the text of a file in lower case, with comments and strings joined over lines."""
    text = path.read_text(encoding="utf-8").lower()
    text = re.sub(r'["\']\s*\n\s*f?["\']', "", text)  # implicit concatenation of strings
    return re.sub(r"\s*\n\s*(#|>|//)?\s*", " ", text)


def wrong_phrases(path):
    text = sentences(path)
    return [
        phrase for phrase in WRONG_PHRASES if re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text)
    ]


def test_no_file_contains_a_phrase_that_is_never_right():
    found = {str(path.relative_to(ROOT)): wrong_phrases(path) for path in prose_files()}
    assert {path: phrases for path, phrases in found.items() if phrases} == {}


def test_a_wrong_phrase_is_found_across_lines(tmp_path):
    (tmp_path / "a.py").write_text(
        '# a run that was broken\n    # off\nx = ("want of "\n  "memory")'
    )
    assert wrong_phrases(tmp_path / "a.py") == ["broken off", "want of memory"]


class Parsed(Exception):
    """Raised in place of the work of a command, with its parser."""


@contextlib.contextmanager
def only_parse(monkeypatch):
    """Let every command parse its options and then raise Parsed."""
    parse = cli.Parser.parse_args

    def parse_args(self, arguments=None, namespace=None):
        parse(self, arguments, namespace)
        raise Parsed(self)

    with monkeypatch.context() as patch:
        patch.setattr(cli.Parser, "parse_args", parse_args)
        yield


def parser_of(command, arguments, monkeypatch):
    """Return the parser of a command that accepts these arguments."""
    with only_parse(monkeypatch), pytest.raises(Parsed) as parsed:
        importlib.import_module(command).main(arguments)
    return parsed.value.args[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_complete_help_text(command, monkeypatch):
    required = {
        "tools.predict_image": ["picture.png"],
        "tools.finetune_photos": ["photos"],
        "tools.train_segmentation": ["photos"],
        "tools.train_whole_photo": ["photos"],
        "benchmarks.real_photos": ["photos"],
        "benchmarks.photo_ablation": ["photos", "others"],
    }
    actions = parser_of(command, required.get(command, []), monkeypatch)._actions
    texts = {action.dest: action.help for action in actions if action.help != argparse.SUPPRESS}
    assert [name for name, text in texts.items() if len(text or "") < 15] == []
    for action in actions:
        if action.option_strings and action.nargs != 0 and action.help != argparse.SUPPRESS:
            assert "(default: " in action.help, f"{action.option_strings} does not name a default"


def blocks(path, language):
    return [content for kind, content in BLOCK.findall(path.read_text()) if kind == language]


PLACEHOLDERS = {"NAME", "tools.NAME", "benchmarks.NAME", "--help"}


def documented_commands():
    """Yield (page, module, arguments) for every documented command of this project."""
    for page in PAGES:
        lines = [
            line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()
        ]
        lines += re.findall(r"`(python [^`]+)`", page.read_text())
        for line in lines:
            words = shlex.split(line, comments=True)
            if words[:1] != ["python"] or PLACEHOLDERS & {*words}:
                continue
            if words[1:2] == ["-m"] and words[2].startswith(("tools.", "benchmarks.")):
                yield page.name, words[2], tuple(words[3:])
            elif words[1] in ("train_cnn.py", "evaluate_model.py"):
                yield page.name, words[1].removesuffix(".py"), tuple(words[2:])


@pytest.mark.parametrize("page, command, arguments", dict.fromkeys(documented_commands()))
def test_documented_commands_are_valid(page, command, arguments, monkeypatch):
    # A command mentioned in a sentence may lack its arguments.
    if arguments or command != "tools.predict_image":
        parser_of(command, list(arguments), monkeypatch)


def test_make_targets_in_the_documentation_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        text = page.read_text()
        for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE):
            name = "".join(target)
            assert re.search(rf"^{name}:|^\.PHONY:.* {name}\b", makefile, re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_compile(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def anchors(page):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_are_not_dead(page):
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_every_page_is_linked_from_another():
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text())
        if not link.startswith("https://")
    }
    assert [page.name for page in PAGES if page not in linked | {ROOT / "README.md"}] == []


@pytest.mark.parametrize("page", tables.PAGES)
def test_tables_agree_with_their_json_files(page):
    text = (ROOT / page).read_text()
    assert "<!-- table: " in text and tables.updated(text) == text


def test_every_table_is_on_a_page():
    text = "".join((ROOT / page).read_text() for page in tables.PAGES)
    assert {name for _, name, _ in tables.MARKED.findall(text)} == tables.tables().keys()


def test_a_changed_result_changes_a_table():
    text = (ROOT / "README.md").read_text()
    changed = tables.MARKED.sub(lambda match: match[0].replace(" ± ", " ± 1"), text)
    assert changed != text and tables.updated(changed) == text


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_documentation_tables_have_at_most_seven_columns():
    for page in PAGES:
        if page.parent.name == "comparison":  # a generated file with all scores
            continue
        for line in BLOCK.sub("", page.read_text()).splitlines():
            assert line.count(" | ") <= 6 or not line.startswith("|"), f"{page.name}: {line}"


def test_the_notebook_is_saved_with_its_outputs():
    path = ROOT / "docs/tutorial.ipynb"
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6
    assert path.stat().st_size < 1e6
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for link in LINK.findall("".join(cell["source"])):
                assert link.startswith("https://") or (path.parent / link).exists()
