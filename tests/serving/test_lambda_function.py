"""The Lambda's handler: every form of event, the gateway's answers, and clear JSON for all that goes wrong."""

import base64
import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_model import CONFIG, LABELS, MakeClient, mean_colour
from PIL import Image

from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.serving import lambda_function
from image_classification_trash.serving import safe_fetch as fetch
from image_classification_trash.serving.http.schemas import ErrorAnswer, PredictAnswer

Event = dict[str, Any]
ROOT = Path(__file__).parents[2]


class Context:
    def __init__(self, milliseconds: int = 20_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def photo(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def v1(body: str | None, kind: str | None = "application/json", method: str = "POST", **more: Any) -> Event:
    """API Gateway, form 1.0: names of headers as they were written."""
    headers = {"Content-Type": kind} if kind else None
    context = {"requestId": "1", "httpMethod": method}
    return {"httpMethod": method, "headers": headers, "requestContext": context, "body": body, **more}


def v2(body: str | None, kind: str | None = "application/json", method: str = "POST", **more: Any) -> Event:
    """API Gateway, form 2.0, and a Function URL: names of headers in lower case."""
    headers = {"content-type": kind} if kind else {}
    event = {"version": "2.0", "headers": headers, "requestContext": {"http": {"method": method}}, **more}
    return event if body is None else event | {"body": body}


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> TrashClassifier:
    tiny = TrashClassifier(CONFIG, mean_colour)
    monkeypatch.setattr(lambda_function, "classifier", lambda: tiny)
    return tiny


def plain(event: Any, context: Context | None = None) -> Any:
    return lambda_function.handler(event, context or Context())


def http(event: Event) -> tuple[int, Any]:
    answer = plain(event)
    assert answer.keys() == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert answer["headers"]["Content-Type"] == "application/json" and not answer["isBase64Encoded"]
    return answer["statusCode"], json.loads(answer["body"])


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_a_plain_invocation_gets_the_gateways_answer(colour: str, make_client: MakeClient) -> None:
    event = {"image": as_base64(photo(colour))}
    answer = PredictAnswer.model_validate(plain(event))
    asked = PredictAnswer.model_validate(make_client().post("/predict", json=event).json())
    unmeasured = {"predictions": {0: {"milliseconds"}}}
    assert answer.model_dump(exclude=unmeasured) == asked.model_dump(exclude=unmeasured)
    assert answer.predictions[0].label == LABELS[{"red": 0, "blue": 2}[colour]]


def test_the_answer_has_all_fields_of_the_gateways_and_no_other() -> None:
    answer = plain({"image": as_base64(photo())})
    assert PredictAnswer.model_validate(answer).model_dump() == answer


@pytest.mark.parametrize("form", [v1, v2])
def test_http_requests_are_answered(form: Callable[..., Event]) -> None:
    text = json.dumps({"image": as_base64(photo())})
    bodies = [
        form(text),
        form(text, "application/json; charset=utf-8"),
        form(as_base64(text.encode()), isBase64Encoded=True),
        form(as_base64(photo()), "image/png", isBase64Encoded=True),
    ]
    for event in bodies:
        status, answer = http(event)
        assert status == 200 and answer["predictions"][0]["label"] == "glass"


def alb(body: str | None, **headers: Any) -> Event:
    """A load balancer whose target group is set to send lists of values."""
    lists = {name.replace("_", "-"): value for name, value in headers.items()}
    context = {"elb": {"targetGroupArn": "arn"}}
    return {
        "requestContext": context,
        "httpMethod": "POST",
        "multiValueHeaders": lists,
        "body": body,
        "isBase64Encoded": True,
    }


def test_a_load_balancer_is_answered_in_the_form_that_it_sends() -> None:
    body = as_base64(photo())
    for kinds in (["image/png"], ["text/plain", "image/png"]):
        answer = plain(alb(body, content_type=kinds))
        assert answer["statusCode"] == 200 and "headers" not in answer
        assert answer["multiValueHeaders"]["Content-Type"] == ["application/json"]
    refused = plain(alb(body, content_type=[]))
    assert refused["statusCode"] == 415 and refused["multiValueHeaders"]["Cache-Control"] == ["no-store"]
    both = v1(body, "image/png", isBase64Encoded=True, multiValueHeaders={"Content-Type": ["image/png"]})
    assert http(both)[0] == 200


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (v2("x") | {"headers": {"content-type": None}}, 415),
        (v2("x") | {"headers": None}, 415),
        (v1("x") | {"headers": None, "multiValueHeaders": None}, 415),
        (v1("x") | {"headers": "x"}, 415),
        ({"requestContext": None, "body": "x"}, 405),
        ({"requestContext": {"http": None}}, 405),
        (v2("{}", "application/json; charset=utf-7"), 415),
    ],
)
def test_what_is_null_in_an_event_is_no_fault(event: Event, status: int) -> None:
    assert http(event)[0] == status


def test_a_compressed_body_is_inflated_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(data: bytes) -> tuple[int, Any]:
        event = v2(as_base64(gzip.compress(data)), isBase64Encoded=True)
        event["headers"]["content-encoding"] = "gzip"
        return http(event)

    text = json.dumps({"image": f"data:image/png;base64,{as_base64(photo())}"}).encode()
    assert sent(text)[1]["predictions"][0]["label"] == "glass"
    monkeypatch.setenv("TRASH_LAMBDA_MAX_MB", "1")
    assert sent(b" " * 2**21)[0] == 413


def test_a_link_is_fetched_within_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def fetched(url: str, rules: fetch.FetchRules) -> bytes:
        asked.append((url, rules))
        return photo("blue")

    monkeypatch.setattr(fetch, "fetch", fetched)
    monkeypatch.setenv("TRASH_LAMBDA_ALLOWED_HOSTS", "example.org,*.example.com")
    answer = plain({"url": "https://example.org/a.jpg"}, Context(5000))
    assert answer["predictions"][0]["photo"] == "https://example.org/a.jpg"
    assert answer["predictions"][0]["label"] == LABELS[2]
    ((_, rules),) = asked
    assert rules.seconds == 5 - lambda_function.ANSWER_SECONDS
    assert rules.allowed_hosts == ("example.org", "*.example.com") and rules.may_connect is fetch.is_public


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"image": as_base64(b"no photo")}, "not_a_photo"),
        ({"image": ""}, "not_a_photo"),
        ({"image": as_base64(photo()[:60])}, "not_a_photo"),
        ({"image": "not base64!"}, "wrong_body"),
        ({"image": "é"}, "wrong_body"),
        ({"image": 5}, "wrong_body"),
        ({"image": as_base64(photo()), "url": "https://example.org"}, "wrong_body"),
        ({"photo": "x"}, "wrong_body"),
        ({}, "wrong_body"),
        ([1], "wrong_body"),
        (None, "wrong_body"),
        ("photo", "wrong_body"),
        ({"url": "http://127.0.0.1/a.jpg"}, "url_refused"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url_refused"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "url_refused"),
        ({"url": "file:///etc/passwd"}, "url_refused"),
        ({"url": "http://localhost:9001/2018-06-01/runtime/invocation/next"}, "url_refused"),
        ({"url": "\ud800"}, "url_refused"),
    ],
)
def test_bad_events_get_the_reason(event: Any, code: str) -> None:
    answer = ErrorAnswer.model_validate(plain(event))
    assert answer.error.code == code and len(answer.error.message) > 10


def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(_: str, __: fetch.FetchRules) -> bytes:
        raise fetch.FetchError(
            "The address could not be fetched: its host is not known.", "Check the address."
        )

    monkeypatch.setattr(fetch, "fetch", unknown)
    assert plain({"url": "https://nothing.example/"})["error"]["code"] == "url_failed"
    status, _ = http(v2('{"url": "https://nothing.example/"}'))
    assert status == 400


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (v1("{"), 422, "wrong_body"),
        (v2(None), 422, "wrong_body"),
        (v1(None), 422, "wrong_body"),
        (v2("\ud800"), 422, "wrong_body"),
        (v2("[" * 100_000), 422, "wrong_body"),
        (v2("no base64", isBase64Encoded=True), 422, "wrong_body"),
        (v2("{}", None), 415, "wrong_content_type"),
        (v1("{}", None), 415, "wrong_content_type"),
        (v2("{}", "multipart/form-data; boundary=x"), 415, "wrong_content_type"),
        (v2(None, None, "GET"), 405, "wrong_method"),
        (v1(None, None, "PUT"), 405, "wrong_method"),
        (v2(as_base64(b"GIF89a"), "image/gif", isBase64Encoded=True), 400, "not_a_photo"),
        (v2("", "image/png"), 400, "not_a_photo"),
    ],
)
def test_bad_requests_get_status_and_reason(event: Event, status: int, code: str) -> None:
    found, answer = http(event)
    assert (found, answer["error"]["code"]) == (status, code)


def test_a_photo_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRASH_LAMBDA_MAX_MB", "0.00001")
    assert plain({"image": as_base64(photo())})["error"]["code"] == "too_large"
    status, _ = http(v2(as_base64(photo()), "image/png", isBase64Encoded=True))
    assert status == 413


def test_a_photo_that_would_take_too_much_to_decode() -> None:
    buffer = io.BytesIO()
    Image.new("1", (9_000, 8_000)).save(buffer, "PNG")
    status, answer = http(v2(as_base64(buffer.getvalue()), "image/png", isBase64Encoded=True))
    assert (status, answer["error"]["code"]) == (413, "too_large")


def test_what_is_not_foreseen_is_json_too_and_is_logged(
    model: TrashClassifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(model, "probabilities", broken)
    status, answer = http(v2(json.dumps({"image": as_base64(photo())})))
    assert status == 500 and answer["error"]["code"] == "fault"
    assert plain({"image": as_base64(photo())})["error"]["code"] == "fault"
    assert "secret" not in json.dumps(answer)
    assert "the secret cause" in caplog.text


def test_wrong_settings_are_faults_whose_cause_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRASH_LAMBDA_MAX_MB", "many")
    assert plain({"image": as_base64(photo())})["error"]["code"] == "fault"
    assert "TRASH_LAMBDA_MAX_MB" in caplog.text


def test_nothing_is_imported_that_a_photo_does_not_need() -> None:
    code = "import sys, image_classification_trash.serving.lambda_function; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"pydantic", "fastapi", "starlette", "yaml", "asyncio", "ssl", "onnxruntime", "tqdm"}


def test_the_package_has_every_module_of_serving_that_is_imported_and_no_other() -> None:
    name = "image_classification_trash.serving"
    code = f"import sys, {name}.lambda_function, {name}.safe_fetch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {loaded for loaded in done.stdout.split() if loaded.startswith(name)}
    text = (ROOT / "deploy/make_lambda_package.sh").read_text(encoding="utf-8")
    packed = re.search(r"for module in (.*); do", text)[1].split()  # type: ignore[index]
    modules = {f"{name}.{file}".replace("/", ".").removesuffix(".__init__") for file in packed}
    assert modules == imported
