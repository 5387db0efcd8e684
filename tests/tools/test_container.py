"""The steps of tools/serving/Dockerfile, tested without a container engine or a network."""

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request

import pytest
from PIL import Image

from fmnist import source
from tests import ROOT
from tools import serve_model

DOCKERFILE = ROOT / "tools/serving/Dockerfile"
BUILD_EDITABLE = "from setuptools import build_meta; build_meta.build_editable({folder!r})"


def instructions():
    """Return the instructions of the Dockerfile as pairs of a name and its arguments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in joined if line.strip()]
    return [
        (name, json.loads(text) if text.startswith("[") else shlex.split(text))
        for name, text in pairs
    ]


def arguments_of(name):
    """Return the arguments of the only instruction of a name."""
    found = [arguments for instruction, arguments in instructions() if instruction == name]
    assert len(found) == 1, f"{len(found)} instructions {name}"
    return found[0]


def copy(steps, folder):
    """Carry out the COPY instructions among `steps`; `folder` stands for the working directory.

    As in an image build, a folder is copied without its name: its content goes to the target.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in steps:
        if name == "COPY":
            *sources, target = arguments
            for path in (ROOT / text for text in sources):
                if path.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(path, folder / target, ignore=ignored, dirs_exist_ok=True)
                else:
                    assert target.endswith("/"), f"COPY to {target}, which is not a folder"
                    (folder / target).mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, folder / target)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The working directory of the finished image."""
    folder = tmp_path_factory.mktemp("image")
    copy(instructions(), folder)
    return folder


def test_the_base_image_has_a_python_version_that_the_project_supports():
    specifiers = pytest.importorskip("packaging.specifiers")
    name, _, tag = arguments_of("FROM")[0].partition(":")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert name == "python"
    assert tag.partition("-")[0] in specifiers.SpecifierSet(project["requires-python"])


def test_the_server_does_not_run_as_root_and_publishes_its_default_port():
    names = [name for name, _ in instructions()]
    assert arguments_of("USER")[0] not in ("root", "0")
    assert names.index("USER") < names.index("CMD")
    assert "RUN" not in names[names.index("USER") :], "pip has to run before USER"
    assert arguments_of("EXPOSE") == [str(serve_model.parse_options([]).port)]
    # 127.0.0.1, the default, cannot be reached from outside a container.
    assert serve_model.parse_options(arguments_of("CMD")[3:]).host == "0.0.0.0"


def test_pip_installs_from_files_that_are_copied_before_it_runs(tmp_path):
    installed = []
    for index, (name, words) in enumerate(instructions()):
        if name != "RUN" or words[:2] != ["pip", "install"]:
            continue
        folder = tmp_path / str(index)
        copy(instructions()[:index], folder)
        for option, value in zip(words, words[1:], strict=False):
            if option in ("-r", "-c"):
                assert (folder / value).is_file(), value
            elif option == "-e":
                path, _, extras = value.rstrip("]").partition("[")
                project = tomllib.loads((folder / path / "pyproject.toml").read_text())["project"]
                assert set(extras.split(",")) <= project["optional-dependencies"].keys()
                installed += extras.split(",")
    assert "serve" in installed


def test_the_copied_files_build_as_a_package(image, tmp_path):
    settings = tomllib.loads((image / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in settings["packages"]:
        assert (image / package.replace(".", "/") / "__init__.py").is_file(), package
    for module in settings["py-modules"]:
        assert (image / f"{module}.py").is_file(), module
    copied = shutil.copytree(image, tmp_path / "image")  # the build writes into its folder
    # What pip calls for -e, in this environment instead of a new one with downloaded packages.
    subprocess.run(
        [sys.executable, "-c", BUILD_EDITABLE.format(folder=str(tmp_path))],
        cwd=copied,
        env=environment(),
        check=True,
        capture_output=True,
    )
    assert list(tmp_path.glob("*.whl"))


@pytest.mark.slow
def test_the_command_serves_predictions_from_the_copied_files(image):
    pytest.importorskip("fastapi")
    program, *options = arguments_of("CMD")
    assert program == "python"
    (image / "tools/serving/index.html").write_text("the page of the copy")
    server = subprocess.Popen(
        # The last --host counts: the test listens on this machine only.
        [sys.executable, *options, "--host", "127.0.0.1", "--port", "0"],
        cwd=image,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # All paths come from modules: fmnist/runs.py finds the runs, tools/serving/app.py the page.
        line = server.stdout.readline()
        for name in ("photo", "best"):
            assert f"pretrained/{name} for" in line
        line = server.stdout.readline()
        assert line.startswith("Serving"), line
        url = line.split()[2]
        assert fetch(url) == b"the page of the copy"
        assert json.loads(fetch(f"{url}/health")) == {"status": "ok"}
        picture = io.BytesIO()
        Image.new("L", (28, 28), 255).save(picture, "PNG")
        prediction = json.loads(fetch(f"{url}/predict", picture.getvalue()))
        assert prediction["label"] in source.CLASS_NAMES
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
        assert (server.returncode, out, err) == (0, "Stopped.\n", "")
    finally:
        server.kill()
        server.communicate()


def environment():
    """Return the environment without PYTHONPATH and other settings of Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def fetch(url, body=None):
    """Return the body of the response to a GET, or with a body to a POST, request."""
    request = urllib.request.Request(url, body, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read()
