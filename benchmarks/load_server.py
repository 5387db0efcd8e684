"""Measure latency, throughput and memory of serve_model.py over HTTP, and send malformed uploads.

    python -m benchmarks.load_server

Starts a server on a free port of this machine and prints tables. Client and server share the cores.
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

from fmnist import cli, runtime

ROOT = Path(__file__).parent.parent
SINGLE_CLIENT_REQUESTS = 300
CLIENTS = 32
TIMEOUT = 30  # seconds to wait for a response


def request(content: bytes, kind: str = "image/png", path: str = "/predict") -> bytes:
    """Return the bytes of an HTTP request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of a response, which must have a Content-Length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def client(port: int, requests: Sequence[bytes]) -> tuple[list[int], list[float]]:
    """Send requests one after the other over one connection.

    Returns:
        Status and latency, in seconds, of every request.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    statuses, latencies = [], []
    for content in requests:
        started = time.perf_counter()
        writer.write(content)
        status, _ = await read_response(reader)
        latencies.append(time.perf_counter() - started)
        statuses.append(status)
    writer.close()
    return statuses, latencies


async def concurrent_clients(
    port: int, requests: Sequence[bytes]
) -> tuple[list[int], list[float], float]:
    """Send requests from CLIENTS concurrent clients.

    Returns:
        Status and latency, in seconds, of every request, and the total time in seconds.
    """
    started = time.perf_counter()
    results = await asyncio.gather(
        *(client(port, requests[index::CLIENTS]) for index in range(CLIENTS))
    )
    seconds = time.perf_counter() - started
    statuses = [status for result in results for status in result[0]]
    latencies = [latency for result in results for latency in result[1]]
    return statuses, latencies, seconds


def is_complete(upload: bytes) -> bool:
    """Return whether a request contains the complete body that its Content-Length announces."""
    head, end, body = upload.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and length.isdigit() and len(body) >= int(length)


async def send_malformed(port: int, uploads: Sequence[bytes]) -> collections.Counter:
    """Send every upload over its own connection, CLIENTS at a time, and count the statuses.

    The status None counts truncated uploads without a response, because the server waits for the
    rest. Raises an exception if a complete upload has no response in time.
    """

    async def status(upload: bytes) -> int | None:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(upload)
                seconds = TIMEOUT if is_complete(upload) else 1
                response = await asyncio.wait_for(read_response(reader), seconds)
                return response[0]
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                if is_complete(upload):
                    raise
                return None
            finally:
                writer.close()

    limit = asyncio.Semaphore(CLIENTS)
    return collections.Counter(await asyncio.gather(*map(status, uploads)))


def malformed_uploads(png: bytes, jpeg: bytes, count: int) -> list[bytes]:
    """Return malformed requests: corrupt and truncated pictures, wrong types, invalid HTTP."""
    rng = np.random.default_rng(0)

    def corrupt(content: bytes) -> bytes:
        content = bytearray(content)
        for position in rng.integers(len(content), size=rng.integers(1, 50)):
            content[position] = rng.integers(256)
        return bytes(content)

    bomb = io.BytesIO()
    Image.new("1", (10_000, 2_501)).save(bomb, "PNG")
    boundary = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    kinds = [
        lambda: request(corrupt(png)),
        lambda: request(corrupt(jpeg), "image/jpeg"),
        lambda: request(jpeg[: rng.integers(len(jpeg))], "image/jpeg"),
        lambda: request(rng.bytes(rng.integers(2000))),
        lambda: request(png, "text/html"),
        lambda: request(b""),
        lambda: request(bomb.getvalue()),
        lambda: request(png, "multipart/form-data; boundary=x", "/predict/batch"),
        lambda: request(
            boundary + corrupt(png) + b"\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            "/predict/batch",
        ),
        lambda: request(boundary + png, "multipart/form-data; boundary=x", "/predict/batch"),
        lambda: request(png)[: rng.integers(20, 200)],
        lambda: request(png, path="/" + "a" * int(rng.integers(1, 3000))),
        lambda: b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    ]
    return [kinds[index % len(kinds)]() for index in range(count)]


def resident_megabytes(process: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cluttered(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return a JPEG of 640 × 480 pixels: an item in front of a colourful pattern.

    Args:
        image: (28, 28) in [0, 1].
        rng: random generator.
    """
    pattern = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    picture = pattern.resize((640, 480), Image.Resampling.BICUBIC)
    item = Image.fromarray((255 * image).astype(np.uint8)).resize((300, 300))
    picture.paste(Image.new("RGB", item.size, (30, 40, 90)), (170, 90), item.point(lambda v: 3 * v))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def measure(port: int, process: int, test: Any, count: int, malformed_count: int) -> None:
    """Print the tables.

    Args:
        port: port of the server.
        process: process ID of the server.
        test: data.Part with the test set.
        count: number of requests of the concurrent clients.
        malformed_count: number of malformed uploads.

    Raises:
        SystemExit: if a response is not as expected.
    """
    from benchmarks import photographs

    png, jpegs = io.BytesIO(), []
    Image.fromarray((test.images[0, ..., 0] * 255).astype(np.uint8)).save(png, "PNG")
    small, index = request(png.getvalue()), 0
    while len(jpegs) < 20:
        jpeg = photographs.photograph(test.images[index, ..., 0], np.random.default_rng(index))
        index += 1
        if Image.open(io.BytesIO(jpeg)).size in ((640, 480), (480, 640)):
            jpegs.append(jpeg)
    clutter = [
        cluttered(image[..., 0], np.random.default_rng(number))
        for number, image in enumerate(test.images[:20])
    ]
    print("| one client | median latency, ms | 99th percentile, ms |\n|---|---|---|")
    for name, requests in (
        (
            "640 × 480 JPEG, plain background",
            [request(jpegs[i % 20], "image/jpeg") for i in range(SINGLE_CLIENT_REQUESTS)],
        ),
        (
            "640 × 480 JPEG, cluttered background",
            [request(clutter[i % 20], "image/jpeg") for i in range(SINGLE_CLIENT_REQUESTS)],
        ),
        ("28 × 28 PNG", [small] * SINGLE_CLIENT_REQUESTS),
    ):
        asyncio.run(client(port, requests[:20]))
        statuses, latencies = asyncio.run(client(port, requests))
        expect(set(statuses) == {200}, statuses)
        p50, p99 = (1000 * np.quantile(latencies, quantile) for quantile in (0.5, 0.99))
        print(f"| {name} | {p50:.1f} | {p99:.1f} |")

    print(
        f"\n| {CLIENTS} clients, 28 × 28 PNG | requests per second | median latency, ms | "
        "99th percentile, ms | server memory, MB |\n"
        "|---|---|---|---|---|"
    )
    for part in range(4):
        statuses, latencies, seconds = asyncio.run(concurrent_clients(port, [small] * (count // 4)))
        expect(set(statuses) == {200}, statuses)
        p50, p99 = (1000 * np.quantile(latencies, quantile) for quantile in (0.5, 0.99))
        print(
            f"| requests {count // 4 * part + 1:,} to {count // 4 * (part + 1):,} | "
            f"{len(latencies) / seconds:.0f} | {p50:.0f} | {p99:.0f} | "
            f"{resident_megabytes(process):.0f} |",
            flush=True,
        )

    uploads = malformed_uploads(png.getvalue(), jpegs[0], malformed_count)
    statuses = asyncio.run(send_malformed(port, uploads))
    expect(all(status is None or status < 500 for status in statuses), statuses)
    expect(asyncio.run(client(port, [small]))[0] == [200], "no response after malformed uploads")
    print(f"\n| response to {malformed_count:,} malformed uploads | uploads |\n|---|---|")
    for status, number in statuses.most_common():
        print(f"| {status or 'none, because the request is truncated'} | {number:,} |")
    print(
        "\nAfter the malformed uploads, the server responds as before and uses "
        f"{resident_megabytes(process):.0f} MB."
    )


def expect(condition: bool, actual: Any) -> None:
    """Raise SystemExit with the actual value if the condition is false."""
    if not condition:
        raise SystemExit(f"load_server.py: unexpected response of the server: {actual}")


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    cli.add_run_options(parser)
    parser.add_argument(
        "--requests",
        type=cli.number(int, 4 * CLIENTS),
        default=20_000,
        metavar="N",
        help=f"total number of requests of {CLIENTS} concurrent clients (default: %(default)s)",
    )
    parser.add_argument(
        "--malformed",
        type=cli.number(int, 1),
        default=2_000,
        metavar="N",
        help="number of malformed uploads (default: %(default)s)",
    )
    options = parser.parse_args(argv)

    def work() -> None:
        command = [sys.executable, "-m", "tools.serve_model", "--port", "0"]
        command += ["--runs-dir", options.runs_dir]
        command += ["--run", options.run] if options.run else []
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            try:
                lines = (line for line in server.stdout if line.startswith("Serving"))
                if not (line := next(lines, None)):
                    raise SystemExit("load_server.py: the server did not start")
                port = int(line.split()[2].rpartition(":")[2])
                print(f"{line.strip()}; {runtime.available_cores()} cores\n", flush=True)
                runtime.configure_tensorflow()
                import data

                measure(port, server.pid, data.load().test, options.requests, options.malformed)
            finally:
                server.terminate()
                server.communicate()

    return cli.exit_code("load_server.py", work)


if __name__ == "__main__":
    sys.exit(main())
