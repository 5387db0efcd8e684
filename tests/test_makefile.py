"""The choice of Python in the Makefile, with fake programs that record their arguments."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import ROOT

PYTHONS = ("python", "python3", "python3.11", "python3.12", "python3.13")
# Claims to be Python 3.14. `-m venv FOLDER` creates FOLDER/bin/python, which installs a fake uv.
PYTHON_314 = """#!/bin/sh
echo "python3 $*" >> "$LOG"
[ "$2" = venv ] || exit 1
mkdir -p .uv/bin
printf '#!/bin/sh\\necho ".uv/bin/python $*" >> "$LOG"\\n' > .uv/bin/python
echo 'cp "$FAKE_UV" .uv/bin/uv' >> .uv/bin/python
chmod +x .uv/bin/python
"""
# `venv` creates .venv/bin/python, which records what pip installs.
UV = """#!/bin/sh
echo "uv $*" >> "$LOG"
mkdir -p .venv/bin
printf '#!/bin/sh\\necho "pip $*" >> "$LOG"\\n' > .venv/bin/python
chmod +x .venv/bin/python
"""
FAILS = '#!/bin/sh\necho "$0 $*" >> "$LOG"\nexit 1\n'
VENV = "uv venv --quiet --seed --python 3.13 .venv"


@pytest.fixture
def make(tmp_path):
    """Return a function that runs `make .venv/core` with fake programs."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    for name in ("Makefile", "requirements.txt", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    for name in ("make", "sh", "mkdir", "chmod", "cp", "rm", "touch"):  # no uv of this machine
        (programs / name).symlink_to(shutil.which(name))

    def write(name, content):
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)

    def run(python=PYTHON_314, uv=None, uv_on_pypi=UV):
        for name in PYTHONS:
            write(name, python)
        if uv:
            write("uv", uv)
        write("uv-on-pypi", uv_on_pypi)
        environment = {
            "PATH": str(programs),
            "LOG": str(log),
            "FAKE_UV": str(programs / "uv-on-pypi"),
        }
        command = [shutil.which("make"), ".venv/core"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        lines = log.read_text().splitlines() if log.exists() else []
        return done, [line for line in lines if " -c " not in line]

    return run


def test_uv_installs_python_where_the_only_python_is_too_new(make, tmp_path):
    done, log = make(uv=UV)
    assert done.returncode == 0, done.stderr
    assert log[0] == VENV
    assert log[1].startswith("pip -m pip install") and log[1].endswith("-r requirements.txt")
    assert len(log) == 2 and not (tmp_path / ".uv").exists()


def test_uv_comes_from_pypi_where_it_is_not_installed(make):
    done, log = make()
    assert done.returncode == 0, done.stderr
    assert log[:3] == [
        "python3 -m venv --clear .uv",
        ".uv/bin/python -m pip install --quiet uv",
        VENV,
    ]
    assert log[3].endswith("-r requirements.txt") and len(log) == 4


@pytest.mark.parametrize(
    "programs",
    [{"uv": FAILS}, {"uv_on_pypi": FAILS}, {"python": FAILS}],
    ids=["uv cannot install Python", "nor can uv from PyPI", "uv cannot be installed"],
)
def test_one_line_says_what_to_install_where_uv_fails(make, tmp_path, programs):
    done, _ = make(**programs)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1 and "install Python 3.13" in lines[0] and "PYTHON=" in lines[0]
    assert not (tmp_path / ".venv/core").exists()


def test_a_suitable_python_needs_no_uv(make, tmp_path):
    suitable = (
        '#!/bin/sh\n[ "$1" = -c ] && exec ' + sys.executable + ' "$@"\n'
        'echo "python $*" >> "$LOG"\nmkdir -p .venv/bin\n'
        '[ -e .venv/bin/python ] || cp "$0" .venv/bin/python\n'
    )
    done, log = make(python=suitable, uv=FAILS)
    assert done.returncode == 0, done.stderr
    assert log[0] == "python -m venv --clear .venv" and not any("uv" in line[:6] for line in log)


def test_make_prefers_the_given_python(tmp_path):
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "PYTHON=/opt/python", ".venv/core"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert "/opt/python -m venv --clear .venv" in done.stdout
