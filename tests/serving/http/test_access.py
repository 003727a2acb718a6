"""Who is answered: API keys, host names, the reload route; every refusal has its headers; /docs needs nobody else."""

import asyncio
import gzip
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from helpers.tiny_model import MakeClient

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import SettingsError
from image_classification_trash.serving.http import page
from image_classification_trash.serving.http.gateway import OPEN_PATHS
from image_classification_trash.serving.operations import access
from image_classification_trash.serving.operations.access import KEYS, ApiKeys, host_is_allowed, keys_of_file

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"
POST = ("/predict", "/v1/models/trash:predict", "/v2/models/trash/infer")


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(f"# of the sorting line\n{FIRST}\n\n{SECOND}\n")
    return path


def has_security_headers(response: object) -> bool:
    headers = response.headers  # type: ignore[attr-defined]
    return (
        headers["x-content-type-options"] == "nosniff" and "default-src" in headers["content-security-policy"]
    )


def test_without_a_key_nothing_but_health_metrics_and_the_page_that_asks_for_one_is_answered(
    make_client: MakeClient, keys_file: Path
) -> None:
    assert keys_of_file(keys_file) == [FIRST, SECOND]
    client = make_client(api_keys_file=keys_file)
    for path in (*OPEN_PATHS, "/metrics"):
        if path.startswith("/web/"):  # there is no .tflite for a browser here
            assert client.get(path).status_code == 404, path
            continue
        assert client.get(path).status_code == 200, path
        assert client.head(path).status_code == 200, path
    for method, path in [("GET", "/docs"), ("GET", "/model.json"), ("GET", "/model.tflite"), ("GET", "/web/other"), ("GET", "/nothing"), ("HEAD", "/v2"), *[("POST", p) for p in POST]]:  # fmt: skip
        response = client.request(method, path)
        assert response.status_code == 401 and has_security_headers(response), path
        assert response.headers["www-authenticate"] == "Bearer"
    assert client.post("/predict").json()["error"]["code"] == "unauthorized"
    assert isinstance(client.post(POST[1]).json()["error"], str)
    assert client.post("/healthz").status_code == 405


def test_nothing_of_a_body_is_read_without_a_key(make_client: MakeClient, keys_file: Path) -> None:
    """So it takes none of the bytes, and none of the requests, that a worker holds."""
    sent = []

    async def never() -> dict[str, object]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    app = make_client(api_keys_file=keys_file, max_requests=1, held_mb=0.001, max_mb=0.001).app
    for path in POST:
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [(b"host", b"x")]}  # fmt: skip
        asyncio.run(app(scope, never, send))  # type: ignore[arg-type]
        assert sent[-2]["status"] == 401


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {FIRST}"}, {"authorization": f"bearer  {SECOND} "}, {"X-API-Key": SECOND}],
)
def test_a_key_opens_everything(make_client: MakeClient, keys_file: Path, headers: dict[str, str]) -> None:
    client = make_client(api_keys_file=keys_file)
    assert client.get("/v2", headers=headers).status_code == 200
    assert client.post("/predict", headers=headers).status_code == 415


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Basic {FIRST}"},
        {"Authorization": f"Bearer {FIRST}x"},
        {"Authorization": "Bearer"},
        {"X-API-Key": FIRST[:-1]},
        {"X-API-Key": b"\xff\xfe"},
        {"Authorization": "Bearer wrong-key-0123456789", "X-API-Key": FIRST},
    ],
)
def test_other_keys_open_nothing(make_client: MakeClient, keys_file: Path, headers: dict[str, str]) -> None:
    assert make_client(api_keys_file=keys_file).get("/v2", headers=headers).status_code == 401


def test_each_key_has_its_own_requests(
    make_client: MakeClient, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(access.time, "monotonic", lambda: now)
    client = make_client(api_keys_file=keys_file, requests_per_minute=3)
    first, second = {"X-API-Key": FIRST}, {"X-API-Key": SECOND}
    statuses = [client.get("/v2", headers=first).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refused = client.post("/predict", headers=first)
    assert refused.json()["error"]["code"] == "too_many_requests" and has_security_headers(refused)
    assert refused.headers["retry-after"] == "20"
    assert client.get("/v2", headers=second).status_code == 200
    assert client.get("/healthz", headers=first).status_code == 200
    now = 120.0
    assert [client.get("/v2", headers=first).status_code for _ in range(2)] == [200, 429]


def test_keys_of_the_environment_and_bad_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ApiKeys.of(ServeSettings()) is None
    monkeypatch.setenv(KEYS, f" {FIRST}, ,{SECOND}")
    keys = ApiKeys.of(ServeSettings())
    assert keys is not None and keys.check(f"Bearer {SECOND}", "") is None
    monkeypatch.setenv(KEYS, "short")
    with pytest.raises(SettingsError, match="fewer than 16"):
        ApiKeys.of(ServeSettings())
    monkeypatch.delenv(KEYS)
    empty = tmp_path / "empty.txt"
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys.of(ServeSettings(api_keys_file=empty))
    empty.write_text("# nothing\n")
    with pytest.raises(SettingsError, match="holds no API key"):
        ApiKeys.of(ServeSettings(api_keys_file=empty))


@pytest.mark.parametrize(
    ("header", "allowed", "expected"),
    [
        ("127.0.0.1:8080", [], True),
        ("[::1]:8080", [], True),
        ("10.1.2.3", [], True),
        ("localhost:80", [], True),
        ("gateway", [], True),
        ("trash.prod.svc.cluster.local:8080", [], True),
        ("printer.local.", [], True),
        ("evil.example", [], False),
        ("evil.example:8080", [], False),
        ("127.0.0.1.evil.example", [], False),
        ("local.evil.example", [], False),
        ("evil.example", ["trash.example.org"], False),
        ("Trash.Example.org:443", ["trash.example.org"], True),
        ("a.example.org", ["*.example.org"], True),
        ("example.org", ["*.example.org"], False),
        ("badexample.org", ["*.example.org"], False),
        ("evil.example", ["*"], True),
        ("", [], True),
    ],
)
def test_hosts(header: str, allowed: list[str], expected: bool) -> None:
    assert host_is_allowed(header, allowed) is expected


def test_a_foreign_host_is_refused(make_client: MakeClient) -> None:
    client = make_client(max_mb=0.001)
    for path in ("/", "/healthz", "/none"):
        response = client.get(path, headers={"Host": "evil.example"})
        assert (response.status_code, response.json()["error"]["code"]) == (421, "wrong_host")
        assert (
            has_security_headers(response)
            and client.head(path, headers={"Host": "evil.example"}).status_code == 421
        )
    assert (
        make_client(server_hosts=["evil.example"])
        .get("/healthz", headers={"Host": "evil.example"})
        .status_code
        == 200
    )
    too_large = client.post("/predict", content=b"x" * 5000, headers={"content-type": "image/png"})
    assert too_large.status_code == 413 and has_security_headers(too_large)


@pytest.mark.parametrize(("path", "status"), [("/internal/metrics", 200), ("/metrics", 404)])
def test_metrics_have_a_path_of_their_own(make_client: MakeClient, path: str, status: int) -> None:
    assert make_client(metrics_path="/internal/metrics").get(path).status_code == status
    assert make_client(metrics_path="").get(path).status_code == 404


def test_docs_come_from_the_package_alone(client: TestClient) -> None:
    response = client.get("/docs")
    policy = response.headers["content-security-policy"]
    assert (
        "//" not in re.sub(r"<!--.*?-->", "", response.text)
        and "http" not in policy
        and "unsafe-eval" not in policy
    )
    for name, kind in page.SWAGGER_FILES.items():
        assert f'"docs/{name}"' in response.text
        packed, plain = (
            client.get(f"/docs/{name}"),
            client.get(f"/docs/{name}", headers={"Accept-Encoding": "identity"}),
        )
        assert packed.content == plain.content == gzip.decompress((page.SWAGGER / f"{name}.gz").read_bytes())
        assert packed.headers["content-type"].startswith(kind) and has_security_headers(packed)
    assert client.get("/docs/NOTICE.txt").status_code == 404
    assert "Apache License" in (page.SWAGGER / "NOTICE.txt").read_text()
