"""What the gateway gives a browser that runs the model itself, and that it is what web/ builds."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from helpers.tiny_model import CONFIG, LABELS, mean_colour

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import write_bundle
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.serving.http.gateway import create_app
from image_classification_trash.serving.http.page import WEB, WEB_FILES, tflite_of

SOURCES = Path(__file__).parents[3] / "web"
ROUTES = ("/model.json", "/model.tflite", "/web/worker.js")


def client_of(model: Path) -> TestClient:
    return TestClient(
        create_app(ServeSettings(model=model, isolation=False), TrashClassifier(CONFIG, mean_colour))
    )


@pytest.fixture
def tflite(tmp_path: Path) -> Path:
    """Not a model: these routes hand it on as it is."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"TFL3" * 1000)
    return path


def test_the_model_and_what_must_be_known_of_it(tflite: Path) -> None:
    client = client_of(tflite)
    about = client.get("/model.json").json()
    assert about["labels"] == list(LABELS) and (about["height"], about["width"]) == CONFIG.input_size
    assert (about["fit"], about["threshold"], about["name"]) == ("stretch", 0.5, "tiny")
    response = client.get("/model.tflite")
    assert response.content == tflite.read_bytes() and about["model_bytes"] == len(response.content)
    again = client.get("/model.tflite", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"") and response.headers[
        "cache-control"
    ] == "no-cache"


def test_the_model_that_was_loaded_is_sent_whatever_stands_in_its_place(tflite: Path) -> None:
    client, sent = client_of(tflite), tflite.read_bytes()
    tflite.write_bytes(b"TFL3 another")
    assert client.get("/model.tflite").content == sent
    another = client_of(tflite).get(
        "/model.tflite", headers={"If-None-Match": client.get("/model.tflite").headers["etag"]}
    )
    assert another.content == b"TFL3 another"


@pytest.mark.parametrize("name", WEB_FILES)
def test_library_files(tflite: Path, name: str) -> None:
    response = client_of(tflite).get(f"/web/{name}")
    assert response.status_code == 200 and response.headers["content-type"].startswith(WEB_FILES[name])
    assert "no-cache" in response.headers["cache-control"] or name.endswith(".wasm")


def test_the_engine_is_sent_compressed_to_those_who_take_it(tflite: Path) -> None:
    url, client = "/web/litert_wasm_compat_internal.wasm", client_of(tflite)
    packed = client.get(url)
    plain = client.get(url, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert packed.content == plain.content and plain.content[:4] == b"\0asm"
    assert client.get("/model.json").json()["engine_bytes"] == len(plain.content)


@pytest.mark.parametrize("name", ["built.json", "no.js", "..%2fpage.py", "%2e%2e/page.html"])
def test_nothing_else_is_given_away(tflite: Path, name: str) -> None:
    assert client_of(tflite).get(f"/web/{name}").status_code == 404


def test_policies_allow_what_is_needed_where_it_is_needed(tflite: Path) -> None:
    client = client_of(tflite)
    page, worker = (client.get(url).headers["content-security-policy"] for url in ("/", "/web/worker.js"))
    assert "worker-src 'self'" in page and "unsafe" not in page
    assert "'wasm-unsafe-eval'" in worker and "unsafe-inline" not in worker and "connect-src 'self'" in worker
    assert "data-on-device" in client.get("/").text


def test_without_a_tflite_the_page_offers_the_server_alone(client: TestClient) -> None:
    response = client.get("/")
    assert (
        '<html lang="en">' in response.text
        and "worker-src" not in response.headers["content-security-policy"]
    )
    assert {client.get(url).status_code for url in ROUTES} == {404}


def test_which_file_of_a_bundle_it_is(tmp_path: Path) -> None:
    files = {"model.safetensors": b"x", "export/model_int8.tflite": b"small"}
    write_bundle(tmp_path / "without", CONFIG, files)
    write_bundle(tmp_path / "with", CONFIG, {**files, "export/model.tflite": b"large"})
    assert tflite_of(tmp_path / "without") is None
    assert tflite_of(tmp_path / "with") == tmp_path / "with" / "export" / "model.tflite"
    assert tflite_of(tmp_path / "with" / "export" / "model_int8.tflite") is not None
    assert tflite_of(tmp_path / "with" / "config.json") is None
    (tmp_path / "with" / "export" / "model.tflite").write_bytes(b"other")
    with pytest.raises(BundleError, match="checksum"):
        tflite_of(tmp_path / "with")


# The files in the package are those that `make page` builds from the sources and the lock beside them.


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_built_files_are_those_of_the_lock_and_the_sources() -> None:
    built = json.loads((WEB / "built.json").read_text(encoding="utf-8"))
    locked = json.loads((SOURCES / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert built["packages"] == {
        name: locked[f"node_modules/{name}"]["integrity"] for name in built["packages"]
    }
    assert set(built["packages"]) == {"@litertjs/core", "@litertjs/wasm-utils"}
    assert built["files"] == {file.name: sha256(file) for file in WEB.iterdir() if file.name != "built.json"}
    assert built["sources"] == {file.name: sha256(file) for file in (SOURCES / "src").iterdir()}
    assert "resolved" not in (SOURCES / "package-lock.json").read_text(encoding="utf-8")


def test_the_package_is_of_modest_size_and_says_whose_it_is() -> None:
    assert sum(file.stat().st_size for file in WEB.iterdir()) < 10e6
    notice = (WEB / "NOTICE.txt").read_text(encoding="utf-8")
    assert "Google LLC" in notice and re.search(r"Apache License\s+Version 2\.0", notice)
    (engine,) = WEB.glob("*.wasm.gz")
    assert gzip.decompress(engine.read_bytes())[:4] == b"\0asm"
