"""What a body of JSON may be is known before it is parsed; odd text is refused, never a fault."""

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers.tiny_model import MakeClient

from image_classification_trash.serving.http import request_json
from image_classification_trash.serving.http.api_errors import RefusalError
from image_classification_trash.serving.http.request_json import MAX_DEPTH, check_json, parse_json

TF, OIP = "/v1/models/trash:predict", "/v2/models/trash/infer"
JSON = {"content-type": "application/json"}


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 2**18])
def test_values_and_depth_are_those_of_the_parser(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_json, "_PIECE", piece)
    chosen = random.Random(0)
    for _ in range(60):
        value = anything(chosen, 5)
        body = json.dumps(value, ensure_ascii=chosen.random() < 0.5).encode()
        depth, count = extent(value)
        monkeypatch.setattr(request_json, "MAX_DEPTH", depth)
        assert parse_json(body, count) == value
        if depth:
            monkeypatch.setattr(request_json, "MAX_DEPTH", depth - 1)
            with pytest.raises(RefusalError, match=f"deeper than {depth - 1} levels"):
                check_json(body, count)
        monkeypatch.setattr(request_json, "MAX_DEPTH", depth)
        if count:
            with pytest.raises(RefusalError, match=f"more than {count - 1} values"):
                check_json(body, count - 1)


def anything(chosen: random.Random, depth: int) -> Any:
    kind = chosen.randrange(6) if depth else 5
    if kind < 2:
        return [anything(chosen, depth - 1) for _ in range(chosen.randrange(4))]
    if kind < 4:
        return {text(chosen): anything(chosen, depth - 1) for _ in range(chosen.randrange(4))}
    return text(chosen) if kind == 5 else chosen.randrange(300)


def text(chosen: random.Random) -> str:
    return "".join(chosen.choices('\\"[]{},:a é\n', k=chosen.randrange(8)))


def extent(value: Any) -> tuple[int, int]:
    """How deep a value is nested, and its opening brackets and commas."""
    if not isinstance(value, list | dict):
        return 0, 0
    inner = [extent(item) for item in (value.values() if isinstance(value, dict) else value)]
    count = 1 + max(0, len(inner) - 1) + sum(values for _, values in inner)
    return 1 + max((depth for depth, _ in inner), default=0), count


@pytest.mark.parametrize("length", [1, 2**17])
def test_a_key_twice_is_refused_instead_of_losing_the_first(length: int) -> None:
    body = b'{"image": "' + b"a" * length + b'", "image": "b"}'
    with pytest.raises(RefusalError, match="is ambiguous: it gives 'image' twice in one object"):
        parse_json(body)


def test_the_stated_depth_is_the_limit() -> None:
    assert MAX_DEPTH == 64
    parse_json(nested(MAX_DEPTH))
    with pytest.raises(RefusalError, match="deeper than 64 levels") as refused:
        parse_json(nested(MAX_DEPTH + 1))
    assert refused.value.status == 422
    parse_json(json.dumps({"image": "[" * 1000 + '\\"' * 3}).encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_json_is_in_utf_8_so_that_quotes_and_brackets_can_be_told(encoding: str) -> None:
    with pytest.raises(RefusalError):
        parse_json('{"url": "http://a.example/é"}'.encode(encoding))
    assert parse_json('{"a": "é"}'.encode("utf-8-sig")) == {"a": "é"}


BOMBS: dict[str, Callable[[int], bytes]] = {
    "lists": lambda size: b"[" + b"[]," * (size // 3) + b"[]]",
    "deep": lambda size: nested(size // 2),
    "objects": lambda size: b"[" + b'{"":[]},' * (size // 8) + b"0]",
    "numbers": lambda size: b"[" + b"0," * (size // 2) + b"0]",
    "quotes": lambda size: b"[" + b'"",' * (size // 3) + b"0]",
    "backslashes": lambda size: b'{"image": "' + b"\\" * size,
    "a number": lambda size: b"1" * size,
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("path", ["/predict", TF, OIP])
def test_bombs_are_refused_and_others_are_answered_meanwhile(
    make_client: MakeClient, kind: str, path: str
) -> None:
    body, pauses = BOMBS[kind](8 * 2**20), []
    with make_client() as client:
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                start = time.perf_counter()
                assert client.get("/healthz").status_code == 200
                pauses.append(time.perf_counter() - start)

        watcher = threading.Thread(target=watch)
        watcher.start()
        response = client.post(path, content=body, headers=JSON)
        done.set()
        watcher.join()
    assert response.status_code == 422, response.text
    assert len(response.content) < 1000
    # The whole of such a body takes a parser 0.3 to 4 seconds on an idle core; tests share theirs.
    assert max(pauses) < 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"url": "http://a.example/\ud800"}),
        ("/predict", {"url": "http://\ud800.example/"}),
        ("/predict", {"url": "\udfff"}),
        ("/predict", {"image": "\ud800"}),
        ("/predict", {"\ud800": "x"}),
        (TF, {"instances": ["\ud800"]}),
        (TF, {"instances": [{"b64": "\ud800"}]}),
        (TF, {"instances": [[1]], "signature_name": "\ud800"}),
        (TF, {"instances": [{"\ud800": 1}]}),
        (OIP, {"id": "\ud800", "inputs": [{"name": "images", "shape": [1], "datatype": "UINT8", "data": [1]}]}),
        (OIP, {"inputs": [{"name": "\ud800", "shape": [1], "datatype": "UINT8", "data": [1]}]}),
        (OIP, {"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["\ud800"]}]}),
    ],
)  # fmt: skip
def test_half_a_surrogate_pair_is_refused(client: TestClient, path: str, body: Any) -> None:
    response = client.post(path, content=json.dumps(body), headers=JSON)
    assert response.status_code == 422, response.text


def test_an_id_of_half_a_surrogate_pair_is_refused_where_all_else_is_good(client: TestClient) -> None:
    size = 64 * 80 * 3
    tensor = {"name": "images", "shape": [1, 64, 80, 3], "datatype": "UINT8", "data": [1] * size}
    assert client.post(OIP, json={"id": "é", "inputs": [tensor]}).json()["id"] == "é"
    body = json.dumps({"id": "\ud800", "inputs": [tensor]})
    assert client.post(OIP, content=body).status_code == 422


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("charset", ["utf-7", '"UTF-7"', "utf-16", "punycode", "hex", "nonsense"])
def test_text_in_other_charsets_is_refused(client: TestClient, kind: str, charset: str) -> None:
    response = client.post("/predict", content=b"{}", headers={"content-type": f"{kind}; Charset={charset}"})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "wrong_content_type")


@pytest.mark.parametrize(
    "disposition",
    [
        b'filename="\xed\xa0\x80.png"',
        b'filename="+2AA-.png"',
        b"filename*=utf-7''+2AA-.png",
        b"filename*=utf-8''%ED%A0%80.png",
        b'filename="\xff\xfe\x00"',
        b'filename="' + b"a" * 2000 + b'"',
    ],
)
def test_odd_file_names_are_no_fault(client: TestClient, disposition: bytes) -> None:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="x"; ' + disposition + b"\r\n\r\nno photo\r\n--b--\r\n"
    )
    for kind in ("multipart/form-data; boundary=b", "multipart/form-data; boundary=b; charset*=utf-7''utf-7"):
        response = client.post("/predict", content=part, headers={"content-type": kind})
        assert response.status_code in (400, 415, 422) and len(response.content) < 3000, response.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (TF, {"instances": [["x" * 10**6] + [1] * 3000]}),
        (TF, {"instances": [[True, 1]]}),
        (TF, {"instances": [[{}]]}),
        (TF, {"instances": [[1]], "signature_name": "x" * 10**6}),
        (OIP, {"inputs": [{"name": "images", "shape": [1] * 10**4, "datatype": "UINT8", "data": [1]}]}),
        (OIP, {"inputs": [{"name": "images", "shape": [2**70], "datatype": "UINT8", "data": [1]}]}),
        (OIP, {"id": "x" * 10**6, "inputs": [{"name": "images", "shape": [1], "datatype": "UINT8", "data": [1]}]}),
    ],
)  # fmt: skip
def test_little_is_held_and_said_of_what_is_wrong(client: TestClient, path: str, body: Any) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 422 and len(response.content) < 500, response.text[:1000]
