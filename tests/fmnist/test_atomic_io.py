import errno
import json
import os
import subprocess
import sys

import pytest

from fmnist import atomic_io, cli


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_io.atomic_write(path) as temporary:
        temporary.write_text("incomplete")
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == [path] and path.read_text() == "old"
    with atomic_io.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path] and path.read_text() == "new"


def test_files_are_replaced_only_when_all_of_them_are_complete(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError), atomic_io.atomic_writes(tmp_path) as folder:
        (folder / "a").write_text("incomplete")
        raise OSError
    assert [*tmp_path.iterdir()] == [tmp_path / "a"] and (tmp_path / "a").read_text() == "old"
    with atomic_io.atomic_writes(tmp_path) as folder:
        (folder / "a").write_text("new")
        (folder / "b").mkdir()
        (folder / "b/c").write_text("more")
        assert (tmp_path / "a").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert (tmp_path / "a").read_text() == "new" and (tmp_path / "b/c").read_text() == "more"


def test_temporary_files_of_dead_processes_are_removed_and_those_of_others_are_kept(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    prefix, machine = atomic_io.TEMPORARY_PREFIX, atomic_io.MACHINE_ID
    (tmp_path / f"{prefix}{dead.pid}-{machine}-file").touch()
    (tmp_path / f"{prefix}{dead.pid}-{machine}-folder").mkdir()
    (tmp_path / f"{prefix}{dead.pid}-{machine}-folder/file").touch()
    # A file of an earlier process with the ID of this process.
    (tmp_path / f"{prefix}{os.getpid()}-{machine}-0-file").touch()
    kept = {
        f"{prefix}{os.getppid()}-{machine}-file",
        f"{prefix}mine",
        "file",
        atomic_io.temporary_name("file"),
        f"{prefix}{dead.pid}-0-file",  # of another machine
    }
    for name in kept:
        (tmp_path / name).touch()
    atomic_io.remove_stale_temp_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_written_json_can_be_read(tmp_path):
    atomic_io.write_json(tmp_path / "a.json", {"b": [1]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1]}


def test_a_file_system_without_fsync_is_supported_but_other_errors_are_not_hidden(
    tmp_path, monkeypatch
):
    def fail_with(number):
        def fsync(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    fail_with(errno.EINVAL)
    with atomic_io.atomic_write(tmp_path / "result.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "result.txt").read_text() == "new"
    fail_with(errno.EIO)
    with (
        pytest.raises(OSError, match="Input/output error"),
        atomic_io.atomic_write(tmp_path / "result.txt") as temporary,
    ):
        temporary.write_text("lost")
    assert (tmp_path / "result.txt").read_text() == "new"


def test_a_folder_is_writable_if_its_first_existing_parent_is(tmp_path):
    atomic_io.check_writable(tmp_path)
    atomic_io.check_writable(tmp_path / "new/folder")
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    for folder in (tmp_path / "file", tmp_path / "file/below", tmp_path / "link/below"):
        with pytest.raises(cli.UserError, match=f"{folder} .* choose another --output-dir"):
            atomic_io.check_writable(folder)
