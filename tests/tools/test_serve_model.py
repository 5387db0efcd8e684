import asyncio
import base64
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import load_server
from fmnist import runs, source
from fmnist.inference.classifier import compile_predictor, load_photo_classifier, prediction
from tests import ROOT, synthetic_data
from tools import serve_model

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")
app_module = pytest.importorskip("tools.serving.app")
micro_batcher = pytest.importorskip("tools.serving.micro_batcher")
server_module = pytest.importorskip("tools.serving.server")

BEST = ROOT / "pretrained/best"
LIMIT = 100_000  # request size limit in bytes
SCHEMATHESIS_EXAMPLES = 20
# Points of an outline, as fractions of the drawing area.
SHIRT = (
    (0.3, 0.2),
    (0.2, 0.35),
    (0.3, 0.4),
    (0.32, 0.3),
    (0.32, 0.8),
    (0.68, 0.8),
    (0.68, 0.3),
    (0.7, 0.4),
    (0.8, 0.35),
    (0.7, 0.2),
    (0.6, 0.2),
    (0.5, 0.25),
    (0.4, 0.2),
    (0.3, 0.2),
)


@pytest.fixture(scope="module")
def classifier():
    return load_photo_classifier(str(BEST), "runs")


@pytest.fixture(scope="module")
def app(classifier):
    return app_module.create_app(classifier, LIMIT)


@pytest.fixture(scope="module")
def client(app):
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_invalid_metrics_are_rejected(classifier, tmp_path):
    run = shutil.copytree(BEST, tmp_path / "run")
    scores = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**scores, "accuracy": "high"}))
    with pytest.raises(runs.RunError, match="corrupt") as caught:
        photographs = classifier.photographs._replace(run=run)
        app_module.create_app(classifier._replace(photographs=photographs), LIMIT)
    assert "\n" not in str(caught.value)


def png(index=0, size=(28, 28)):
    stream = io.BytesIO()
    Image.fromarray(synthetic_data.make_arrays()[0][index]).resize(size).save(stream, "PNG")
    return stream.getvalue()


def test_a_prediction_has_the_fields_of_predict_image_json(client, classifier):
    content = png(3)
    converted = classifier.read(io.BytesIO(content))
    expected = prediction(converted, classifier.classify([converted])[0])
    response = client.post("/predict", content=content, headers={"Content-Type": "image/png"})
    result = response.json()
    assert response.status_code == 200 and result.keys() == expected.keys()
    assert [candidate["label"] for candidate in result["top_k"]] == [
        candidate["label"] for candidate in expected["top_k"]
    ]
    assert result["confidence"] == pytest.approx(expected["confidence"], abs=2e-4)
    for key in ("uncertain", "warnings", "outline", "model_input"):
        assert result[key] == expected[key]
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert list(result["probabilities"]) == list(source.CLASS_NAMES)
    png_file = base64.b64decode(result["model_input"].partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(png_file)))
    np.testing.assert_allclose(pixels / 255, converted.images[-1, ..., 0], atol=0.003)


def test_a_batch_keeps_its_order_and_a_corrupt_file_has_an_error(client):
    alone = [client.post("/predict", content=png(index)).json()["label"] for index in (0, 1)]
    files = [
        ("files", (name, content))
        for name, content in (("a.png", png(0)), ("b.png", b"nothing"), ("c.png", png(1)))
    ]
    response = client.post("/predict/batch", files=files)
    entries = response.json()
    assert response.status_code == 200 and [entry["file"] for entry in entries] == [
        "a.png",
        "b.png",
        "c.png",
    ]
    assert [entries[index]["prediction"]["label"] for index in (0, 2)] == alone
    assert entries[1]["prediction"] is None and "not a JPEG" in entries[1]["error"]


def test_several_images_have_the_predictions_of_the_single_images(classifier):
    images = np.concatenate([classifier.read(io.BytesIO(png(index))).images for index in range(40)])
    predict = compile_predictor(classifier.images.model)
    alone = np.concatenate([predict(image[None]) for image in images])
    for count in (2, 5, 32, 40):
        np.testing.assert_allclose(predict(images[:count]), alone[:count], atol=1e-5)


def photograph(size=(120, 160)):
    """A dark rectangle right of the middle of a white picture, as the content of a file."""
    picture = np.full((*size, 3), 255, np.uint8)
    picture[30:90, 90:130] = (30, 60, 120)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def extent(outline):
    pairs = [point.split(",") for line in outline for point in line.split()]
    points = np.array(pairs, float)
    return [*points.min(axis=0), *points.max(axis=0)]


def test_the_outline_is_a_part_of_the_picture(client):
    outline = client.post("/predict", content=photograph()).json()["outline"]
    assert extent(outline) == pytest.approx([90 / 160, 30 / 120, 130 / 160, 90 / 120], abs=0.05)
    assert client.post("/predict", content=png()).json()["outline"] == []


def test_a_box_selects_a_part_of_the_picture(client):
    response = client.post("/predict?box=0.5,0.1,0.9,0.9", content=photograph())
    outline = response.json()["outline"]
    assert extent(outline) == pytest.approx([90 / 160, 30 / 120, 130 / 160, 90 / 120], abs=0.05)
    empty = client.post("/predict?box=0,0,0.4,1", content=photograph()).json()
    assert (empty["label"], empty["confidence"], empty["model_input"]) == (None, None, None)
    assert empty["uncertain"] and empty["top_k"] == [] and "no item" in empty["warnings"][0]


@pytest.mark.parametrize(
    "box", ["", "1", "0,0,1", "0,0,1,1,1", "a,b,c,d", "nan,0,1,1", "0,0,0,1", "0.5,0,0.2,1",
            "-0.1,0,1,1", "0,0,1.1,1", "0,0,inf,1", "0,0,0.001,1"]
)  # fmt: skip
def test_an_invalid_box_is_rejected(client, box):
    response = client.post("/predict", params={"box": box}, content=photograph())
    assert response.status_code == 422 and "box" in response.json()["detail"]


def test_a_too_large_request_is_rejected_before_it_is_read(client, app):
    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        while True:
            sent += 10_000
            yield bytes(10_000)

    for path in ("/predict", "/predict/batch"):
        response = client.post(
            path,
            content=bytes(LIMIT + 1),
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert response.status_code == 413 and f"{LIMIT:,}" in response.json()["detail"]

    async def receive():
        return {"type": "http.request", "body": next(chunks), "more_body": True}

    async def send(message):
        messages.append(message)

    for path, kind in (
        ("/predict", b"image/png"),
        ("/predict/batch", b"multipart/form-data; boundary=x"),
    ):
        sent, chunks, messages = 0, endless(), []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", kind)],
            "http_version": "1.1",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
        }
        asyncio.run(app(scope, receive, send))
        assert messages[0]["status"] == 413 and sent <= LIMIT + 10_000


@pytest.mark.parametrize(
    "charset, name", [("unicode_escape", b"\\ud800"), ("utf-7", b"+2AA-"), ("no-such", b"a")]
)
def test_a_file_may_have_any_name(client, charset, name):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="'
        + name
        + b'"\r\n\r\n'
        + png()
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert client.post("/predict/batch", content=body, headers=headers).status_code in (200, 400)


def test_invalid_requests_get_an_error_message_and_no_5xx(client):
    bomb = io.BytesIO()
    Image.new("1", (10_000, 2_501)).save(bomb, "PNG")
    for status, message, content, kind in (
        (415, "text/html", png(), "text/html"),
        (422, "not a JPEG", b"", "image/png"),
        (422, "corrupt", b"GIF89a", "image/png"),
        (422, "corrupt", png()[:100], "image/png"),
        (422, "megapixels", bomb.getvalue(), "image/png"),
    ):
        response = client.post("/predict", content=content, headers={"Content-Type": kind})
        assert response.status_code == status and message in response.json()["detail"]
    many = [("files", ("a.png", b"x"))] * (app_module.MAX_FILES + 1)
    assert client.post("/predict/batch", files=many).status_code == 422
    assert client.post("/predict/batch").status_code == 422
    assert client.get("/predict").status_code == 405
    assert client.get("/nothing").status_code == 404


def test_the_type_of_a_picture_is_that_of_its_content(client):
    for kind in ("image/jpg", "image/pjpeg", "image/heic", "IMAGE/PNG; charset=x", "image/x-any"):
        response = client.post("/predict", content=png(), headers={"Content-Type": kind})
        assert response.status_code == 200, kind
    assert client.post("/predict", content=png()).status_code == 200  # no content type


@pytest.mark.parametrize("path", ["/", "/health", "/model", "/openapi.json"])
def test_head_has_the_headers_of_get(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.headers == get.headers
    assert "head" not in client.get("/openapi.json").json()["paths"].get(path, {})


def test_other_origins_are_allowed_only_if_they_are_named(client, classifier):
    origins = ["https://example.org", "http://localhost:3000"]
    options = serve_model.parse_options([f"--cors-origin={origin}" for origin in origins])
    assert options.cors_origin == origins and serve_model.parse_options([]).cors_origin == []
    allowing = testclient.TestClient(app_module.create_app(classifier, LIMIT, origins))
    allowed = "Access-Control-Allow-Origin"
    for origin in (*origins, "https://example.com"):
        named = origin in origins
        headers = {"Origin": origin, "Content-Type": "image/png"}
        for status, content in ((200, png()), (413, bytes(LIMIT + 1)), (422, b"")):
            response = allowing.post("/predict", content=content, headers=headers)
            assert response.status_code == status
            assert response.headers.get(allowed) == (origin if named else None)
        asking = {"Access-Control-Request-Method": "POST", "Origin": origin}
        response = allowing.options(
            "/predict", headers={**asking, "Access-Control-Request-Headers": "content-type"}
        )
        assert (response.status_code == 200) is named
        assert allowed not in client.post("/predict", content=png(), headers=headers).headers


@pytest.mark.parametrize(
    "given, sent",
    [
        ("https://Example.ORG", "https://example.org"),
        ("https://a.org:443", "https://a.org"),
        ("http://a.org:80", "http://a.org"),
        ("http://a.org:443", "http://a.org:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_has_the_form_in_which_browsers_send_it(given, sent):
    assert serve_model.parse_options(["--cors-origin", given]).cors_origin == [sent]


@pytest.mark.parametrize(
    "origin", ["", "*", "example.org", "https://example.org/", "https://a b", "null", "ftp://a.b"]
)
def test_an_invalid_origin_is_rejected(origin, capsys):
    with pytest.raises(SystemExit, match="2"):
        serve_model.parse_options(["--cors-origin", origin])
    assert "must be an origin such as" in capsys.readouterr().err


def test_the_model_card_has_the_metrics_of_the_evaluation(client):
    card, scores = client.get("/model").json(), json.loads((BEST / "metrics.json").read_text())
    assert (
        card["test_accuracy"] == scores["accuracy"]
        and card["uncertain_test_images"] == scores["uncertain"]
    )
    assert card["test_time_flips"] is True and card["test_time_shifts"] is False
    assert (
        card["classes"] == list(source.CLASS_NAMES) and card["parameters"] == scores["parameters"]
    )
    assert client.get("/health").json() == {"status": "ok"}


def test_the_page_needs_no_other_host(client):
    response = client.get("/")
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert not re.search(r"(https?:)?//[a-z]", response.text.replace("// ", ""))
    for path in ("/docs", "/redoc"):  # FastAPI's own load their scripts from elsewhere
        assert client.get(path).status_code == 404


def test_waiting_items_are_computed_together_and_every_client_gets_its_own_result():
    sizes = []

    def compute(items):
        sizes.append(len(items))
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items]

    async def work(items):
        batcher = micro_batcher.MicroBatcher(compute)
        return await asyncio.gather(*map(batcher, items), return_exceptions=True)

    assert asyncio.run(work(range(100, 150))) == list(range(200, 300, 2))
    assert max(sizes) <= micro_batcher.MAX_BATCH and len(sizes) < 50
    assert all(isinstance(result, ValueError) for result in asyncio.run(work([13, 14])))


def test_a_cancelled_request_does_not_affect_others():
    async def work():
        batcher = micro_batcher.MicroBatcher(lambda items: items)
        gone = asyncio.create_task(batcher(1))
        await asyncio.sleep(0)
        gone.cancel()
        return await batcher(2)

    assert asyncio.run(work()) == 2


def test_a_port_in_use_and_a_missing_package_are_one_line(monkeypatch, capsys):
    with server_module.listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert serve_model.main(["--run", str(BEST), "--port", port]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and f"port {port}" in err and "--port" in err
    for host in ("no.such.host.invalid", "a..b"):
        assert serve_model.main(["--run", str(BEST), "--host", host]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    # Simulate a missing package for a server that is not imported yet.
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "tools.serving.server")
    monkeypatch.delattr("tools.serving.server")
    assert serve_model.main(["--run", str(BEST)]) == 1
    assert (
        'not installed: uvicorn; run: python -m pip install -e ".[serve]"'
        in capsys.readouterr().err
    )


@pytest.fixture(scope="module")
def server():
    """The URL of a server process, which Ctrl-C ends without an error message."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.serve_model", "--run", str(BEST), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(line for line in process.stdout if line.startswith("Serving"))
        yield line.split()[2]
        with socket.create_connection(
            ("127.0.0.1", int(line.rpartition(":")[2].split()[0]))
        ) as waiting:
            waiting.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
            )
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "") and out == "Stopped.\n"
    finally:
        process.kill()


@pytest.mark.slow
def test_malformed_uploads_do_not_disturb_the_server(server):
    port = int(server.rpartition(":")[2])
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(png(0, (200, 200)))).save(jpeg, "JPEG")
    uploads = load_server.malformed_uploads(png(), jpeg.getvalue(), 56)
    statuses = asyncio.run(load_server.send_malformed(port, uploads))
    assert sum(statuses.values()) == 56 and all(
        status is None or status < 500 for status in statuses
    )
    assert {413, 415, 422} <= set(statuses)
    statuses, *_ = asyncio.run(
        load_server.concurrent_clients(port, [load_server.request(png())] * 64)
    )
    assert statuses == [200] * 64


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_shows_the_prediction(browser, server, tmp_path):
    (tmp_path / "picture.png").write_bytes(photograph())
    (tmp_path / "corrupt.png").write_bytes(b"not a picture")
    page, requests, errors = browser.new_page(viewport={"width": 390, "height": 800}), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    # Registered early: on a busy machine, a listener added at the key press may be too late.
    page.on("filechooser", lambda chooser: chooser.set_files(tmp_path / "picture.png"))
    page.goto(server)
    result, best = page.locator("#result"), page.locator("tr.best")
    page.set_input_files("#file", tmp_path / "picture.png")
    best.wait_for()
    assert best.locator("th").inner_text() in result.inner_text()
    assert page.locator("#model-input").get_attribute("src").startswith("data:image/png")
    assert page.locator("#bars tr").count() == 10
    page.set_input_files("#file", tmp_path / "corrupt.png")
    page.get_by_text("No prediction").wait_for()
    assert "not a JPEG" in page.locator("#warnings").inner_text() and best.count() == 0
    # By keyboard: the first stop is the button that chooses a file.
    page.locator("body").press("Tab")
    page.locator("#choose:focus").wait_for()
    page.keyboard.press("Enter")
    best.wait_for()
    # Draw the outline of a T-shirt: it is classified during the stroke and again once filled.
    box = page.locator("#pad").bounding_box()
    first, *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SHIRT]
    page.mouse.move(*first)
    page.mouse.down()
    with page.expect_response("**/predict") as response:
        for place in others:
            page.mouse.move(*place, steps=3)
    assert response.value.status == 200
    page.mouse.up()
    page.locator("#result", has_text=re.compile("^T-shirt/top")).wait_for()
    assert page.locator("#warnings").inner_text() == ""
    assert page.locator("body").bounding_box()["width"] <= 390
    assert errors == [] and all(url.startswith((server, "data:", "blob:")) for url in requests)


@pytest.mark.slow
@pytest.mark.browser
def test_a_box_dragged_around_the_item_changes_the_prediction(browser, server, tmp_path):
    (tmp_path / "picture.png").write_bytes(photograph())
    page, errors = browser.new_page(viewport={"width": 390, "height": 1000}), []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(server)
    result, outline = page.locator("#result"), page.locator("#outline")

    def drag(left, top, right, bottom):
        page.locator("#photo").scroll_into_view_if_needed()
        area = page.locator("#photo").bounding_box()
        assert area["width"] / area["height"] == pytest.approx(160 / 120, abs=0.05)
        page.mouse.move(area["x"] + left * area["width"], area["y"] + top * area["height"])
        page.mouse.down()
        with page.expect_response("**/predict?box=*") as response:
            x, y = area["x"] + right * area["width"], area["y"] + bottom * area["height"]
            page.mouse.move(x, y, steps=5)
            page.mouse.up()
        return [float(edge) for edge in response.value.url.rpartition("=")[2].split(",")]

    page.set_input_files("#file", tmp_path / "picture.png")
    page.locator("tr.best").wait_for()
    whole = outline.get_attribute("d")
    assert whole.startswith("M") and not page.locator("#whole").is_visible()
    assert drag(0.5, 0.1, 0.95, 0.95) == pytest.approx([0.5, 0.1, 0.95, 0.95], abs=0.02)
    page.locator("#whole").wait_for()
    assert outline.get_attribute("d") not in ("", whole)
    assert drag(0.4, 0.9, 0.02, 0.1) == pytest.approx([0.02, 0.1, 0.4, 0.9], abs=0.02)
    page.get_by_text("No item found").wait_for()
    assert "no item was found" in page.locator("#warnings").inner_text()
    assert page.locator("tr.best").count() == 0 and outline.get_attribute("d") == ""
    page.locator("#whole").click()
    page.locator("tr.best").wait_for()
    assert outline.get_attribute("d") == whole and result.inner_text() != "No item found"
    assert errors == []


@pytest.mark.slow
def test_the_api_conforms_to_its_schema(server):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings

    # A schema cannot express that bytes are a valid picture.
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{server}/openapi.json")
    tried = set()
    for operation in schema.get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(
            max_examples=SCHEMATHESIS_EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def conforms(case):
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        conforms()
        tried.add(operation.ok().label)
    assert tried == {"POST /predict", "POST /predict/batch", "GET /model", "GET /health"}
