"""`serve --statistics`: every answer is counted once, whatever route it took, and what is written is read back."""

import base64
import io
import json
from pathlib import Path

import pytest
from helpers.tiny_model import CONFIG, LABELS, MakeClient

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.prediction_counts import EDGES, bin_of, read_statistics


def coloured(make_photo) -> bytes:
    buffer = io.BytesIO()
    make_photo(3, (64, 80)).save(buffer, "PNG")
    return buffer.getvalue()


def test_answers_of_all_routes_are_counted(make_client: MakeClient, make_photo, tmp_path: Path) -> None:
    file, photo = tmp_path / "answers.json", coloured(make_photo)
    with make_client(statistics=file) as client:
        answer = client.post("/predict", files=[("a", photo), ("b", photo), ("c", b"no photo")]).json()
        body = {"instances": [{"b64": base64.b64encode(photo).decode()}]}
        assert client.post("/v1/models/trash:predict", json=body).status_code == 200
    found = read_statistics(file)
    first = answer["predictions"][0]
    assert found.photos == 3 and found.labels[first["label"]] == 3 and found.decisions[first["decision"]] == 3
    assert set(found.labels) == set(LABELS) and found.probability[bin_of(first["probability"])] == 3
    assert found.model == {"name": CONFIG.name, "created": CONFIG.created, "fingerprint": "abc"}


def test_file_is_there_from_the_start(make_client: MakeClient, tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    with make_client(statistics=file):
        assert read_statistics(file).photos == 0


@pytest.mark.parametrize("supervised", [{"workers": 2}, {"worker_mb": 100}])
def test_each_worker_writes_its_own(
    make_client: MakeClient, tmp_path: Path, supervised: dict[str, int]
) -> None:
    with make_client(statistics=tmp_path / "answers.json", **supervised):
        pass
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("answers-") and file.suffix == ".json"


def test_a_place_that_cannot_be_written_does_not_stop_the_gateway(
    make_client: MakeClient, make_photo, tmp_path: Path, caplog
) -> None:
    (tmp_path / "file").write_text("in the way")
    with make_client(statistics=tmp_path / "file" / "answers.json") as client:
        assert client.post("/predict", files=[("a", coloured(make_photo))]).status_code == 200
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(BundleError, match="holds no statistics"):
        read_statistics(file)


def test_counts_that_contradict_one_another_are_refused(make_client: MakeClient, tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    with make_client(statistics=file):
        pass
    values = json.loads(file.read_text())
    values["photos"] = 5
    file.write_text(json.dumps(values))
    with pytest.raises(BundleError, match="contradict"):
        read_statistics(file)


def test_bins_reach_from_0_to_1() -> None:
    assert bin_of(0.0) == bin_of(-1e-9) == 0 and bin_of(1.0) == bin_of(1.0000001) == len(EDGES) - 2
    assert bin_of(0.95) == EDGES.index(0.95)
