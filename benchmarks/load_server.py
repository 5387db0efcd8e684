"""Measure serve_model.py over HTTP on this machine: latency, throughput, memory, and what malformed
uploads do.

    python -m benchmarks.load_server --run pretrained/best

Starts a server of its own on a free port, and prints a table. Client and server share the cores.
"""

import asyncio
import collections
import io
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmnist import cli, runs, runtime

ROOT = Path(__file__).parent.parent
ALONE = 300  # requests, one after the other
CLIENTS = 32
PATIENCE = 30  # seconds, for an answer


def request(content: bytes, kind: str = "image/png", path: str = "/predict") -> bytes:
    """Return the bytes of an HTTP request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of a response, which has to state its length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def client(port: int, requests: Sequence[bytes]) -> tuple[list[int], list[float]]:
    """Send requests over one connection, one after the other. Return statuses and seconds of
    each.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    statuses, times = [], []
    for content in requests:
        started = time.perf_counter()
        writer.write(content)
        status, _ = await answered(reader)
        times.append(time.perf_counter() - started)
        statuses.append(status)
    writer.close()
    return statuses, times


async def together(port: int, requests: Sequence[bytes]) -> tuple[list[int], list[float], float]:
    """Send requests by CLIENTS at once. Return statuses and seconds of each, and seconds of all."""
    started = time.perf_counter()
    results = await asyncio.gather(
        *(client(port, requests[number::CLIENTS]) for number in range(CLIENTS))
    )
    return *(
        [value for result in results for value in result[which]] for which in (0, 1)
    ), time.perf_counter() - started


def whole(upload: bytes) -> bool:
    """Return whether a request has all of the body that it announces."""
    head, end, body = upload.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and length.isdigit() and len(body) >= int(length)


async def malformed(port: int, uploads: Sequence[bytes]) -> collections.Counter:
    """Send each over a connection of its own, some at once. Return how often each status came.

    None is for an upload that is cut off, and not answered, as the server waits for the rest.
    Raises where another one is not answered in time.
    """

    async def status(upload: bytes) -> int | None:
        async with at_once:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(upload)
                return (await asyncio.wait_for(answered(reader), PATIENCE if whole(upload) else 1))[
                    0
                ]
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                if whole(upload):
                    raise
                return None
            finally:
                writer.close()

    at_once = asyncio.Semaphore(CLIENTS)
    return collections.Counter(await asyncio.gather(*map(status, uploads)))


def malformed_uploads(png: bytes, jpeg: bytes, count: int) -> list[bytes]:
    """Return requests that are wrong in one way or another: damaged and cut pictures, other types,
    broken HTTP.
    """
    rng = np.random.default_rng(0)

    def damaged(content: bytes) -> bytes:
        content = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 50)):
            content[place] = rng.integers(256)
        return bytes(content)

    bomb = io.BytesIO()
    Image.new("1", (10_000, 2_501)).save(bomb, "PNG")
    boundary = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    kinds = [
        lambda: request(damaged(png)),
        lambda: request(damaged(jpeg), "image/jpeg"),
        lambda: request(jpeg[: rng.integers(len(jpeg))], "image/jpeg"),
        lambda: request(rng.bytes(rng.integers(2000))),
        lambda: request(png, "text/html"),
        lambda: request(b""),
        lambda: request(bomb.getvalue()),
        lambda: request(png, "multipart/form-data; boundary=x", "/predict/batch"),
        lambda: request(
            boundary + damaged(png) + b"\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            "/predict/batch",
        ),
        lambda: request(boundary + png, "multipart/form-data; boundary=x", "/predict/batch"),
        lambda: request(png)[: rng.integers(20, 200)],
        lambda: request(png, path="/" + "a" * int(rng.integers(1, 3000))),
        lambda: b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    ]
    return [kinds[number % len(kinds)]() for number in range(count)]


def resident_megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def measure(port: int, process: int, test: Any, count: int, bad: int) -> None:
    """Print the tables. Raises SystemExit where an answer is not what it has to be."""
    from benchmarks import photographs

    png, jpegs = io.BytesIO(), []
    Image.fromarray((test.images[0, ..., 0] * 255).astype(np.uint8)).save(png, "PNG")
    small, number = request(png.getvalue()), 0
    while len(jpegs) < 20:
        jpeg, number = (
            photographs.photograph(test.images[number, ..., 0], np.random.default_rng(number)),
            number + 1,
        )
        if Image.open(io.BytesIO(jpeg)).size in ((640, 480), (480, 640)):
            jpegs.append(jpeg)
    print("| one client | p50, ms | p99, ms |\n|---|---|---|")
    for name, requests in (
        ("640 × 480 JPEG", [request(jpegs[number % 20], "image/jpeg") for number in range(ALONE)]),
        ("28 × 28 PNG", [small] * ALONE),
    ):
        asyncio.run(client(port, requests[:20]))
        statuses, times = asyncio.run(client(port, requests))
        expect(set(statuses) == {200}, statuses)
        p50, p99 = (1000 * np.quantile(times, share) for share in (0.5, 0.99))
        print(f"| {name} | {p50:.1f} | {p99:.1f} |")

    print(
        f"\n| {CLIENTS} clients, 28 × 28 PNG | requests a second | p50, ms | p99, ms | "
        "memory of the server, MB |\n"
        "|---|---|---|---|---|"
    )
    for part in range(4):
        statuses, times, seconds = asyncio.run(together(port, [small] * (count // 4)))
        expect(set(statuses) == {200}, statuses)
        p50, p99 = (1000 * np.quantile(times, share) for share in (0.5, 0.99))
        print(
            f"| {count // 4 * part + 1:,} to {count // 4 * (part + 1):,} | "
            f"{len(times) / seconds:.0f} | {p50:.0f} | {p99:.0f} | "
            f"{resident_megabytes(process):.0f} |",
            flush=True,
        )

    statuses = asyncio.run(malformed(port, malformed_uploads(png.getvalue(), jpegs[0], bad)))
    expect(all(status is None or status < 500 for status in statuses), statuses)
    expect(asyncio.run(client(port, [small]))[0] == [200], "no answer afterwards")
    counts = ", ".join(
        f"{number:,} × {status or 'no answer, as the request was cut off'}"
        for status, number in statuses.most_common()
    )
    print(
        f"\n{bad:,} malformed uploads: {counts}. The server still answers; it has "
        f"{resident_megabytes(process):.0f} MB."
    )


def expect(true: bool, found: Any) -> None:
    if not true:
        raise SystemExit(f"load_server.py: not as it has to be: {found}")


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    cli.add_run_options(parser)
    parser.add_argument(
        "--requests", type=cli.number(int, 4 * CLIENTS), default=20_000, help="in all (%(default)s)"
    )
    parser.add_argument(
        "--malformed", type=cli.number(int, 1), default=2_000, help="uploads (%(default)s)"
    )
    options = parser.parse_args(argv)

    def work() -> None:
        run = runs.find_run(options.run, options.runs_dir)
        command = [sys.executable, "-m", "tools.serve_model", "--run", str(run), "--port", "0"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            try:
                lines = (line for line in server.stdout if line.startswith("Serving"))
                if not (line := next(lines, None)):
                    raise SystemExit("load_server.py: the server does not start")
                port = int(line.split()[2].rpartition(":")[2])
                print(f"Run: {run}; {runtime.available_cores()} cores\n", flush=True)
                runtime.configure_tensorflow()
                import data

                measure(port, server.pid, data.load().test, options.requests, options.malformed)
            finally:
                server.terminate()
                server.communicate()

    return cli.exit_code("load_server.py", work)


if __name__ == "__main__":
    sys.exit(main())
