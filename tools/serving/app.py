"""The web page and the REST API."""

import asyncio
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import fastapi
import python_multipart  # noqa: F401  FastAPI needs it, and fails only at the first form
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from fmnist import cli, runs, runtime
from fmnist.inference import photo
from fmnist.inference.classifier import PhotoClassifier, load_evaluation, prediction
from fmnist.inference.picture_file import PhotoError
from fmnist.source import CLASS_NAMES
from tools.serving.micro_batcher import MicroBatcher
from tools.serving.request_limit import RequestSizeLimit

PAGE = Path(__file__).parent / "index.html"
# The content, not the type, decides whether a picture can be read.
TYPES = ("image/*", "application/octet-stream")
MAX_FILES = 64  # per batch request
LEAST_BOX_EDGE = 0.01  # of a box around the item, as a fraction of the picture
Area = tuple[float, float, float, float]
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


class ClassConfidence(BaseModel):
    """A class and its probability."""

    label: str = Field(description="name of the class, one of the ten of Fashion-MNIST")
    confidence: float = Field(
        description="probability of the class; calibrated if the run is evaluated", ge=0, le=1
    )


class Prediction(BaseModel):
    """The prediction for one picture. Without an item, most fields are null."""

    label: str | None = Field(description="the most probable class; null if no item was found")
    confidence: float | None = Field(
        description="probability of this class; null if no item was found", ge=0, le=1
    )
    top_k: list[ClassConfidence] = Field(
        description="the three most probable classes; empty if no item was found"
    )
    uncertain: bool = Field(
        description="true if no item was found, or if the confidence is too low for photographs"
    )
    warnings: list[str] = Field(description="what may be wrong with the picture, and what to do")
    outline: list[str] = Field(
        description='outline of the item: closed lines "x,y x,y …", in fractions of the picture; '
        "empty for a picture of 28 × 28 pixels"
    )
    probabilities: dict[str, float] | None = Field(
        description="probability of every class; null if no item was found"
    )
    model_input: str | None = Field(
        description="image that the network classifies: a PNG file of 28 × 28 pixels as a data "
        "URL; null if no item was found"
    )


class FilePrediction(BaseModel):
    """The prediction for one file of a batch, or the error."""

    file: str = Field(description="name of the file in the request")
    prediction: Prediction | None = Field(None, description="null if the file cannot be read")
    error: str | None = Field(None, description="reason why the file cannot be read")


class ErrorMessage(BaseModel):
    """The reason why a request is rejected."""

    detail: str = Field(description="error message")


class ModelCard(BaseModel):
    """The network, its accuracy and its limits."""

    run: str = Field(description="name of the run directory")
    run_for_images: str = Field(
        description="name of the run directory of the network for pictures of 28 × 28 pixels"
    )
    network: str = Field(description="name of the network in model.py")
    parameters: int = Field(description="number of parameters")
    classes: list[str] = Field(description="names of the ten classes, in the order of the labels")
    test_accuracy: float | None = Field(
        description="accuracy on the 10,000 test images; null if the run is not evaluated"
    )
    test_accuracy_interval: list[float] | None = Field(
        description="95 % confidence interval of the test accuracy: lower and upper limit; null if "
        "the run is not evaluated"
    )
    calibration_error: float | None = Field(
        description="expected calibration error on the test images after calibration, for images "
        "of 28 × 28 pixels; null if the run is not evaluated"
    )
    photograph_accuracy: float | None = Field(
        description="accuracy on held-out photographs of items at home; null if the network was "
        "not trained on photographs"
    )
    test_time_flips: bool = Field(
        description="whether a prediction is the mean over an image and its mirror image"
    )
    test_time_shifts: bool = Field(
        description="whether a prediction is the mean over an image and its shifted copies"
    )
    uncertain_test_images: float | None = Field(
        description="fraction of the test images that are out of distribution; null if the run is "
        "not evaluated"
    )
    trained_on: str = Field(description="training data")
    created: str | None = Field(description="date and time at which the training started")
    limits: str = Field(description="pictures for which the network is not suited")


def create_app(
    classifier: PhotoClassifier, max_bytes: int, cors_origins: Sequence[str] = ()
) -> fastapi.FastAPI:
    """Return the FastAPI application.

    Args:
        classifier: result of classifier.load_photo_classifier().
        max_bytes: request size limit.
        cors_origins: origins of web pages, such as https://example.org, that may use the API.

    Raises:
        RunError: if the metrics of the run are corrupt.
    """
    # The documentation pages of FastAPI load scripts from other hosts and are turned off.
    app = fastapi.FastAPI(
        title="Fashion-MNIST",
        version="1",
        docs_url=None,
        redoc_url=None,
        description="Classify pictures of clothes, shoes and bags into the ten classes of "
        "Fashion-MNIST.",
    )
    classifier = classifier.compiled()
    cores = asyncio.Semaphore(runtime.available_cores())
    micro_batcher = MicroBatcher(classifier.classify)
    page = PAGE.read_bytes()
    try:
        card = ModelCard(**model_card(classifier))
    except ValueError as error:
        run = classifier.photographs.run
        metrics_file = run / runs.METRICS
        raise runs.RunError(
            f"{metrics_file} is corrupt ({cli.one_line(error)}); create it again: "
            f"python evaluate_model.py {shlex.quote(str(run))}"
        ) from None

    async def classify(content: bytes, area: Area = photo.WHOLE) -> dict[str, Any]:
        """Return the fields of Prediction for the bytes of a picture. Raises PhotoError."""
        # Limits the memory for decoded pictures, whatever the number of clients.
        async with cores:
            converted = await asyncio.to_thread(classifier.read, io.BytesIO(content), area)
        return prediction(converted, await micro_batcher(converted))

    errors = {
        413: {"model": ErrorMessage, "description": "the request exceeds the size limit"},
    }

    def unprocessable(description: str) -> dict[int, Any]:
        return {422: {"model": ErrorMessage, "description": description}}

    @app.post(
        "/predict",
        response_model=Prediction,
        responses={
            **errors,
            **unprocessable(
                "the request body is not a readable picture, the picture is too large, or the "
                "box is invalid"
            ),
            415: {
                "model": ErrorMessage,
                "description": f"the content type is not {' or '.join(TYPES)}",
            },
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
    async def predict_one(
        request: fastapi.Request,
        box: Annotated[
            str | None,
            fastapi.Query(
                description="part of the picture that contains the item: left, top, right and "
                "bottom as fractions of the picture, such as 0.1,0.2,0.8,0.9",
                max_length=100,
            ),
        ] = None,
    ) -> JSONResponse:
        """Classify one picture. The request body is the file."""
        area = photo.WHOLE if box is None else parse_box(box)
        kind = request.headers.get("content-type", TYPES[-1]).partition(";")[0].strip().lower()
        if kind != TYPES[-1] and not kind.startswith("image/"):
            message = f"the content type must be {' or '.join(TYPES)}, not {kind}"
            raise fastapi.HTTPException(415, message)
        try:
            # A JSONResponse is not validated again, which saves time.
            return JSONResponse(await classify(await request.body(), area))
        except PhotoError as error:
            raise fastapi.HTTPException(422, str(error)) from None

    @app.post(
        "/predict/batch",
        responses={
            **errors,
            **unprocessable(f"the request has no form field files, or more than {MAX_FILES} files"),
            400: {"model": ErrorMessage, "description": "the request is not a valid form"},
        },
    )
    async def predict_many(
        files: Annotated[
            list[fastapi.UploadFile],
            fastapi.File(description=f"picture files, at most {MAX_FILES}", max_length=MAX_FILES),
        ],
    ) -> list[FilePrediction]:
        """Classify up to 64 pictures. For an unreadable file, `error` is set instead."""

        async def classify_file(file: fastapi.UploadFile) -> FilePrediction:
            # The name may contain invalid characters.
            name = (file.filename or "").encode(errors="replace").decode()
            try:
                return FilePrediction(file=name, prediction=await classify(await file.read()))
            except PhotoError as error:
                return FilePrediction(file=name, error=str(error))

        return await asyncio.gather(*map(classify_file, files))

    @app.head("/model", include_in_schema=False)
    @app.get("/model")
    async def model() -> ModelCard:
        """Return the model card: the network, its accuracy and its limits."""
        return card

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Return the status of the server."""
        return {"status": "ok"}

    @app.head("/", include_in_schema=False)
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
        return fastapi.Response(status_code=400)  # the client disconnected

    app.add_middleware(RequestSizeLimit, max_bytes=max_bytes)
    if cors_origins:
        # The outermost middleware, so that a page can also read the responses of the other one.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Content-Type"],
        )
    return app


def parse_box(text: str) -> Area:
    """Return left, top, right and bottom of a box. Raises HTTPException."""
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        left = top = right = bottom = 0
    if not (
        0 <= left <= right - LEAST_BOX_EDGE <= 1 - LEAST_BOX_EDGE
        and 0 <= top <= bottom - LEAST_BOX_EDGE <= 1 - LEAST_BOX_EDGE
    ):
        raise fastapi.HTTPException(
            422,
            "box must be left,top,right,bottom with 0 <= left < right <= 1 and 0 <= top < bottom "
            f"<= 1, at least {LEAST_BOX_EDGE} wide and high",
        )
    return left, top, right, bottom


def model_card(classifier: PhotoClassifier) -> dict[str, Any]:
    """Return the fields of ModelCard, which describe the network for photographs."""
    network, on_photographs = classifier.photographs, classifier.photographs.on_photographs
    config, scores = runs.load_config(network.run), load_evaluation(network.run) or {}
    trained_on = (
        "Fashion-MNIST: greyscale images, 28 × 28 pixels, of single items from an online shop, in "
        "front view"
    )
    if on_photographs:
        trained_on += "; and photographs of items at home"
    return {
        "run": network.run.name,
        "run_for_images": classifier.images.run.name,
        "network": str(config.get("model")),
        "parameters": network.model.count_params(),
        "classes": list(CLASS_NAMES),
        "test_accuracy": scores.get("accuracy"),
        "test_accuracy_interval": scores.get("accuracy_interval"),
        "calibration_error": scores.get("calibrated_ece"),
        "photograph_accuracy": on_photographs.other.accuracy if on_photographs else None,
        "test_time_flips": network.flips,
        "test_time_shifts": network.shifts,
        "uncertain_test_images": scores.get("uncertain"),
        "trained_on": trained_on,
        "created": config.get("created"),
        "limits": "Suited to one item, spread out and seen from the front, or one shoe from the "
        "side. Other pictures are often misclassified, not always with a warning.",
    }
