"""The gateway's own route, its errors, its limits and its page."""

import base64
import gzip
import io
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from helpers.patient import PATIENCE, wait_until
from helpers.tiny_model import LABELS, MakeClient, mean_colour
from PIL import Image

from image_classification_trash.errors import FetchError, FetchTooLargeError, UrlRefusedError
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.runtimes import Probabilities
from image_classification_trash.serving.http import gateway as gateway_module
from image_classification_trash.serving.http.api_errors import RETRY_SECONDS
from image_classification_trash.serving.operations import worker_pool
from image_classification_trash.serving.safe_fetch import FetchRules


def photo(colour: str = "red", size: tuple[int, int] = (100, 90), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def refused(response: Any, status: int, code: str) -> str:
    """The message of an error that is as it should be."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message"} and error["code"] == code
    return str(error["message"])


class Slow:
    """A model that answers when it is let; it says when it has begun."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.warm = False

    def __call__(self, photos: Pixels) -> Probabilities:
        if self.warm:
            self.begun.release()
            assert self.go.wait(PATIENCE)
        self.warm = True
        return mean_colour(photos)


def test_one_photo(client: TestClient) -> None:
    answer = client.post("/predict", files={"photos": ("dose.png", photo("red"))}).json()
    assert answer["model"] == {
        "name": "tiny", "architecture": "mean_colour", "git_commit": "0", "created": "now", "digest": None,
        "threshold": 0.5,
    }  # fmt: skip
    (prediction,) = answer["predictions"]
    assert (prediction["photo"], prediction["decision"], prediction["label"]) == (
        "dose.png",
        "glass",
        "glass",
    )
    ranked = prediction["probabilities"]
    assert {entry["label"] for entry in ranked} == set(LABELS)
    assert [e["probability"] for e in ranked] == sorted((e["probability"] for e in ranked), reverse=True)
    assert prediction["milliseconds"]["decode"] > 0 and prediction["milliseconds"]["infer"] > 0


def test_unsure_is_said_and_the_label_stays(client: TestClient) -> None:
    (prediction,) = client.post("/predict", files={"x": photo("grey")}).json()["predictions"]
    assert prediction["decision"] == "unsure" and prediction["label"] in LABELS
    assert prediction["probability"] == pytest.approx(1 / 3, abs=1e-3)


def test_several_photos_keep_their_order_and_a_bad_one_has_its_error(client: TestClient) -> None:
    files = [
        ("photos", ("a.png", photo("red"))),
        ("b", ("b.txt", b"no")),
        ("c", ("c.jpg", photo("blue", kind="JPEG"))),
    ]
    predictions = client.post("/predict", files=files).json()["predictions"]
    assert [p["photo"] for p in predictions] == ["a.png", "b.txt", "c.jpg"]
    assert [p["label"] for p in predictions] == ["glass", None, "紙 箱"]
    assert predictions[1]["error"]["code"] == "not_a_photo" and predictions[0]["error"] is None


def test_json_image(client: TestClient) -> None:
    (prediction,) = client.post("/predict", json={"image": encoded(photo("lime"))}).json()["predictions"]
    assert prediction["label"] == "métal, fin"


def test_json_url(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(url: str, rules: FetchRules) -> bytes:
        assert rules.max_bytes == 2 * 2**20 and rules.allowed_hosts == ("a.example",)
        return photo("blue")

    monkeypatch.setattr(gateway_module, "fetch", fetch)
    client = make_client(max_mb=2, allowed_hosts=["a.example"])
    (prediction,) = client.post("/predict", json={"url": "http://a.example/x"}).json()["predictions"]
    assert (prediction["photo"], prediction["label"]) == ("http://a.example/x", "紙 箱")
    assert prediction["milliseconds"]["fetch"] > 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UrlRefusedError("x"), 422, "url_refused"),
        (FetchError("x"), 400, "url_failed"),
        (FetchTooLargeError("x"), 413, "too_large"),
    ],
)
def test_what_is_wrong_with_an_address(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: FetchError, status: int, code: str
) -> None:
    async def fetch(url: str, rules: FetchRules) -> bytes:
        raise error

    monkeypatch.setattr(gateway_module, "fetch", fetch)
    refused(client.post("/predict", json={"url": "http://a.example/"}), status, code)


def test_an_address_inside_is_refused_and_its_address_not_told(make_client: MakeClient) -> None:
    async def resolve(host: str, port: int) -> list[Any]:
        return [ip_address("10.1.2.3")]

    client = make_client(rules=FetchRules(1000, 5, resolve=resolve))
    message = refused(client.post("/predict", json={"url": "http://intranet/"}), 422, "url_refused")
    assert "10.1.2.3" not in message


@pytest.mark.parametrize("data", [b"", b"not a photo", photo()[:60], photo(size=(4, 4))])
def test_not_a_photo(client: TestClient, data: bytes) -> None:
    refused(client.post("/predict", files={"photos": data}), 400, "not_a_photo")


def test_too_large(make_client: MakeClient) -> None:
    client = make_client(max_mb=0.01)
    refused(client.post("/predict", files={"photos": b"x" * 20_000}), 413, "too_large")
    headers = {"content-type": "application/json"}
    refused(client.post("/predict", content=iter([b"x" * 9000] * 2), headers=headers), 413, "too_large")
    buffer = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(buffer, "PNG")
    refused(make_client().post("/predict", files={"photos": buffer.getvalue()}), 413, "too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_wrong_content_type(client: TestClient, kind: str) -> None:
    response = client.post("/predict", content=b"x", headers={"content-type": kind})
    refused(response, 415, "wrong_content_type")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"{}", b'{"url": 1}', b'{"image": "?"}', b'{"image": "\xff"}', b'{"photo": "AAAA"}',
        b'{"url": "http://a.example/", "image": "AAAA"}', b"[" * 100_000, '{"image": "é"}'.encode(),
    ],
)  # fmt: skip
def test_wrong_json(client: TestClient, body: bytes) -> None:
    response = client.post("/predict", content=body, headers={"content-type": "application/json"})
    refused(response, 422, "wrong_body")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"nonsense"),
        ("multipart/form-data; boundary=b", b""),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="t"\r\n\r\nx\r\n--b--\r\n',
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=\u00e9", b"x"),
    ],
)
def test_wrong_form(client: TestClient, kind: str, body: bytes) -> None:
    headers = {"content-type": kind.encode("latin-1")}
    refused(client.post("/predict", content=body, headers=headers), 422, "wrong_body")


def test_too_many_photos(make_client: MakeClient) -> None:
    files = [("photos", photo())] * 3
    refused(make_client(max_photos=2).post("/predict", files=files), 422, "wrong_body")


def test_full_and_free_again(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "cores", lambda: 1)
    slow = Slow()
    with make_client(slow, queue_size=1, max_photos=1) as client, ThreadPoolExecutor(2) as pool:
        ask: Callable[[], Any] = lambda: client.post("/predict", files={"photos": photo()})  # noqa: E731
        first = pool.submit(ask)
        assert slow.begun.acquire(timeout=PATIENCE)
        second = pool.submit(ask)
        wait_until(lambda: "trash_queue_length 1.0" in client.get("/metrics").text)
        response = ask()  # comes at once: the model is not let yet, so waiting for it would not end
        assert response.headers["retry-after"] == str(RETRY_SECONDS)
        refused(response, 503, "full")
        assert client.get("/healthz").status_code == 200  # the event loop is free
        slow.go.set()
        assert first.result().status_code == second.result().status_code == 200
        assert ask().status_code == 200


def test_requests_held_are_bounded(make_client: MakeClient) -> None:
    slow = Slow()
    with make_client(slow, max_requests=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: client.post("/predict", files={"photos": photo()}))
        assert slow.begun.acquire(timeout=PATIENCE)
        refused(client.post("/predict", files={"photos": photo()}), 503, "full")
        response = client.post("/v1/models/trash:predict", json={"instances": [1]})
        assert response.status_code == 503 and isinstance(response.json()["error"], str)
        slow.go.set()
        assert first.result().status_code == 200


@pytest.mark.parametrize(
    "asked",
    [
        {"content": photo() + bytes(30_000), "headers": {"content-type": "image/png"}},
        {
            "content": gzip.compress(photo() + bytes(30_000)),
            "headers": {"content-type": "image/png", "content-encoding": "gzip"},
        },
        {"json": {"url": "http://a.example/x"}},
    ],
    ids=["sent", "compressed", "behind a link"],
)
def test_bytes_held_are_bounded(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    async def fetch(url: str, rules: FetchRules) -> bytes:
        rules.hold(30_000)
        return photo()

    monkeypatch.setattr(gateway_module, "fetch", fetch)
    slow, kibibyte = Slow(), 1 / 1024
    with (
        make_client(slow, max_mb=40 * kibibyte, held_mb=50 * kibibyte) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        ask: Callable[[], Any] = lambda: client.post("/predict", **asked)  # noqa: E731
        first = pool.submit(ask)
        assert slow.begun.acquire(timeout=PATIENCE)
        refused(ask(), 503, "full")
        slow.go.set()
        assert first.result().status_code == ask().status_code == 200


def test_a_slow_model_is_given_up(make_client: MakeClient) -> None:
    slow = Slow()
    with make_client(slow, model_seconds=0.2) as client:
        refused(client.post("/predict", files={"photos": photo()}), 504, "too_slow")
        slow.go.set()
        wait_until(lambda: client.post("/predict", files={"photos": photo()}).status_code == 200)


def test_a_fault_is_an_error_in_json_without_its_cause(make_client: MakeClient) -> None:
    calls = []

    def broken(photos: Pixels) -> Probabilities:
        calls.append(photos)
        if len(calls) > 1:
            raise RuntimeError("secret")
        return np.ones((len(photos), 3), np.float32) / 3

    message = refused(make_client(broken).post("/predict", files={"photos": photo()}), 500, "fault")
    assert "secret" not in message


def test_other_paths_and_methods(client: TestClient) -> None:
    refused(client.get("/nothing"), 404, "not_found")
    refused(client.get("/predict"), 405, "wrong_method")


def test_state_and_metrics(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/predict", files={"photos": photo()})
    client.get("/nothing/here")
    text = client.get("/metrics").text
    assert 'trash_requests_total{route="/predict",status="200"} 1.0' in text
    assert 'trash_requests_total{route="other",status="404"} 1.0' in text
    for step in ("decode", "infer", "total"):
        assert f'trash_step_seconds_count{{step="{step}"}} 1.0' in text
    assert "trash_queue_length 0.0" in text and "trash_requests_held 0.0" in text


def test_a_stopping_gateway_is_not_ready(client: TestClient) -> None:
    with client:
        assert client.get("/readyz").status_code == 200
    refused(client.get("/readyz"), 503, "not_ready")


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    response = client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("sha256-") == 2
    page = response.text
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", page)
    assert not re.search(r"\s(?:style|on\w+)=", page)  # the policy forbids them
    assert 'lang="en"' in page and 'aria-live="polite"' in page and "prefers-color-scheme: dark" in page
    labelled = set(re.findall(r'<label[^>]* for="(\w+)"', page))
    assert set(re.findall(r'<input[^>]* id="(\w+)"', page)) <= labelled


def has_security_headers(response: Any) -> bool:
    headers = response.headers
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    return bool(headers["referrer-policy"] == "no-referrer" and headers["cross-origin-opener-policy"])


def test_security_headers_everywhere(make_client: MakeClient) -> None:
    client = make_client(max_mb=0.01, cors_origins=["https://app.example.org"])
    for path in (
        "/",
        "/healthz",
        "/nothing",
        "/docs",
        "/metrics",
        "/openapi.json",
        "/v1/models/trash",
        "/v1/no",
    ):
        assert has_security_headers(client.get(path)) and has_security_headers(client.head(path))
    assert has_security_headers(client.get("/predict"))
    for files in ({"x": photo()}, {"x": b"no photo"}, {"x": b"x" * 20_000}):
        assert has_security_headers(client.post("/predict", files=files))
    preflight = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    for origin, status in (("https://app.example.org", 200), ("https://evil.example", 400)):
        response = client.options("/predict", headers={**preflight, "Origin": origin})
        assert response.status_code == status and has_security_headers(response)


@pytest.mark.parametrize("origins", [[], ["https://app.example.org"]])
def test_a_fault_has_security_headers_too(make_client: MakeClient, origins: list[str]) -> None:
    calls = []

    def broken(photos: Pixels) -> Probabilities:
        calls.append(photos)
        if len(calls) > 1:
            raise RuntimeError("secret")
        return np.ones((len(photos), 3), np.float32) / 3

    client = make_client(broken, cors_origins=origins)
    origin = {"Origin": "https://app.example.org"}
    response = client.post("/predict", files={"photos": photo()}, headers=origin)
    assert response.status_code == 500 and has_security_headers(response)
    allowed = response.headers.get("access-control-allow-origin")
    assert allowed == (origins[0] if origins else None)  # the page may read what is wrong
    assert 'route="/predict",status="500"' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("root", "path", "location"),
    [
        ("", "/predict/", "/predict"),
        ("", "/healthz/?a=b&c=%2F", "/healthz?a=b&c=%2F"),
        ("", "/v2/models/trash/", "/v2/models/trash"),
        ("/trash", "/healthz/", "/trash/healthz"),
        ("/trash", "/trash/healthz/", "/trash/healthz"),
    ],
)
def test_a_redirect_names_its_own_path_and_no_host(
    make_client: MakeClient, root: str, path: str, location: str
) -> None:
    client = make_client(root_path=root, server_hosts=["*"])
    response = client.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
    assert response.status_code == 307 and response.headers["location"] == location
    assert has_security_headers(response)


@pytest.mark.parametrize(
    "path", ["//evil.example/", "//evil.example/healthz/", "/\\\\evil.example/", "//healthz/"]
)
def test_no_redirect_leads_to_another_host(client: TestClient, path: str) -> None:
    response = client.get(f"http://testserver{path}", follow_redirects=False)
    assert response.status_code == 404 or response.headers["location"].startswith("/healthz")
