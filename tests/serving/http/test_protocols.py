"""Clients of TensorFlow Serving and of the Open Inference Protocol get the same numbers as those of /predict."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from helpers.tiny_model import LABELS, SIZE, MakeClient
from PIL import Image

from image_classification_trash.inference.images import read_photo

TF, OIP = "/v1/models/trash:predict", "/v2/models/trash/infer"


def photos(count: int = 3) -> list[bytes]:
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((90, 70)).save(buffer, "JPEG")
        encoded.append(buffer.getvalue())
    return encoded


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [1, *SIZE, 3],
        "data": [7] * (SIZE[0] * SIZE[1] * 3),
    }
    return {"inputs": [{**whole, **changes}]}


def test_all_formats_agree_with_predict(client: TestClient) -> None:
    encoded = photos()
    files = [("photos", data) for data in encoded]
    ranked = [p["probabilities"] for p in client.post("/predict", files=files).json()["predictions"]]
    expected = [[{e["label"]: e["probability"] for e in row}[label] for label in LABELS] for row in ranked]
    pixels = np.stack([read_photo(data, SIZE) for data in encoded])
    rows = pixels.tolist()
    texts = [b64(data) for data in encoded]
    for instances in (
        rows,
        [{"images": row} for row in rows],
        [{"b64": text} for text in texts],
        [{"image_bytes": {"b64": text}} for text in texts],
    ):
        assert client.post(TF, json={"instances": instances}).json() == {"predictions": expected}
    for given in (
        {"name": "images", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()},
        {"name": "images", "datatype": "UINT8", "shape": list(pixels.shape), "data": rows},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [3], "data": texts},
    ):
        answer = client.post(OIP, json={"id": "7", "inputs": [given]}).json()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("trash", "1", "7")
        (output,) = answer["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [3, 3])
        assert np.array_equal(np.reshape(output["data"], (3, 3)), expected)


def test_tensorflow_serving_looks_at_no_content_type(client: TestClient) -> None:
    """`curl -d` says that it sends a form, and TensorFlow Serving's own documents use it so."""
    body = json.dumps({"signature_name": "serving_bytes", "instances": [{"b64": b64(photos(1)[0])}]})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert len(client.post(TF, content=body, headers=headers).json()["predictions"]) == 1
    text = client.get("/metrics").text
    assert all(f'trash_step_seconds_count{{step="{step}"}} 1.0' in text for step in ("decode", "infer"))


def test_state_and_metadata(client: TestClient) -> None:
    (status,) = client.get("/v1/models/trash").json()["model_version_status"]
    assert status["state"] == "AVAILABLE" and status["status"]["error_code"] == "OK"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/trash/ready").json() == {"name": "trash", "ready": True}
    assert client.get("/v2").json()["name"] == "trash-classifier"
    about = client.get("/v2/models/trash").json()
    assert about["inputs"][0] == {"name": "images", "datatype": "UINT8", "shape": [-1, *SIZE, 3]}
    assert about["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(LABELS)]}]


BLANK = np.zeros((*SIZE, 3), int).tolist()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (TF, {}, 422),
        (TF, [], 422),
        (TF, {"instances": []}, 422),
        (TF, {"instances": 1}, 422),
        (TF, {"instances": ["x"]}, 422),
        (TF, {"instances": [[[[0, 0, 0]]]]}, 422),
        (TF, {"instances": [BLANK, BLANK[1:]]}, 422),
        (TF, {"instances": [BLANK, {"b64": "AAAA"}]}, 422),
        (TF, {"instances": [np.full((*SIZE, 3), 256).tolist()]}, 422),
        (TF, {"instances": [np.full((*SIZE, 3), -1).tolist()]}, 422),
        (TF, {"instances": [np.full((*SIZE, 3), 0.5).tolist()]}, 422),
        (TF, {"instances": [[[[10**30]]]]}, 422),
        (TF, {"instances": [BLANK], "signature_name": "other"}, 422),
        (TF, {"instances": [{"b64": "?"}]}, 422),
        (TF, {"instances": [{"b64": 1}]}, 422),
        (TF, {"instances": [{"b64": "AAAA"}]}, 400),
        (TF, {"instances": [{"b64": "AAAA"}] * 17}, 422),
        (OIP, {"inputs": []}, 422),
        (OIP, {"inputs": [1]}, 422),
        (OIP, tensor(name="other"), 422),
        (OIP, tensor(datatype="FP32"), 422),
        (OIP, tensor(shape=[1, 2, 2, 3]), 422),
        (OIP, tensor(shape=[]), 422),
        (OIP, tensor(shape=[2, *SIZE, 3]), 422),
        (OIP, tensor(data=[256] * (SIZE[0] * SIZE[1] * 3)), 422),
        (OIP, tensor(name="image_bytes", datatype="BYTES", shape=[2], data=["AAAA"]), 422),
        (OIP, tensor(name="image_bytes", datatype="BYTES", shape=[1], data=[1]), 422),
        (OIP, tensor(name="image_bytes", datatype="BYTES", shape=[1], data=["AAAA"]), 400),
    ],
)
def test_errors_are_a_sentence(client: TestClient, path: str, body: Any, status: int) -> None:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    assert isinstance(response.json()["error"], str)


def test_too_large_and_not_json(make_client: MakeClient) -> None:
    client = make_client(max_mb=0.001)
    assert client.post(TF, json={"instances": [BLANK]}).status_code == 413
    assert client.post(OIP, content=b"{").status_code == 422
    assert isinstance(client.get("/v2/models/other").json()["error"], str)


def binary(data: bytes, announced: int | None = None, **changes: Any) -> tuple[bytes, dict[str, str]]:
    """A request of Triton's binary extension, and its headers."""
    size = len(data) if announced is None else announced
    body = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, *SIZE, 3], "parameters": {"binary_data_size": size}} | changes]}  # fmt: skip
    text = json.dumps(body).encode()
    return text + data, {"inference-header-content-length": str(len(text))}


def test_tensors_in_binary(client: TestClient) -> None:
    encoded = photos(2)
    pixels = np.stack([read_photo(data, SIZE) for data in encoded])
    expected = client.post(TF, json={"instances": pixels.tolist()}).json()["predictions"]
    elements = b"".join(len(data).to_bytes(4, "little") + data for data in encoded)
    as_bytes = {"name": "image_bytes", "datatype": "BYTES", "shape": [2]}
    for content, headers in (binary(pixels.tobytes(), shape=[2, *SIZE, 3]), binary(elements, **as_bytes)):
        answer = client.post(OIP, content=content, headers=headers).json()
        assert np.allclose(np.reshape(answer["outputs"][0]["data"], (2, 3)), expected)


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (binary(b"abc")[0], binary(b"abc")[1]["inference-header-content-length"]),
        (binary(b"abc", announced=4)[0], binary(b"abc", announced=4)[1]["inference-header-content-length"]),
        (b"{}", "3"),
        (b"{}", "-1"),
        (b"{}", "9" * 30),
        (b"{}", "0x1"),
        (b"{}", "0"),
        *[
            (content, headers["inference-header-content-length"])
            for content, headers in (
                binary(data, name="image_bytes", datatype="BYTES", shape=[1])
                for data in (b"\xff\xff\xff\xffab", b"\1\0\0\0", b"ab", b"\0\0\0\0" * 2000)
            )
        ],
    ],
)
def test_binary_that_does_not_fit(client: TestClient, content: bytes, header: str) -> None:
    response = client.post(OIP, content=content, headers={"inference-header-content-length": header})
    assert response.status_code == 422, response.text


def test_column_format(client: TestClient) -> None:
    rows = [np.full((*SIZE, 3), value).tolist() for value in (1, 200)]
    expected = client.post(TF, json={"instances": rows}).json()["predictions"]
    for inputs in (rows, {"images": rows}):
        assert client.post(TF, json={"inputs": inputs}).json() == {"outputs": expected}
    texts = [{"b64": b64(data)} for data in photos(2)]
    expected = client.post(TF, json={"instances": texts}).json()["predictions"]
    assert client.post(TF, json={"inputs": {"image_bytes": texts}}).json() == {"outputs": expected}
    for wrong in (
        {"inputs": {}},
        {"inputs": {"x": rows}},
        {"inputs": rows, "instances": rows},
        {"inputs": 1},
    ):
        assert client.post(TF, json=wrong).status_code == 422
