"""From Python, a classifier takes what the command line takes, and what Python programs hold: one photo or many."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.gateways import CONFIG, write_onnx
from PIL import Image

from image_classification_trash import BundleError, PhotoError, Prediction, TrashClassifier
from image_classification_trash.inference.bundle import WEIGHTS, read_bundle, write_bundle
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.model_store import (
    PRODUCTION,
    REGISTRY,
    Registry,
    Version,
    content_of,
    registry_json,
)
from image_classification_trash.inference.shipped import MODEL, shipped_model

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "data" / "sample" / "test").glob("*/*.jpg"))[:3]
ODD_NAMES = [
    "a\0b.jpg",
    "a\0b/*.jpg",
    "\ud800.jpg",
    "caf\udce9.jpg",
    "caf\udce9*.jpg",
    "x" * 5000,
    "",
    "http://a\0b/",
    "http://\ud800/\udcff",
    "https://",
]


@pytest.fixture(scope="module")
def classifier() -> TrashClassifier:
    return TrashClassifier.load("shipped")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos, one of them in a subfolder, and a file that is none."""
    (tmp_path / "more").mkdir()
    (tmp_path / "notes.txt").write_text("no photo")
    for photo, name in zip(SAMPLES, ("a.jpg", "b.JPG", "more/c.jpg"), strict=True):
        shutil.copy(photo, tmp_path / name)
    return tmp_path


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class AsPath:
    """A path of another library."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


ONE_PHOTO: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "Path": Path,
    "PathLike": AsPath,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "PIL image": Image.open,
}


@pytest.mark.parametrize("form", ONE_PHOTO)
def test_one_photo_of_any_form_gives_the_same_answer(classifier: TrashClassifier, form: str) -> None:
    expected = classifier.predict([SAMPLES[0]])[0]
    answer = classifier.predict(ONE_PHOTO[form](SAMPLES[0]))
    assert isinstance(answer, Prediction) and answer.error is None
    assert answer.probabilities == expected.probabilities


def test_pixels_are_answered_as_the_image_that_they_are_of(classifier: TrashClassifier) -> None:
    image = Image.open(SAMPLES[0])
    image.load()
    pixels = np.asarray(image)
    expected = classifier.predict(Image.fromarray(pixels))
    answer = classifier.predict(pixels)
    assert isinstance(answer, Prediction) and answer.probabilities == expected.probabilities
    flipped = classifier.predict(pixels[:, ::-1])  # not contiguous
    assert flipped.error is None


def test_a_batch_of_pixels_gives_a_list(classifier: TrashClassifier) -> None:
    batch = np.stack([read_photo(path, (96, 128)) for path in SAMPLES])
    answers = classifier.predict(batch)
    assert [a.probabilities for a in answers] == [classifier.predict(p).probabilities for p in batch]
    assert [a.path for a in answers] == ["photo 1", "photo 2", "photo 3"]
    assert classifier.predict(batch[:0]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((32, 32, 3), np.float32),
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((3, 32, 32), np.uint8),
        np.zeros((0, 32, 3), np.uint8),
        np.zeros((2, 2, 32, 32, 3), np.uint8),
        np.array(3),
        None,
        5,
        object(),
    ],
    ids=lambda wrong: f"{getattr(wrong, 'dtype', '')}{getattr(wrong, 'shape', type(wrong).__name__)}",
)
def test_what_cannot_be_a_photo_is_refused_with_what_is_wanted(
    classifier: TrashClassifier, wrong: Any
) -> None:
    with pytest.raises(PhotoError, match=r"\(H, W, 3\)"):
        classifier.predict(wrong)
    good, bad = classifier.predict([SAMPLES[0], wrong])
    assert good.error is None and "(H, W, 3)" in (bad.error or "")
    with pytest.raises(PhotoError, match=r"\(H, W, 3\)"):
        read_photo(wrong)


def test_a_batch_of_another_dtype_is_refused(classifier: TrashClassifier) -> None:
    with pytest.raises(PhotoError, match=r"uint8 \(H, W, 3\), RGB, not float64"):
        classifier.predict(np.zeros((2, 32, 32, 3)))


def test_arrays_of_other_libraries_are_refused_not_taken_apart(classifier: TrashClassifier) -> None:
    class Tensor(list[int]):
        ndim = 3

        def __array__(self) -> Any:
            return np.zeros((32, 32, 3), np.uint8)

    with pytest.raises(PhotoError, match=r"type Tensor.*\(H, W, 3\)"):
        classifier.predict(Tensor(range(32)))  # type: ignore[call-overload]


def test_a_folder_a_glob_and_an_iterable_give_lists(classifier: TrashClassifier, folder: Path) -> None:
    photos = [str(folder / name) for name in ("a.jpg", "b.JPG", "more/c.jpg")]
    for many in (
        folder,
        str(folder),
        f"{folder}/**/*.*",
        photos,
        tuple(photos),
        iter(photos),
        np.array(photos),
    ):
        answers = classifier.predict(many)
        assert isinstance(answers, list) and [answer.path for answer in answers] == photos
        assert all(answer.error is None for answer in answers)
    (only,) = classifier.predict(str(folder / "a*"))
    assert only.path == photos[0]
    batch = np.zeros((2, 32, 32, 3), np.uint8)
    mixed = classifier.predict([folder / "more", Path(photos[0]).read_bytes(), batch, f"{folder}/*.jpg"])
    assert [answer.path for answer in mixed] == [photos[2], "photo 2", "photo 3", "photo 4", photos[0]]


def test_a_subfolder_that_cannot_be_read_gives_an_error_of_its_own(
    classifier: TrashClassifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "more":
            raise PermissionError(13, os.strerror(13), path)
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        answers = classifier.predict(folder)
    assert [Path(str(answer.path)).name for answer in answers] == ["a.jpg", "b.JPG", "more"]
    assert [answer.error is None for answer in answers] == [True, True, False]


def test_a_name_with_the_signs_of_a_glob_is_a_photo_if_it_is_there(
    classifier: TrashClassifier, folder: Path
) -> None:
    (folder / "a.jpg").rename(folder / "a[1].jpg")
    answer = classifier.predict(str(folder / "a[1].jpg"))
    assert isinstance(answer, Prediction) and answer.error is None


def test_a_folder_or_glob_without_photos_is_said_so(classifier: TrashClassifier, tmp_path: Path) -> None:
    for empty in (tmp_path, f"{tmp_path}/*.jpg"):
        with pytest.raises(PhotoError, match="holds no photos"):
            classifier.predict(empty)
        (answer,) = classifier.predict([empty])
        assert answer.path == str(empty) and answer.error
    assert classifier.predict([]) == []


def test_addresses_are_fetched(classifier: TrashClassifier, address: str) -> None:
    answer = classifier.predict(f"{address}/a.jpg")
    assert answer.path == f"{address}/a.jpg"
    assert answer.probabilities == classifier.predict(SAMPLES[0]).probabilities
    missing, good = classifier.stream([f"{address}/none.jpg", f"{address}/a.jpg"])
    assert "could not be fetched" in (missing.error or "") and good.error is None


def test_open_files_are_read_before_their_owner_closes_them(classifier: TrashClassifier) -> None:
    def opened() -> Iterator[Any]:
        for path in SAMPLES * 10:
            with path.open("rb") as file:
                yield file

    answers = list(classifier.stream(opened(), batch_size=4))
    assert [answer.path for answer in answers] == [str(path) for path in SAMPLES * 10]
    assert all(answer.error is None for answer in answers)


def test_a_file_is_read_from_its_start_as_often_as_it_is_given(classifier: TrashClassifier) -> None:
    buffer = io.BytesIO()
    Image.open(SAMPLES[0]).save(buffer, "PNG")  # stands at its end now
    assert [classifier.predict(buffer).error for _ in range(2)] == [None, None]
    with SAMPLES[0].open("rb") as pipe:  # a stream that cannot seek
        reader, writer = os.pipe()
        threading.Thread(target=lambda: (os.write(writer, pipe.read()[:60_000]), os.close(writer))).start()
        with os.fdopen(reader, "rb") as file:
            assert classifier.predict(file).path == "photo 1"


def test_files_that_cannot_be_read_are_answers_with_an_error(
    classifier: TrashClassifier, tmp_path: Path
) -> None:
    closed = io.BytesIO(b"photo")
    closed.close()
    assert "closed" in (classifier.predict(closed).error or "")
    with SAMPLES[0].open(encoding="latin-1") as text:
        assert "not bytes" in (classifier.predict(text).error or "")  # type: ignore[call-overload]
    with (tmp_path / "out.jpg").open("wb") as sink:
        assert "cannot be read" in (classifier.predict(sink).error or "")


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_no_name_raises_anything_but_a_photo_error(classifier: TrashClassifier, name: str) -> None:
    with pytest.raises(PhotoError) as raised:
        read_photo(name)
    str(raised.value).encode()  # can be printed
    for answer in (classifier.predict([name])[0], next(classifier.stream([name]))):
        assert answer.path == name and answer.error
        answer.error.encode()
    if "*" in name and "\0" not in name:
        with pytest.raises(PhotoError, match="holds no photos"):
            classifier.predict(name)
    else:
        assert classifier.predict(name) == Prediction(name, error=answer.error, error_code=answer.error_code)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_a_photo_whose_name_is_not_utf8_is_read(classifier: TrashClassifier, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    shutil.copy(SAMPLES[0], name)
    assert classifier.predict(name).error is None
    assert [answer.path for answer in classifier.predict(tmp_path)] == [name]


def test_calling_is_predicting(classifier: TrashClassifier) -> None:
    assert classifier(SAMPLES[0]) == classifier.predict(SAMPLES[0])
    assert classifier(SAMPLES, top_k=1) == classifier.predict(SAMPLES, top_k=1)


def test_it_says_what_it_is(classifier: TrashClassifier) -> None:
    config = classifier.config
    said = repr(classifier)
    assert said.startswith("TrashClassifier(") and "engine='litert'" in said
    assert (
        repr(config.name) in said and repr(config.architecture) in said and str(list(config.classes)) in said
    )


def test_shipped_is_the_model_of_the_package(tmp_path: Path) -> None:
    by_name, default = TrashClassifier.load("shipped", models_dir=tmp_path), TrashClassifier.load()
    assert by_name.config == default.config
    shutil.copy(shipped_model(), tmp_path / MODEL)
    assert TrashClassifier.load(tmp_path / MODEL).config == default.config


def test_names_versions_and_aliases_are_those_of_the_command_line(tmp_path: Path) -> None:
    exported = write_onnx(tmp_path / "model.onnx", CONFIG).read_bytes()
    write_bundle(tmp_path / "mine", CONFIG, {WEIGHTS: b"", "export/model.onnx": exported})
    shutil.copytree(tmp_path / "mine", tmp_path / ".versions" / "mine" / "1")
    version = Version("mine", 1, content_of(read_bundle(tmp_path / "mine")), "2026-01-01T00:00:00+00:00")
    registry = Registry(tmp_path, (version,), ((PRODUCTION, ("mine@1",)),))
    (tmp_path / REGISTRY).write_text(json.dumps(registry_json(registry)))
    for name in ("mine", "mine@1", "mine@latest", "production", str(tmp_path / "mine")):
        assert TrashClassifier.load(name, models_dir=tmp_path).config == CONFIG
    assert TrashClassifier.load("shipped", models_dir=tmp_path).config != CONFIG


@pytest.mark.parametrize("name", ["production", "nope", "nope@2", "a\0b"])
def test_a_name_of_no_model_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no model"):
        TrashClassifier.load(name, models_dir=tmp_path)


def test_type_checkers_see_one_answer_for_one_photo_and_a_list_for_many(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from image_classification_trash import BundleError, PhotoError, Prediction, TrashClassifier\n"
        "classifier: TrashClassifier = TrashClassifier.load('production', models_dir='models')\n"
        "one: Prediction = classifier.predict('a.jpg')\n"
        "many: list[Prediction] = classifier.predict(['a.jpg', Path('b.jpg'), b'photo'])\n"
        "print(classifier(Path('a.jpg')).label, [p.label for p in classifier(['folder'])])\n"
        "reveal_type(classifier.predict(b'photo'))\n"
        "reveal_type(classifier.predict(Path('photos').iterdir()))\n"
    )
    line = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--follow-imports=silent",  # as for an installed package, whose own lines are not reported
        f"--cache-dir={tmp_path}",
        str(script),
    ]
    environment = {**os.environ, "MYPYPATH": ""}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    revealed = [said.partition('"')[2].rstrip('"') for said in done.stdout.splitlines() if "Revealed" in said]
    name = "image_classification_trash.inference.classifier.Prediction"
    assert done.returncode == 0, done.stdout + done.stderr
    assert [said.removeprefix("builtins.") for said in revealed] == [name, f"list[{name}]"]
