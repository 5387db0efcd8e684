"""The test that a hostile input is rejected: one line, the right exit code, nothing changed on the
disk.
"""

import contextlib
import os


@contextlib.contextmanager
def unprivileged():
    """Let root be nobody meanwhile: for root no mode counts."""
    "".encode("cp437")  # zipfile's, which Python would import when it may be closed to that user
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def everything(root):
    """Return all that is on the disk: the content of files, the targets of links, the names of the
    rest.
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


def test_it_is_refused(case, world, capfd, monkeypatch):
    case.spoil(world)
    before = everything(world.root)
    script, *arguments = case.command(world)
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
    assert everything(world.root) == before
