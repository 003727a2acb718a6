"""What images, wheels and releases are made from: locks with hashes, base images with digests, and the order of a release."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.commands import GUARD

ROOT = Path(__file__).parents[1]
CHECK, PIN = ROOT / "scripts/check_supply_chain.py", ROOT / "scripts/pin_images.py"
RELEASE = ROOT / ".github/workflows/release.yml"
BUILD = Path(f"{sys.prefix}-build")
"""What `make tools` makes beside this environment."""


def run(*line: object, **options: Any) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, *map(str, line)]
    return subprocess.run(done, capture_output=True, text=True, check=False, timeout=GUARD, **options)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that the checks read."""
    for name in ("deploy", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".github").mkdir()
    for name in ("pyproject.toml", "requirements.txt", ".github/release-requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_hashes_versions_and_base_images_are_in_order() -> None:
    done = run(CHECK)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("deploy/gateway-requirements.txt", "--hash=sha256:", "--hash=md5:", "no exact version with SHA-256 hashes"),
        ("deploy/gateway-requirements.txt", r"^h11==\S+", "h11==0.9.0", "h11 0.9.0 is not in requirements.txt"),
        ("deploy/gateway-requirements.txt", r"^(fastapi)==", r"\1-other==", "fastapi is missing"),
        ("deploy/serverless-requirements.txt", r"^(h11==\S+) \\\n( +--hash\S+( \\)?\n)+", r"\1\n", "h11==0.16.0 has no exact"),
        ("deploy/build-requirements.txt", r"^(hatchling)==", r"\1-other==", "hatchling is missing"),
        ("deploy/image-gateway.dockerfile", "--require-hashes -r gateway", "-r gateway", "without --require-hashes"),
        ("deploy/make_lambda_package.sh", "--require-hashes", "", "without --require-hashes"),
        ("deploy/image-stand-in.dockerfile", "python:3.13-slim", "python:latest", "another image every day"),
        ("deploy/image-stand-in.dockerfile", "docker.io/library/python:3.13-slim", "python", "is not REGISTRY"),
    ],
)  # fmt: skip
def test_what_is_out_of_order_is_named(copy: Path, file: str, old: str, new: str, said: str) -> None:
    text = (copy / file).read_text()
    changed = re.sub(old, new, text, flags=re.MULTILINE)
    assert changed != text
    (copy / file).write_text(changed)
    done = run(CHECK, "--root", copy)
    assert done.returncode == 1 and said in done.stderr and file in done.stderr


class Registry(BaseHTTPRequestHandler):
    """A registry that asks for a token, as Docker's and AWS's do."""

    manifest = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    stated = f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def do_GET(self) -> None:
        host = self.headers["Host"]
        if self.path.startswith("/token?"):
            assert "scope=repository" in self.path and "service=registry" in self.path
            return self.answer(200, json.dumps({"token": "for-anybody"}).encode())
        if self.headers.get("Authorization") != "Bearer for-anybody":
            challenge = f'Bearer realm="http://{host}/token",service="registry",scope="repository:x:pull"'
            return self.answer(401, b"{}", {"WWW-Authenticate": challenge})
        if self.path.endswith(":gone") or "/manifests/gone" in self.path:
            return self.answer(404, b"{}")
        assert "oci.image.index" in self.headers["Accept"]
        return self.answer(200, self.manifest, {"Docker-Content-Digest": type(self).stated})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A registry on loopback; the words that name it instead of the real ones."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield ["--mirror", f"docker.io={url}", "--mirror", f"public.ecr.aws={url}"]
        server.shutdown()


def dockerfiles(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "deploy").glob("*.dockerfile"))}


def test_a_release_refuses_tags_until_the_registries_have_been_asked(copy: Path, registry: list[str]) -> None:
    before = dockerfiles(copy)
    refused = run(CHECK, "--release", "--root", copy)
    for name in before:
        assert f"{name}: " in refused.stderr and "has no digest" in refused.stderr and refused.returncode == 1
    done = run(copy / "scripts/pin_images.py", *registry)
    assert done.returncode == 0, done.stderr
    for name, text in dockerfiles(copy).items():
        assert text.replace(f"@{Registry.stated}", "") == before[name]
        images = re.findall(r"^FROM (\S+[/.]\S+)", text, re.MULTILINE)
        assert images and all(image.endswith(f"@{Registry.stated}") for image in images)
    assert run(CHECK, "--release", "--root", copy).returncode == 0
    again = run(copy / "scripts/pin_images.py", *registry)
    assert "as before" in again.stdout and again.returncode == 0


def test_nothing_is_written_that_was_not_read(
    copy: Path, registry: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dockerfiles(copy)
    script = copy / "scripts/pin_images.py"
    away = run(script, *registry[:2], "--mirror", "public.ecr.aws=http://127.0.0.1:9")
    assert away.returncode == 1 and "public.ecr.aws/lambda/python:3.13" in away.stderr
    assert "Nothing was written" in away.stderr and dockerfiles(copy) == before
    monkeypatch.setattr(Registry, "stated", f"sha256:{'0' * 64}")
    other = run(script, *registry)
    assert other.returncode == 1 and "its manifest has" in other.stderr and dockerfiles(copy) == before
    file = copy / "deploy/image-model.dockerfile"
    file.write_text(before[file.name].replace(":2.19.1", ":gone"))
    gone = run(script, file, *registry)
    assert gone.returncode == 1 and "404" in gone.stderr and "@sha256" not in file.read_text()


def test_a_release_publishes_after_its_tests_and_moves_latest_last() -> None:
    workflow = yaml.safe_load(RELEASE.read_text(encoding="utf-8"))
    jobs: dict[str, dict[str, Any]] = workflow["jobs"]

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*map(before, direct))

    publishing = {
        name
        for name, job in jobs.items()
        if re.search(r"--push|pypi-publish|release create|imagetools", str(job))
    }
    assert publishing == {"image", "publish", "github", "latest"}
    assert all({"pinned", "tests", "build"} <= before(name) for name in publishing)
    assert jobs["tests"]["uses"] == "./.github/workflows/ci.yml"
    assert "check_supply_chain.py --release" in str(jobs["pinned"])
    assert before("latest") == jobs.keys() - {"latest"}
    assert [name for name, job in jobs.items() if ":latest" in str(job)] == ["latest"]
    built, pushed = [step["run"] for step in jobs["image"]["steps"] if "run" in step]
    assert built.index("--load") < built.index("smoke_image.py") and "--push" not in built
    assert pushed.index("--push") < pushed.index('smoke_image.py "$name@$digest"')
    for name in ("build", "image"):
        actions = [step.get("uses", "").partition("@")[0] for step in jobs[name]["steps"]]
        assert (
            "actions/attest-build-provenance" in actions
            and jobs[name]["permissions"]["attestations"] == "write"
        )


class Gateway(BaseHTTPRequestHandler):
    """A gateway in a container that only the test's docker knows."""

    status = 400

    def do_GET(self) -> None:
        self.answer(200, {"status": "ready"})

    def do_POST(self) -> None:
        photo = self.rfile.read(int(self.headers["Content-Length"]))
        if photo == b"no photo":
            self.answer(type(self).status, {"error": {"code": "not_a_photo"}})
        else:
            self.answer(200, {"predictions": [{"decision": "glass", "probability": 0.9}]})

    def answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.mark.parametrize("status", [400, 500])
def test_the_smoke_test_of_an_image(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for docker, which writes down what it is asked for."""
    monkeypatch.setattr(Gateway, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        docker = tmp_path / "docker"
        docker.write_text(
            f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n'
            f"case $1 in run) echo box;; port) echo 127.0.0.1:{server.server_address[1]};; esac\n"
        )
        docker.chmod(0o755)
        done = run(ROOT / "deploy/smoke_image.py", "image:1", env=os.environ | {"DOCKER": str(docker)})
        server.shutdown()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "--read-only" in asked[0] and "--cap-drop ALL" in asked[0] and asked[0].endswith("image:1")
    assert asked[-1] == "rm --force box"
    if status == 400:
        assert done.returncode == 0 and "glass, 90.0%" in done.stdout
    else:
        assert done.returncode == 1 and "did not refuse" in done.stderr and "logs box" in asked


@pytest.mark.slow
@pytest.mark.skipif(not BUILD.exists(), reason=f"{BUILD.name} is not there: make tools")
def test_the_wheel_installs_by_hashes_and_says_what_it_consists_of(tmp_path: Path) -> None:
    line = ["-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT]
    subprocess.run([BUILD / "bin/python", *line], check=True, timeout=GUARD, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 25_000_000
    with zipfile.ZipFile(wheel) as packed:
        models = {name for name in packed.namelist() if name.endswith(".tflite")}
    assert models == {
        f"image_classification_trash/{name}/model.tflite" for name in ("shipped", "shipped_large")
    }
    environment = os.environ | {"SBOM": str(BUILD / "bin/cyclonedx-py"), "PYTHON": sys.executable}
    environment.pop("PYTHONPATH", None)
    line = [ROOT / "scripts/try_wheel.sh", wheel, tmp_path / "sbom.json"]
    subprocess.run(line, env=environment, check=True, timeout=GUARD)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (
        bill["bomFormat"] == "CycloneDX"
        and bill["metadata"]["component"]["name"] == "image-classification-trash"
    )
    names = {component["name"].lower() for component in bill["components"]}
    assert {"pillow", "fastapi", "onnxruntime", "ai-edge-litert"} <= names and "torch" not in names
