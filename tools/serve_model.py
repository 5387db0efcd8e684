"""Serve a trained network: a web page and a REST API.

    python -m tools.serve_model
    python -m tools.serve_model --run runs/my_run --port 9000
    curl --data-binary @shoe.jpg -H "Content-Type: image/jpeg" http://127.0.0.1:8000/predict
    curl -F files=@shoe.jpg -F files=@shirt.png http://127.0.0.1:8000/predict/batch

Without --run, pretrained/photo classifies photographs, and the newest finished run, else
pretrained/best, classifies pictures of 28 × 28 pixels. Open http://127.0.0.1:8000 for the web
page; /openapi.json describes the API. The server accepts connections from this machine only, unless
--host sets another address. It has no authentication: before other machines can reach it, put it
behind a reverse proxy with authentication.
"""

import argparse
import re
import sys

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.serve_model")

from fmnist import cli, runtime

ORIGIN = re.compile(r"https?://[A-Za-z0-9._-]+(:\d+)?|https?://\[[0-9a-fA-F:.]+\](:\d+)?")


def origin(text: str) -> str:
    """Return the origin of a web page, in the form in which browsers send it. An argparse type.

    It consists of scheme, host and port, in lower case and without the default port.
    """
    if not ORIGIN.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must be an origin such as https://example.org or http://localhost:3000, not {text!r}"
        )
    scheme, _, host = text.lower().partition("://")
    return f"{scheme}://{host.removesuffix({'http': ':80', 'https': ':443'}[scheme])}"


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    cli.add_run_options(parser)
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for all network interfaces (default: %(default)s)",
    )
    add(
        "--port",
        type=cli.number(int, 0, 65536),
        default=8000,
        help="port to listen on; 0 for any free port (default: %(default)s)",
    )
    limit = cli.number(float, 0.001, 1001)
    add(
        "--max-request-mb",
        type=limit,
        default=10,
        metavar="MB",
        help="request size limit in megabytes (default: %(default)s)",
    )
    add(
        "--cors-origin",
        type=origin,
        action="append",
        default=[],
        metavar="URL",
        help="origin of a web page on another server that may use the API, such as "
        "https://example.org; the option can be repeated (default: none)",
    )
    add("--most-megabytes", dest="max_request_mb", type=limit, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        runtime.configure_tensorflow()
        from fmnist.inference.classifier import load_photo_classifier
        from tools.serving import app, server

        classifier = load_photo_classifier(options.run, options.runs_dir)
        print(classifier.description())
        with server.listen(options.host, options.port) as listening:
            max_bytes = round(options.max_request_mb * 1e6)
            server.serve(app.create_app(classifier, max_bytes, options.cors_origin), listening)
        print("Stopped.")

    return cli.exit_code("serve_model.py", work)


if __name__ == "__main__":
    sys.exit(main())
