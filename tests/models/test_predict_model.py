"""Predictions through the command's own functions: the limit of pixels reaches every photo, files and URLs alike."""

import csv
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.photos import encoded, picture

from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.models import PredictSettings
from image_classification_trash.errors import SettingsError
from image_classification_trash.models.predict_model import Predictions, predict, predict_to_file

PIXELS = 48 * 64


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(picture(0, (48, 64))))
    return path


@pytest.fixture
def url(photo: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(photo.read_bytes())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/photo.jpg"
        server.shutdown()


def predictions(*arguments: str) -> Predictions:
    return predict(load_settings(PredictSettings, list(arguments)))


def test_files_and_urls_are_answered_in_order(photo: Path, url: str) -> None:
    names = [str(photo), url, url, str(photo)]
    found = predictions(*names)
    answers = list(found.stream())
    assert [answer.path for answer in answers] == names
    assert found.unreadable == 0 and len({answer.label for answer in answers}) == 1
    assert [answer.path for answer in found.stream(3)] == names[3:]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_does_not_stand_between_answers_in_a_terminal(
    terminal: bool, photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    text = "".join(predictions(str(photo), str(photo)).json_text())
    assert len(json.loads(text)["predictions"]) == 2
    assert ("classify" in capsys.readouterr().err) is not terminal


def test_a_url_that_fails_is_one_row_among_the_others(photo: Path, url: str) -> None:
    missing = "http://127.0.0.1:9/none.jpg"
    found = predictions(str(photo), missing, url, "--batch-size", "2")
    answers = list(found.stream())
    assert [answer.path for answer in answers] == [str(photo), missing, url]
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert "could not be fetched" in (answers[1].error or "") and found.unreadable == 1


def test_max_pixels_limits_files_and_urls(photo: Path, url: str) -> None:
    for name in (str(photo), url):
        (answer,) = predictions(name, "--max-pixels", str(PIXELS)).stream()
        assert answer.error is None
        (answer,) = predictions(name, "--max-pixels", str(PIXELS - 1)).stream()
        assert answer.error is not None and "48 x 64 pixels" in answer.error.replace("64 x 48", "48 x 64")


def test_a_run_is_not_resumed_with_another_limit(photo: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    missing = str(tmp_path / "missing.jpg")

    def settings(*more: str) -> PredictSettings:
        return load_settings(PredictSettings, [str(photo), missing, "--csv", str(table), *more])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictions, "stream", stopped)
        with pytest.raises(KeyboardInterrupt):
            predict_to_file(settings())
    with pytest.raises(SettingsError, match="max_pixels default -> 1000"):
        predict_to_file(settings("--resume", "--max-pixels", "1000"))
    assert predict_to_file(settings("--resume")).unreadable == 1


def test_other_photos_are_refused_and_more_are_answered(photo: Path, tmp_path: Path) -> None:
    table, other = tmp_path / "table.csv", tmp_path / "other.jpg"
    other.write_bytes(photo.read_bytes())

    def settings(*photos: Path) -> PredictSettings:
        return load_settings(PredictSettings, [*map(str, photos), "--csv", str(table), "--resume"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictions, "stream", stopped)
        with pytest.raises(KeyboardInterrupt):
            predict_to_file(settings(photo, photo))
    with pytest.raises(SettingsError, match=f"photo 1 {photo} -> {other}"):
        predict_to_file(settings(other, photo))
    assert predict_to_file(settings(photo, other, photo)).photos == 3
    with table.open(encoding="utf-8", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == list(map(str, (photo, other, photo)))


STREAM = Predictions.stream


def stopped(self: Predictions, start: int = 0) -> Iterator[object]:
    yield next(STREAM(self, start))
    raise KeyboardInterrupt
