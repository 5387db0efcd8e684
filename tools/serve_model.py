"""Serve a trained network: a web page for people, and a REST API for programs.

    python -m tools.serve_model                            http://127.0.0.1:8000, the newest finished run, else pretrained/best
    python -m tools.serve_model --run runs/my_run --port 9000
    curl --data-binary @shoe.jpg -H "Content-Type: image/jpeg" http://127.0.0.1:8000/predict
    curl -F files=@shoe.jpg -F files=@shirt.png http://127.0.0.1:8000/predict/batch

The API is described at /openapi.json. It listens on this machine alone, unless --host says otherwise; it has no passwords,
so put it behind something that has before others can reach it.
"""

import asyncio
import base64
import contextlib
import io
import logging
import socket
import sys
from pathlib import Path
from typing import Annotated

from fmnist import runtime

import numpy as np

import data
from fmnist.inference import photo
from tools import predict_image
from fmnist import runs
import train_cnn

PAGE = Path(__file__).parent / "serving" / "index.html"
TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
TOGETHER = 32  # images that are computed at once, at most
MOST_FILES = 64  # in a batch
LAST_SECONDS = 5  # that requests in progress are given when the server is stopped
HEADERS = {"Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'unsafe-inline'; "
                                      "script-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}


class ServeError(Exception):
    """The server cannot start. One line, for the user."""


class Together:
    """Computes what is asked for while something else is computed all at once."""

    def __init__(self, compute):
        """compute: a function of a list of at most TOGETHER items that returns as many results."""
        self.compute, self.waiting, self.task = compute, [], None

    async def __call__(self, item):
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((item, future))
        if self.task is None:
            self.task = asyncio.create_task(self.work())
        return await future

    async def work(self):
        while self.waiting:
            some, self.waiting = self.waiting[:TOGETHER], self.waiting[TOGETHER:]
            items, futures = zip(*some)
            try:
                results = await asyncio.to_thread(self.compute, items)
            except Exception as error:
                results = [error] * len(futures)
            for future, result in zip(futures, results):
                if future.done():  # who asked has gone
                    continue
                future.set_exception(result) if isinstance(result, Exception) else future.set_result(result)
        self.task = None


def compiled(model):
    """Return a function of up to TOGETHER images that gives their probabilities. It is warm."""
    import tensorflow as tf
    from model import predictor

    one = predictor(model)
    many = tf.function(model, input_signature=[tf.TensorSpec((TOGETHER, *photo.SHAPE))])

    def predict(images):
        if len(images) == 1:
            return one(images[0])[None]
        padded = np.zeros((TOGETHER, *photo.SHAPE), np.float32)
        padded[:len(images)] = images
        return many(padded).numpy()[:len(images)]

    for count in (1, TOGETHER):
        predict(np.zeros((count, *photo.SHAPE), np.float32))
    return predict


def create_app(classifier, most_bytes):
    """Return the FastAPI application. most_bytes: of a request."""
    import fastapi
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse
    from pydantic import BaseModel, Field
    from starlette.requests import ClientDisconnect

    class Guess(BaseModel):
        label: str = Field(description="one of the ten classes")
        confidence: float = Field(description="calibrated probability", ge=0, le=1)

    class Answer(Guess):
        guesses: list[Guess] = Field(description="the three best")
        unsure: bool = Field(description="whether the answer is to be doubted")
        doubts: list[str] = Field(description="why")
        probabilities: dict[str, float] = Field(description="of every class")
        seen: str = Field(description="what the network saw: a PNG file of 28 × 28 pixels as a data URL")

    class Entry(BaseModel):
        file: str = Field(description="as it was named")
        answer: Answer | None = None
        error: str | None = Field(None, description="why there is no answer")

    class Problem(BaseModel):
        detail: str = Field(description="what is wrong")

    class Card(BaseModel):
        run: str
        network: str
        parameters: int
        classes: list[str]
        test_accuracy: float | None = Field(description="on the 10,000 test images; null before evaluate_model.py")
        test_accuracy_interval: list[float] | None = Field(description="of 95 %")
        calibration_error: float | None = Field(description="expected calibration error on the test images")
        test_time_flips: bool
        test_time_shifts: bool
        unsure_test_images: float | None = Field(description="share of the test images that would be called unsure")
        trained_on: str
        created: str | None
        limits: str

    app = fastapi.FastAPI(title="Fashion-MNIST", version="1", docs_url=None, redoc_url=None,  # those load from other hosts
                          description="Which of ten kinds of clothes is on a picture?")
    predict, cores = compiled(classifier.model), asyncio.Semaphore(runtime.cores())

    def classify(photos):
        return list(zip(*predict_image.classify(classifier, photos, predict)))

    together, page = Together(classify), PAGE.read_bytes()
    try:
        card = Card(**model_card(classifier))
    except ValueError as error:
        raise runs.RunError(f"{classifier.run} is broken ({runtime.one_line(error)})") from None

    async def answer(content):
        """Return what Answer describes. Raises PhotoError."""
        async with cores:  # so that memory for decoded pictures does not grow with the number of clients
            read = await asyncio.to_thread(photo.read, io.BytesIO(content))
        probabilities, doubts = await together(read)
        return {**predict_image.answer(probabilities, doubts), "seen": data_url(read.image),
                "probabilities": dict(zip(data.CLASS_NAMES, probabilities.astype(float).round(4).tolist()))}

    problems = {413: {"model": Problem, "description": "the request is too large"},
                422: {"model": Problem, "description": "it holds no picture that can be read"}}

    @app.post("/predict", response_model=Answer,
              responses={**problems, 415: {"model": Problem, "description": f"not one of {', '.join(TYPES)}"}},
              openapi_extra={"requestBody": {"required": True, "content": {
                  kind: {"schema": {"type": "string", "format": "binary"}} for kind in TYPES}}})
    async def predict_one(request: fastapi.Request):
        """Classify the picture that the body is: JPEG, PNG or WebP."""
        kind = request.headers.get("content-type", TYPES[-1]).partition(";")[0].strip().lower()
        if kind not in TYPES:
            raise fastapi.HTTPException(415, f"{kind} is not one of {', '.join(TYPES)}")
        try:
            return JSONResponse(await answer(await request.body()))  # not checked once more, which takes a while
        except photo.PhotoError as error:
            raise fastapi.HTTPException(422, str(error)) from None

    @app.post("/predict/batch", responses={**problems, 400: {"model": Problem, "description": "it is no form"}})
    async def predict_many(files: Annotated[list[fastapi.UploadFile], fastapi.File(
            description=f"at most {MOST_FILES} pictures", max_length=MOST_FILES)]) -> list[Entry]:
        """Classify several pictures. One that cannot be read has an error in its place."""
        async def entry(file):
            name = (file.filename or "").encode(errors="replace").decode()  # which may hold what is no character
            try:
                return Entry(file=name, answer=await answer(await file.read()))
            except photo.PhotoError as error:
                return Entry(file=name, error=str(error))

        return await asyncio.gather(*map(entry, files))

    @app.get("/model")
    async def model() -> Card:
        """Tell what answers here, how good it is, and what it is not for."""
        return card

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that answers can be given."""
        return {"status": "ok"}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index():
        return HTMLResponse(page, headers=HEADERS)

    @app.exception_handler(RequestValidationError)
    async def invalid(request, error):
        reasons = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        return JSONResponse({"detail": "; ".join(reasons)}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request, error):
        return fastapi.Response(status_code=400)  # which nobody reads

    app.add_middleware(AtMost, most_bytes=most_bytes)
    return app


class AtMost:
    """ASGI middleware that answers 413 before more than so many bytes of a request are in memory."""

    def __init__(self, app, most_bytes):
        self.app, self.most_bytes = app, most_bytes

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse

        too_large = f"the request has more than {self.most_bytes:,} bytes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most_bytes:
            return await JSONResponse({"detail": too_large}, 413)(scope, receive, send)
        received = 0

        async def counted():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most_bytes:
                raise HTTPException(413, too_large)
            return message

        await self.app(scope, counted, send)


def data_url(image):
    """Return an image (28, 28, 1) as a data URL of a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray((image[..., 0] * 255).round().astype(np.uint8)).save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def model_card(classifier):
    """Return what is known of a classifier and what it is not for, as a dict."""
    config, scores = runs.load_config(classifier.run), predict_image.load_evaluation(classifier.run) or {}
    return {
        "run": classifier.run.name, "network": str(config.get("model")), "parameters": classifier.model.count_params(),
        "classes": list(data.CLASS_NAMES), "test_accuracy": scores.get("accuracy"),
        "test_accuracy_interval": scores.get("accuracy_interval"), "calibration_error": scores.get("calibrated_ece"),
        "test_time_flips": classifier.flips, "test_time_shifts": classifier.shifts,
        "unsure_test_images": scores.get("unsure"),
        "trained_on": "Fashion-MNIST: grey images of 28 × 28 pixels of single garments, from a shop's front views",
        "created": config.get("created"),
        "limits": "One garment on a plain ground, seen from the front. Garments that are worn, folded or of other kinds "
                  "than the ten are answered too, and not always called unsure.",
    }


def bound_socket(host, port):
    """Return a socket that listens. Raises ServeError."""
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
        return listening
    except (OSError, UnicodeError) as error:
        raise ServeError(f"cannot listen on {host}, port {port} ({runtime.one_line(error)}); choose another --port or "
                         "--host") from None


def parse_options(argv=None):
    parser = runtime.Parser(__doc__)
    add = parser.add_argument
    predict_image.add_run_options(parser)
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is all of this machine's (%(default)s)")
    add("--port", type=train_cnn.number(int, 0, 65536), default=8000, help="0 for any that is free (%(default)s)")
    add("--most-megabytes", type=train_cnn.number(float, 0.001, 1001), default=10, help="of a request (%(default)s)")
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_options(argv)

    def work():
        try:
            import fastapi  # noqa: F401
            import python_multipart  # noqa: F401
            import uvicorn
        except ImportError as error:
            raise ServeError(f"{error.name} is not installed; try: python -m pip install -r requirements-serve.txt") from None
        run = predict_image.chosen_run(options.run, options.runs_dir)
        print(f"Run: {run}")
        with bound_socket(options.host, options.port) as listening:
            app = create_app(predict_image.load_classifier(run), round(options.most_megabytes * 1e6))
            address, port = listening.getsockname()[:2]
            print(f"Serving at http://{f'[{address}]' if ':' in address else address}:{port} until Ctrl-C", flush=True)
            logging.getLogger("python_multipart").setLevel(logging.ERROR)  # clients' mistakes are told to them, not here
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False,
                                                   timeout_graceful_shutdown=LAST_SECONDS))
            logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)  # what was cut off at the end
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listening])
        print("Stopped.")

    return runtime.exit_code("serve_model.py", work, (runs.RunError, ServeError))


if __name__ == "__main__":
    sys.exit(main())
