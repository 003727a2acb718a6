"""Ask a running gateway with other projects' own clients, unchanged, and compare the answers with those of /predict.

    pip install "tritonclient[http]" kserve requests pillow        (in an environment of its own; none is needed otherwise)
    python scripts/try_clients.py http://127.0.0.1:8080 photo.jpg [API_KEY]

Clients that are not installed are skipped, and said to be; exit status 1 if an answer differs or fails.
"""

import asyncio
import base64
import io
import json
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]


class Gateway:
    """What the clients are compared with."""

    def __init__(self, url: str, photo: bytes, key: str | None) -> None:
        self.url, self.photo = url, photo
        self._key = key
        about = self.ask("/v2/models/trash")
        self.labels = about["parameters"]["labels"]
        _, self.height, self.width, _ = about["inputs"][0]["shape"]
        self.pixels = np.random.default_rng(0).integers(0, 256, (2, self.height, self.width, 3), np.uint8)
        ((answer),) = self.ask("/predict", {"image": base64.b64encode(photo).decode()})["predictions"]
        by_label = {entry["label"]: entry["probability"] for entry in answer["probabilities"]}
        self.of_photo = np.array([[by_label[label] for label in self.labels]])
        body = {"instances": self.pixels.tolist()}
        self.of_pixels = np.array(self.ask("/v1/models/trash:predict", body)["predictions"])

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a request, made again each time, because clients add theirs."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def ask(self, path: str, body: object = None) -> Any:
        """Send a request without any client."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers)  # noqa: S310  the address of the user's own gateway
        with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
            return json.load(answer)


def tritonclient_http(gateway: Gateway) -> None:
    """Triton's client: state, metadata, pixels and photos, in JSON and as binary tensors."""
    from tritonclient import http  # noqa: PLC0415

    client = http.InferenceServerClient(gateway.url.removeprefix("http://"), network_timeout=600)
    assert client.is_server_live(gateway.headers) and client.is_server_ready(gateway.headers)
    assert client.is_model_ready("trash", headers=gateway.headers)
    assert client.is_model_ready("trash", "1", gateway.headers)
    assert client.get_model_metadata("trash", headers=gateway.headers)["name"] == "trash"
    assert client.get_server_metadata(gateway.headers)["name"] == "trash-classifier"
    for binary in (False, True):
        pixels = http.InferInput("images", list(gateway.pixels.shape), "UINT8")
        pixels.set_data_from_numpy(gateway.pixels, binary_data=binary)
        texts = http.InferInput("image_bytes", [1], "BYTES")
        encoded = gateway.photo if binary else base64.b64encode(gateway.photo).decode()
        texts.set_data_from_numpy(np.array([encoded], object), binary_data=binary)
        for given, expected in ((pixels, gateway.of_pixels), (texts, gateway.of_photo)):
            for wanted in (None, [http.InferRequestedOutput("probabilities", binary_data=binary)]):
                found = client.infer(
                    "trash", [given], outputs=wanted, request_id="7", headers=gateway.headers
                )
                same(found.as_numpy("probabilities"), expected)
                assert found.get_response()["id"] == "7"
        for algorithm in ("gzip", "deflate"):
            found = client.infer(
                "trash", [pixels], request_compression_algorithm=algorithm, headers=gateway.headers
            )
            same(found.as_numpy("probabilities"), gateway.of_pixels)


def kserve_v2(gateway: Gateway) -> None:
    """KServe's client of the Open Inference Protocol."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: PLC0415

    async def ask() -> None:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=600))
        assert await client.is_server_live(gateway.url, headers=gateway.headers)
        assert await client.is_server_ready(gateway.url, headers=gateway.headers)
        assert await client.is_model_ready(gateway.url, "trash", headers=gateway.headers)
        for binary in (False, True):
            given = InferInput("images", list(gateway.pixels.shape), "UINT8")
            given.set_data_from_numpy(gateway.pixels, binary_data=binary)
            request = InferRequest("trash", [given], request_id="7")
            found = await client.infer(gateway.url, request, model_name="trash", headers=gateway.headers)
            same(np.array(found.outputs[0].as_numpy()), gateway.of_pixels)

    asyncio.run(ask())


def kserve_v1(gateway: Gateway) -> None:
    """KServe's client of the V1 protocol, which is TensorFlow Serving's."""
    from kserve import InferenceRESTClient, RESTConfig  # noqa: PLC0415

    async def ask() -> None:
        client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=600))
        assert await client.is_model_ready(gateway.url, "trash", headers=gateway.headers)
        body = {"instances": gateway.pixels.tolist()}
        found = await client.infer(gateway.url, body, model_name="trash", headers=gateway.headers)
        same(np.array(found["predictions"]), gateway.of_pixels)

    asyncio.run(ask())


def tensorflow_serving_examples(gateway: Gateway) -> None:
    """Requests as TensorFlow Serving's documents and its resnet_client.py send them, with the library requests."""
    import requests  # noqa: PLC0415

    url, session = f"{gateway.url}/v1/models/trash", requests.Session()
    session.headers.update(gateway.headers)
    # tensorflow_serving/example/resnet_client.py, in both of its ways
    body = f'{{"instances" : [{{"b64": "{base64.b64encode(gateway.photo).decode()}"}}]}}'
    same(np.array(session.post(f"{url}:predict", data=body).json()["predictions"]), gateway.of_photo)
    body = json.dumps({"instances": gateway.pixels.tolist()})
    same(np.array(session.post(f"{url}:predict", data=body).json()["predictions"]), gateway.of_pixels)
    # g3doc/api_rest.md
    body = json.dumps({"signature_name": "serving_default", "instances": gateway.pixels.tolist()})
    for path in ("", "/versions/1", "/labels/stable"):
        same(
            np.array(session.post(f"{url}{path}:predict", data=body).json()["predictions"]), gateway.of_pixels
        )
        assert session.get(url + path).json()["model_version_status"][0]["state"] == "AVAILABLE"
    assert session.get(f"{url}/metadata").json()["model_spec"]["name"] == "trash"
    column = json.dumps({"inputs": {"images": gateway.pixels.tolist()}})
    same(np.array(session.post(f"{url}:predict", data=column).json()["outputs"]), gateway.of_pixels)


CLIENTS: tuple[Callable[[Gateway], None], ...] = (
    tritonclient_http,
    kserve_v2,
    kserve_v1,
    tensorflow_serving_examples,
)


def same(found: Any, expected: Rows) -> None:
    """Raise AssertionError where probabilities differ."""
    assert np.allclose(np.asarray(found, np.float64).reshape(expected.shape), expected, atol=1e-5)


def main(url: str, photo: Path, key: str | None = None) -> int:
    """Ask with each client; return the exit status."""
    gateway, failed = Gateway(url, as_jpeg(photo), key), 0
    for client in CLIENTS:
        try:
            client(gateway)
        except ImportError as error:
            print(f"{client.__name__}: skipped, {error}")
        except Exception as error:
            failed += 1
            print(f"{client.__name__}: FAILED, {error!r} {error}")
        else:
            print(f"{client.__name__}: ok")
    return 1 if failed else 0


def as_jpeg(photo: Path) -> bytes:
    """The bytes of a photo; a stand-in where Pillow is there and the photo is not."""
    if photo.is_file():
        return photo.read_bytes()
    from PIL import Image  # noqa: PLC0415

    buffer = io.BytesIO()
    Image.new("RGB", (200, 150), "teal").save(buffer, "JPEG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:4]))
