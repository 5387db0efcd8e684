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
from fmnist.inference.classifier import Classifier, load_evaluation, prediction
from fmnist.inference.picture_file import PhotoError
from fmnist.source import CLASS_NAMES
from tools.serving.micro_batcher import MicroBatcher, compile_predictor
from tools.serving.request_limit import RequestSizeLimit

PAGE = Path(__file__).parent / "index.html"
# The content, not the type, decides whether a picture can be read.
TYPES = ("image/*", "application/octet-stream")
MAX_FILES = 64  # per batch request
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


class Prediction(ClassConfidence):
    """The prediction for one picture."""

    top_k: list[ClassConfidence] = Field(description="the three most probable classes")
    uncertain: bool = Field(description="true if there are warnings")
    warnings: list[str] = Field(description="reasons why the prediction is uncertain")
    probabilities: dict[str, float] = Field(description="probability of every class")
    model_input: str = Field(
        description="image that the network classifies: a PNG file of 28 × 28 pixels as a data URL"
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
        description="expected calibration error on the test images after calibration; null if the "
        "run is not evaluated"
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
    classifier: Classifier, max_bytes: int, cors_origins: Sequence[str] = ()
) -> fastapi.FastAPI:
    """Return the FastAPI application.

    Args:
        classifier: result of classifier.load_classifier().
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
    predict = compile_predictor(classifier.model)
    cores = asyncio.Semaphore(runtime.available_cores())
    micro_batcher = MicroBatcher(
        lambda photos: list(zip(*classifier.classify(photos, predict), strict=True))
    )
    page = PAGE.read_bytes()
    try:
        card = ModelCard(**model_card(classifier))
    except ValueError as error:
        metrics_file = classifier.run / runs.METRICS
        raise runs.RunError(
            f"{metrics_file} is corrupt ({cli.one_line(error)}); create it again: "
            f"python evaluate_model.py {shlex.quote(str(classifier.run))}"
        ) from None

    async def classify(content: bytes) -> dict[str, Any]:
        """Return the fields of Prediction for the bytes of a picture. Raises PhotoError."""
        # Limits the memory for decoded pictures, whatever the number of clients.
        async with cores:
            converted = await asyncio.to_thread(photo.read, io.BytesIO(content))
        return prediction(converted, *await micro_batcher(converted))

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
                "the request body is not a readable picture, or the picture is too large"
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
    async def predict_one(request: fastapi.Request) -> JSONResponse:
        """Classify one picture. The request body is the file."""
        kind = request.headers.get("content-type", TYPES[-1]).partition(";")[0].strip().lower()
        if kind != TYPES[-1] and not kind.startswith("image/"):
            message = f"the content type must be {' or '.join(TYPES)}, not {kind}"
            raise fastapi.HTTPException(415, message)
        try:
            # A JSONResponse is not validated again, which saves time.
            return JSONResponse(await classify(await request.body()))
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


def model_card(classifier: Classifier) -> dict[str, Any]:
    """Return the fields of ModelCard for a classifier."""
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
        "uncertain_test_images": scores.get("uncertain"),
        "trained_on": "Fashion-MNIST: greyscale images, 28 × 28 pixels, of single items from an "
        "online shop, in front view",
        "created": config.get("created"),
        "limits": "Suited to one item on a plain background, seen from the front. Items that are "
        "worn or folded, and other objects, are often misclassified, not always with a warning.",
    }
