"""Clients work unchanged: other servers' routes, HEAD, pages of other origins, proxies, and each way to send a photo."""

import base64
import gzip
import io
import json
import zlib
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from helpers.tiny_model import LABELS, SIZE, MakeClient
from PIL import Image

from image_classification_trash.config.serving import ServeSettings

TF, OIP = "/v1/models/trash", "/v2/models/trash"
ORIGIN = "https://app.example.org"


def photo(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (101, 90), "red").save(buffer, kind)
    return buffer.getvalue()


def label(response: Any) -> Any:
    assert response.status_code == 200, response.text
    (prediction,) = response.json()["predictions"]
    return prediction["label"]


# Routes, as https://www.tensorflow.org/tfx/serving/api_rest and KServe's rest_predict_v2.yaml list them.


@pytest.mark.parametrize("version", ["", "/versions/1", "/labels/stable", "/labels/production"])
def test_routes_of_tensorflow_serving(client: TestClient, version: str) -> None:
    model = f"{TF}{version}"
    assert client.get(model).json() == client.get(TF).json()
    body = {"instances": [{"b64": base64.b64encode(photo()).decode()}]}
    assert client.post(f"{model}:predict", json=body).json() == client.post(f"{TF}:predict", json=body).json()
    answer = client.get(f"{model}/metadata").json()
    assert answer["model_spec"] == {"name": "trash", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    pixels = signatures["serving_default"]["inputs"]["images"]
    assert pixels["dtype"] == "DT_UINT8"
    assert [side["size"] for side in pixels["tensor_shape"]["dim"]] == ["-1", str(SIZE[0]), str(SIZE[1]), "3"]
    assert signatures["serving_bytes"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    for signature in signatures.values():
        assert signature["outputs"]["probabilities"]["tensor_shape"]["dim"][1]["size"] == str(len(LABELS))
        assert signature["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_routes_of_the_open_inference_protocol(client: TestClient, version: str) -> None:
    model = f"{OIP}{version}"
    assert client.get(model).json() == client.get(OIP).json()
    assert client.get(f"{model}/ready").json() == {"name": "trash", "ready": True}
    data = np.full((1, *SIZE, 3), 7).ravel().tolist()
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, *SIZE, 3], "data": data}
    assert client.post(f"{model}/infer", json={"inputs": [tensor]}).json()["model_version"] == "1"
    assert client.get("/v2/").json() == client.get("/v2").json()


@pytest.mark.parametrize(
    "path", [f"{TF}/versions/2", f"{TF}/labels/other", f"{TF}/versions/2/metadata", f"{OIP}/versions/2/ready"]
)
def test_another_version_is_not_found(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404 and isinstance(response.json()["error"], str)
    posted = client.post(f"{path.removesuffix('/ready')}:predict", json={})
    assert posted.status_code == 404


def test_head_on_every_get_route(client: TestClient) -> None:
    paths = [
        path for path, methods in client.get("/openapi.json").json()["paths"].items() if "get" in methods
    ]
    assert {"/healthz", "/readyz", "/metrics", TF, OIP} <= set(paths)
    for path in [*paths, "/", "/docs", "/openapi.json"]:
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        names = set(got.headers) - {"content-length"}
        assert names == set(head.headers) - {"content-length"}
        if path not in ("/metrics",):  # its counts grow
            assert head.headers["content-length"] == str(len(got.content))
    assert client.head("/predict").status_code == 405
    assert client.head("/nothing").status_code == 404


# Pages of other origins.


def preflight(client: TestClient, origin: str = ORIGIN) -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    return client.options("/predict", headers=headers)


def test_pages_of_other_origins_are_not_answered_by_default(client: TestClient) -> None:
    assert preflight(client).status_code == 405
    response = client.get("/healthz", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_pages_of_the_origins_that_are_named(make_client: MakeClient) -> None:
    client = make_client(cors_origins=[ORIGIN])
    allowed = preflight(client)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert allowed.headers["access-control-allow-headers"] == "content-type"
    assert "access-control-allow-credentials" not in allowed.headers
    assert "access-control-allow-origin" not in preflight(client, "https://evil.example").headers
    for files in ({"x": photo()}, {"x": b"no photo"}):
        response = client.post("/predict", files=files, headers={"Origin": ORIGIN})
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["access-control-expose-headers"] == "Retry-After"
    other = client.post("/predict", files={"x": photo()}, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_pages_of_every_origin(make_client: MakeClient) -> None:
    response = make_client(cors_origins=["*"]).get("/healthz", headers={"Origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", ["app.example.org", "https://a.example/", "https://*.example.org", "null"])
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        ServeSettings(cors_origins=[origin])


# Below a path of a proxy, which takes the path off or leaves it.


@pytest.mark.parametrize("prefix", ["", "/trash/v2"])
def test_below_a_path(make_client: MakeClient, prefix: str) -> None:
    client = make_client(root_path="/trash/v2")
    assert client.get(f"{prefix}/healthz").json() == {"status": "alive"}
    assert label(client.post(f"{prefix}/predict", files={"x": photo()})) == LABELS[0]
    assert isinstance(client.get(f"{prefix}{TF}/none").json()["error"], str)
    assert client.get(f"{prefix}/none").json()["error"]["code"] == "not_found"
    docs = client.get(f"{prefix}/docs")
    assert "'/trash/v2/openapi.json'" in docs.text or '"/trash/v2/openapi.json"' in docs.text
    assert "script-src 'self'" in docs.headers["content-security-policy"]
    assert client.get(f"{prefix}/docs/swagger-ui.css").status_code == 200
    assert client.get(f"{prefix}/openapi.json").json()["servers"][0]["url"] == "/trash/v2"


# Ways to send a photo.


@pytest.mark.parametrize("write", [
    lambda text: text,
    lambda text: f"data:image/png;base64,{text}",
    lambda text: f"DATA:image/svg+xml;charset=utf-8;BASE64,{text}",
    lambda text: text.replace("+", "-").replace("/", "_"),
    lambda text: text.rstrip("="),
    lambda text: f"data:;base64,{text.replace('+', '-').replace('/', '_').rstrip('=')}",
    lambda text: "\r\n".join(text[start:start + 76] for start in range(0, len(text), 76)) + "\n",
])  # fmt: skip
@pytest.mark.parametrize("pad", range(3))
def test_spellings_of_base64(client: TestClient, write: Any, pad: int) -> None:
    data = photo() + b"\xfb\xff" * 300  # + and / are in there; what follows a JPEG's end is no part of it
    data += b"\0" * ((pad - len(data)) % 3)
    text = write(base64.b64encode(data).decode())
    assert label(client.post("/predict", json={"image": text})) == LABELS[0]
    answer = client.post(f"{TF}:predict", json={"instances": [{"b64": text}]})
    assert answer.status_code == 200
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]}
    assert client.post(f"{OIP}/infer", json={"inputs": [tensor]}).status_code == 200


@pytest.mark.parametrize(
    "text", ["A", "AAAAA", "AA=A", "AA==AA==", "A*AA", "data:image/png,AAAA", "data:", "é"]
)
def test_what_is_no_base64(client: TestClient, text: str) -> None:
    response = client.post("/predict", json={"image": text})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "wrong_body"), response.text


ZIPS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}


@pytest.mark.parametrize("encoding", ZIPS)
def test_compressed_bodies(client: TestClient, encoding: str) -> None:
    text = json.dumps({"image": base64.b64encode(photo()).decode()}).encode()
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    assert label(client.post("/predict", content=ZIPS[encoding](text), headers=headers)) == LABELS[0]
    body = json.dumps({"instances": [{"b64": base64.b64encode(photo()).decode()}]}).encode()
    answer = client.post(f"{TF}:predict", content=ZIPS[encoding](body), headers=headers)
    assert len(answer.json()["predictions"]) == 1


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(b" " * 3 * 2**20, mtime=0), 413),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1], 422),
        ("gzip", gzip.compress(b"{}", mtime=0) * 2, 422),
        ("gzip", b"{}", 422),
        ("gzip", b"", 422),
        ("deflate", gzip.compress(b"{}", mtime=0), 422),
        ("br", b"{}", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), 415),
        ("\xff", b"{}", 415),
    ],
)
def test_compressed_bodies_that_are_refused(
    make_client: MakeClient, encoding: str, body: bytes, status: int
) -> None:
    headers = {"content-encoding": encoding.encode("latin-1"), "content-type": b"application/json"}
    response = make_client(max_mb=2).post("/predict", content=body, headers=headers)
    assert response.status_code == status, response.text


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png; name=x", "IMAGE/*"])
def test_a_photos_own_bytes(client: TestClient, kind: str) -> None:
    response = client.post("/predict", content=photo(), headers={"content-type": kind})
    assert label(response) == LABELS[0] and response.json()["predictions"][0]["photo"] == "photo 1"
    bad = client.post("/predict", content=b"", headers={"content-type": kind})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "not_a_photo")


def part(data: bytes, *headers: str) -> bytes:
    head = "\r\n".join(('Content-Disposition: form-data; name="photos"', *headers))
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"


FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    "headers", [(), ("Content-Type: image/jpeg",), ("Content-Type: application/octet-stream",)]
)
def test_parts_without_a_file_name(client: TestClient, headers: tuple[str, ...]) -> None:
    text = part(b"a note") + part(b"\xff" * 1000, "Content-Type: text/plain")
    response = client.post("/predict", content=text + part(photo(), *headers) + b"--b--\r\n", headers=FORM)
    assert label(response) == LABELS[0]
    large = photo("BMP") + b"\0" * 2 * 2**20  # fields of text are limited to 1 MiB, photos are not
    assert (
        label(client.post("/predict", content=part(large, *headers) + b"--b--\r\n", headers=FORM))
        == LABELS[0]
    )


def test_parts_without_a_file_name_are_counted(make_client: MakeClient) -> None:
    client = make_client(max_photos=2)
    two = client.post("/predict", content=part(photo()) * 2 + b"--b--\r\n", headers=FORM)
    assert [p["photo"] for p in two.json()["predictions"]] == ["photo 1", "photo 2"]
    assert client.post("/predict", content=part(photo()) * 3 + b"--b--\r\n", headers=FORM).status_code == 422
    assert client.post("/predict", content=part(b"x") * 101 + b"--b--\r\n", headers=FORM).status_code == 422
