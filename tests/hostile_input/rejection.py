"""Test that hostile inputs are rejected: one line, the right exit code, no file changed."""

import contextlib
import os


@contextlib.contextmanager
def unprivileged():
    """Switch from root to an unprivileged user, because root ignores file permissions."""
    # zipfile needs this codec, whose file may be unreadable for the unprivileged user.
    "".encode("cp437")
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def disk_contents(root):
    """Return the content of all files and the targets of all links below a folder, by path.

    The value of a folder, a special file or an unreadable file is None.
    """
    found = {}
    for folder, folders, files in os.walk(root):
        for path in (os.path.join(folder, name) for name in [*folders, *files]):
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path) and os.access(path, os.R_OK):
                with open(path, "rb") as stream:
                    found[path] = stream.read()
            else:
                found[path] = None
    return found


def test_the_input_is_rejected(case, environment, capfd, monkeypatch):
    case.corrupt(environment)
    before = disk_contents(environment.root)
    script, *arguments = case.command(environment)
    monkeypatch.setattr("sys.argv", [f"{script.__name__}.py"])
    capfd.readouterr()
    with unprivileged() if case.cause.startswith("permission") else contextlib.nullcontext():
        try:
            code = script.main([*map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
    message = capfd.readouterr().err
    assert code == case.code
    assert (
        message.count("\n") == 1
        and message.startswith(f"{script.__name__}.py: ")
        and case.word in message
    )
    assert disk_contents(environment.root) == before
