"""The web page and the REST API."""

import asyncio
import base64
import io
from pathlib import Path
from typing import Annotated, Any

import fastapi
import numpy as np
import python_multipart  # noqa: F401  FastAPI needs it for forms, and says so only when one comes
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from fmnist import cli, runs, runtime
from fmnist.inference import photo
from fmnist.inference.classifier import Classifier, load_evaluation, prediction
from fmnist.source import CLASS_NAMES
from tools.serving.micro_batcher import MicroBatcher, compile_predictor
from tools.serving.request_limit import RequestSizeLimit

PAGE = Path(__file__).parent / "index.html"
TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
MAX_FILES = 64  # in a batch
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


class Guess(BaseModel):
    """A class and its probability."""

    label: str = Field(description="one of the ten classes")
    confidence: float = Field(description="calibrated probability", ge=0, le=1)


class Answer(Guess):
    """The prediction of a picture."""

    guesses: list[Guess] = Field(description="the three best")
    unsure: bool = Field(description="whether the answer is to be doubted")
    doubts: list[str] = Field(description="why")
    probabilities: dict[str, float] = Field(description="of every class")
    seen: str = Field(
        description="what the network saw: a PNG file of 28 × 28 pixels as a data URL"
    )


class Entry(BaseModel):
    """The prediction of a file, or why there is none."""

    file: str = Field(description="as it was named")
    answer: Answer | None = None
    error: str | None = Field(None, description="why there is no answer")


class Problem(BaseModel):
    """What is wrong with a request."""

    detail: str = Field(description="what is wrong")


class Card(BaseModel):
    """What the network is, how good it is, and what it is not for."""

    run: str
    network: str
    parameters: int
    classes: list[str]
    test_accuracy: float | None = Field(
        description="on the 10,000 test images; null before evaluate_model.py"
    )
    test_accuracy_interval: list[float] | None = Field(description="of 95 %")
    calibration_error: float | None = Field(
        description="expected calibration error on the test images"
    )
    test_time_flips: bool
    test_time_shifts: bool
    unsure_test_images: float | None = Field(
        description="share of the test images that would be called unsure"
    )
    trained_on: str
    created: str | None
    limits: str


def create_app(classifier: Classifier, max_bytes: int) -> fastapi.FastAPI:
    """Return the FastAPI application. max_bytes: of a request. Raises RunError."""
    # FastAPI's own pages of documentation load their scripts from other hosts.
    app = fastapi.FastAPI(
        title="Fashion-MNIST",
        version="1",
        docs_url=None,
        redoc_url=None,
        description="Which of ten kinds of clothes is on a picture?",
    )
    predict = compile_predictor(classifier.model)
    cores = asyncio.Semaphore(runtime.available_cores())
    micro_batcher = MicroBatcher(
        lambda photos: list(zip(*classifier.classify(photos, predict), strict=True))
    )
    page = PAGE.read_bytes()
    try:
        card = Card(**model_card(classifier))
    except ValueError as error:
        raise runs.RunError(f"{classifier.run} is broken ({cli.one_line(error)})") from None

    async def answer(content: bytes) -> dict[str, Any]:
        """Return what Answer describes. Raises PhotoError."""
        # So that memory for decoded pictures does not grow with the number of clients.
        async with cores:
            converted = await asyncio.to_thread(photo.read, io.BytesIO(content))
        probabilities, doubts = await micro_batcher(converted)
        return {
            **prediction(probabilities, doubts),
            "seen": data_url(converted.image),
            "probabilities": dict(
                zip(CLASS_NAMES, probabilities.astype(float).round(4).tolist(), strict=True)
            ),
        }

    problems = {
        413: {"model": Problem, "description": "the request is too large"},
        422: {"model": Problem, "description": "it holds no picture that can be read"},
    }

    @app.post(
        "/predict",
        response_model=Answer,
        responses={
            **problems,
            415: {"model": Problem, "description": f"not one of {', '.join(TYPES)}"},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    kind: {"schema": {"type": "string", "format": "binary"}} for kind in TYPES
                },
            }
        },
    )
    async def predict_one(request: fastapi.Request) -> JSONResponse:
        """Classify the picture that the body is: JPEG, PNG or WebP."""
        kind = request.headers.get("content-type", TYPES[-1]).partition(";")[0].strip().lower()
        if kind not in TYPES:
            raise fastapi.HTTPException(415, f"{kind} is not one of {', '.join(TYPES)}")
        try:
            # Not checked once more, which takes a while.
            return JSONResponse(await answer(await request.body()))
        except photo.PhotoError as error:
            raise fastapi.HTTPException(422, str(error)) from None

    @app.post(
        "/predict/batch",
        responses={**problems, 400: {"model": Problem, "description": "it is no form"}},
    )
    async def predict_many(
        files: Annotated[
            list[fastapi.UploadFile],
            fastapi.File(description=f"at most {MAX_FILES} pictures", max_length=MAX_FILES),
        ],
    ) -> list[Entry]:
        """Classify several pictures. One that cannot be read has an error in its place."""

        async def entry(file: fastapi.UploadFile) -> Entry:
            # The name may hold what is no character.
            name = (file.filename or "").encode(errors="replace").decode()
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
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=HEADERS)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: fastapi.Request, error: RequestValidationError) -> JSONResponse:
        reasons = (
            f"{'.'.join(map(str, reason['loc'][1:]))}: {reason['msg']}" for reason in error.errors()
        )
        return JSONResponse({"detail": "; ".join(reasons)}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: fastapi.Request, error: ClientDisconnect) -> fastapi.Response:
        return fastapi.Response(status_code=400)  # which nobody reads

    app.add_middleware(RequestSizeLimit, max_bytes=max_bytes)
    return app


def data_url(image: np.ndarray) -> str:
    """Return an image (28, 28, 1) as a data URL of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray((image[..., 0] * 255).round().astype(np.uint8)).save(
        stream, "PNG", compress_level=1
    )
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def model_card(classifier: Classifier) -> dict[str, Any]:
    """Return what is known of a classifier and what it is not for, as Card has it."""
    config, scores = runs.load_config(classifier.run), load_evaluation(classifier.run) or {}
    return {
        "run": classifier.run.name,
        "network": str(config.get("model")),
        "parameters": classifier.model.count_params(),
        "classes": list(CLASS_NAMES),
        "test_accuracy": scores.get("accuracy"),
        "test_accuracy_interval": scores.get("accuracy_interval"),
        "calibration_error": scores.get("calibrated_ece"),
        "test_time_flips": classifier.flips,
        "test_time_shifts": classifier.shifts,
        "unsure_test_images": scores.get("unsure"),
        "trained_on": "Fashion-MNIST: grey images of 28 × 28 pixels of single garments, from a "
        "shop's front views",
        "created": config.get("created"),
        "limits": "One garment on a plain ground, seen from the front. Garments that are worn, "
        "folded or of other kinds than the ten are answered too, and not always called unsure.",
    }
