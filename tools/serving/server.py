"""The server process: open the socket, start and stop."""

import contextlib
import logging
import socket

import fastapi
import uvicorn

from fmnist import cli

LAST_SECONDS = 5  # time limit for requests in progress when the server stops


class ServeError(cli.UserError):
    """The server cannot start."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ServeError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
        return listening
    except (OSError, UnicodeError) as error:
        raise ServeError(
            f"cannot listen on {host}, port {port} ({cli.one_line(error)}); "
            "choose another --port or --host"
        ) from None


def serve(app: fastapi.FastAPI, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    address, port = listening.getsockname()[:2]
    host = f"[{address}]" if ":" in address else address
    print(f"Serving at http://{host}:{port} until Ctrl-C", flush=True)
    # Errors in forms are reported to the client.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="error", access_log=False, timeout_graceful_shutdown=LAST_SECONDS
        )
    )
    # Requests that are cancelled when the server stops are not errors.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
