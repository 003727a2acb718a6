"""The script that sends a list of links through a gateway, as a process; the photos lie on a server on loopback."""

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from helpers.commands import GUARD
from helpers.gateways import photos
from helpers.patient import PATIENCE

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.runtimes import Probabilities
from image_classification_trash.serving.http.gateway import create_app
from image_classification_trash.serving.safe_fetch import FetchRules

ROOT = Path(__file__).parents[2]
CONFIG = BundleConfig(
    name="tiny", architecture="mean_colour", labels=("a", "b", "c"), input_height=8, input_width=8, resize_mode="stretch",
    temperature=1.0, threshold=0.0, data={}, training={}, git_commit="0", versions={}, created="now",
)  # fmt: skip


@pytest.fixture
def photo_server(tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    (tmp_path / "good.jpg").write_bytes(photos(1)[0])
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def mean_colour(photos: Pixels) -> Probabilities:
    """uint8 (B, H, W, 3) to float32 (B, 3)."""
    means = photos.mean((1, 2), dtype=np.float32) + 1
    return means / means.sum(1, keepdims=True)


@contextmanager
def gateway(port: int) -> Iterator[str]:
    """A gateway that may fetch from loopback, from this port alone."""
    rules = FetchRules(max_bytes=10**6, seconds=PATIENCE, allowed_ports=(port,), may_connect=lambda _: True)
    classifier = TrashClassifier(CONFIG, mean_colour)
    app = create_app(ServeSettings(model_seconds=PATIENCE, isolation=False), classifier, rules)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def send(links: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "scripts/send_urls.py"), str(links), "--gateway", url, *more]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=GUARD)


def test_good_and_bad_links(photo_server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    port = photo_server.server_port
    links = tmp_path / "links.txt"
    places = [f"http://127.0.0.1:{port}/{name}.jpg" for name in ("good", "bad", "missing")]
    links.write_text("# a comment\n\n" + "\n".join([*places, "http://127.0.0.1:1/"]) + "\n")
    with gateway(port) as url:
        table = send(links, url)
        answers = json.loads(send(links, url, "--json").stdout)
        none = tmp_path / "none.txt"
        none.write_text(places[1])
        assert send(none, url).returncode == 1
    assert table.returncode == 0 and len(table.stdout.splitlines()) == 4
    assert [answer["error"] is None for answer in answers] == [True, False, False, False]
    assert "not a picture" in answers[1]["error"] and "404" in answers[2]["error"]


def test_a_missing_list_and_a_missing_gateway(tmp_path: Path) -> None:
    assert send(tmp_path / "missing.txt", "http://127.0.0.1:1").returncode == 2
    links = tmp_path / "links.txt"
    links.write_text("https://example.org/a.jpg\n")
    done = send(links, "http://127.0.0.1:1")
    assert done.returncode == 1 and "no answer" in done.stdout


def test_the_list_that_comes_along_holds_links() -> None:
    lines = (ROOT / "references/list_urls_trash.txt").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("https://") for line in lines) >= 5
