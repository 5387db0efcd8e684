import json
import os
import subprocess
import sys

import pytest

from fmnist import atomic_io


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_io.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == [
        "result.txt"
    ] and path.read_text() == "old"
    with atomic_io.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == [
        "result.txt"
    ] and path.read_text() == "new"


def test_files_take_their_places_when_all_of_them_are_complete(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError), atomic_io.atomic_writes(tmp_path) as folder:
        (folder / "a").write_text("half")
        raise OSError
    assert [*tmp_path.iterdir()] == [tmp_path / "a"] and (tmp_path / "a").read_text() == "old"
    with atomic_io.atomic_writes(tmp_path) as folder:
        (folder / "a").write_text("new")
        (folder / "b").mkdir()
        (folder / "b/c").write_text("more")
        assert (tmp_path / "a").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert (tmp_path / "a").read_text() == "new" and (tmp_path / "b/c").read_text() == "more"


def test_what_a_killed_process_left_goes_and_what_another_one_writes_stays(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    (tmp_path / f"{atomic_io.TEMPORARY_PREFIX}{dead.pid}-{atomic_io.MACHINE_ID}-file").touch()
    (tmp_path / f"{atomic_io.TEMPORARY_PREFIX}{dead.pid}-{atomic_io.MACHINE_ID}-folder").mkdir()
    (
        tmp_path / f"{atomic_io.TEMPORARY_PREFIX}{dead.pid}-{atomic_io.MACHINE_ID}-folder/file"
    ).touch()
    (
        tmp_path / f"{atomic_io.TEMPORARY_PREFIX}{os.getpid()}-{atomic_io.MACHINE_ID}-0-file"
    ).touch()  # of one that had our number before us
    # Of another machine.
    others = {
        f"{atomic_io.TEMPORARY_PREFIX}{os.getppid()}-{atomic_io.MACHINE_ID}-file",
        f"{atomic_io.TEMPORARY_PREFIX}mine",
        "file",
        atomic_io.temporary_name("file"),
        f"{atomic_io.TEMPORARY_PREFIX}{dead.pid}-0-file",
    }
    for name in others:
        (tmp_path / name).touch()
    atomic_io.remove_stale_temp_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others


def test_json_is_readable(tmp_path):
    atomic_io.write_json(tmp_path / "a.json", {"b": [1]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1]}
