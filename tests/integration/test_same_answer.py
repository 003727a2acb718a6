"""The promise that everything here rests on: one photo, one answer, from whatever runs the model.

A network is trained on the sample and exported; thirty photos of the sample, and some that are rotated, transparent,
16 bits deep or in CMYK, are asked of each place that answers. All run the same float32 .tflite, or files of which the
export has shown that they agree with it within `FLOAT32_TOLERANCE`.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import patient
from helpers.commands import GUARD, command
from helpers.gateways import ranked, serving
from helpers.page_model import CHROMIUM, chromium
from PIL import Image

from image_classification_trash.export.parity import FLOAT32_TOLERANCE
from image_classification_trash.inference.bundle import read_bundle
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.runtimes import Probabilities
from image_classification_trash.serving import lambda_function

ROOT = Path(__file__).parents[2]
STAND_IN = Path(f"{sys.prefix}-stand-in/bin/python")
"""Where `make tools` puts KServe, beside this environment."""
pytestmark = pytest.mark.slow
Rows = list[dict[str, float]]


@pytest.fixture(scope="module")
def tflite(exported: Path) -> Path:
    return exported / "models/sample/export/model.tflite"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five photos of each class, then odd ones made of the first."""
    folder = tmp_path_factory.mktemp("photos")
    chosen = [p for c in sorted((ROOT / "data/sample/test").iterdir()) for p in sorted(c.iterdir())[:5]]
    image = Image.open(chosen[0])
    turned = Image.Exif()
    turned[274] = 6
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(folder / "turned.jpg", exif=turned)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    clear.save(folder / "clear.png")
    Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(folder / "deep.png")
    image.rotate(90, expand=True).save(folder / "tall.webp", lossless=True)
    return [*chosen, *sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def labels(exported: Path) -> tuple[str, ...]:
    return read_bundle(exported / "models/sample").config.labels


@pytest.fixture(scope="module")
def expected(tflite: Path, photos: list[Path]) -> Probabilities:
    """The .tflite in process: float32 (N, C)."""
    classifier = TrashClassifier.load(tflite)
    config = classifier.config
    return classifier.probabilities(
        np.stack([read_photo(p, config.input_size, config.resize_mode) for p in photos])
    )


@pytest.fixture(scope="module")
def gateway(tflite: Path) -> Iterator[str]:
    with serving(tflite) as (url, _):
        yield url


@pytest.fixture(scope="module")
def agrees(expected: Probabilities, labels: tuple[str, ...]) -> Callable[[object], None]:
    def check(answers: object) -> None:
        rows = [[a[label] for label in labels] if isinstance(a, dict) else a for a in answers]  # type: ignore[attr-defined]
        assert np.shape(rows) == expected.shape
        assert np.abs(np.asarray(rows) - expected).max() <= FLOAT32_TOLERANCE

    return check


def test_photos_get_different_answers(expected: Probabilities) -> None:
    """Else agreement would say nothing. The last column is that of no waste, and small on all of these."""
    assert len(set(expected.argmax(1))) >= 4 and expected[:, :-1].std(0).min() > 0.01


def test_command(exported: Path, tflite: Path, photos: list[Path], agrees: Callable[[object], None]) -> None:
    printed = command(exported, "predict", *map(str, photos), "--model", str(tflite), "--json").stdout
    agrees(list(map(ranked, json.loads(printed)["predictions"])))


@pytest.mark.parametrize("file", ["model.onnx", "torch"])
def test_other_engines(
    exported: Path, file: str, photos: list[Path], agrees: Callable[[object], None]
) -> None:
    model = ["models/sample", "--runtime", "torch"] if file == "torch" else [f"models/sample/export/{file}"]
    printed = command(exported, "predict", *map(str, photos), "--json", "--model", *model).stdout
    agrees(list(map(ranked, json.loads(printed)["predictions"])))


def test_gateway(gateway: str, photos: list[Path], agrees: Callable[[object], None]) -> None:
    agrees([asked(gateway, photo) for photo in photos])


def asked(url: str, photo: Path) -> dict[str, float]:
    answer = patient.post(f"{url}/predict", files={"photos": (photo.name, photo.read_bytes())})
    assert answer.status_code == 200, answer.text
    return ranked(answer.json()["predictions"][0])


def test_tensorflow_servings_dialect(
    gateway: str, photos: list[Path], agrees: Callable[[object], None]
) -> None:
    agrees([in_tensorflow_servings_dialect(gateway, photo) for photo in photos])


def in_tensorflow_servings_dialect(url: str, photo: Path) -> list[float]:
    body = {
        "signature_name": "serving_bytes",
        "instances": [{"b64": base64.b64encode(photo.read_bytes()).decode()}],
    }
    answer = patient.post(f"{url}/v1/models/trash:predict", json=body).json()
    return list(answer["predictions"][0])


def test_open_inference_protocol(gateway: str, photos: list[Path], agrees: Callable[[object], None]) -> None:
    agrees([by_open_inference(gateway, photo) for photo in photos])


def by_open_inference(url: str, photo: Path) -> list[float]:
    data = [base64.b64encode(photo.read_bytes()).decode()]
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": data}
    answer = patient.post(f"{url}/v2/models/trash/infer", json={"inputs": [tensor]}).json()
    return list(answer["outputs"][0]["data"])


def test_gateway_before_a_model_server(
    exported: Path, gateway: str, photos: list[Path], agrees: Callable[[object], None]
) -> None:
    before = ["--runtime", "tf-serving", "--backend-url", gateway]
    with serving(exported / "models/sample", *before) as (front, _):
        agrees([asked(front, photo) for photo in photos])


@pytest.fixture(scope="module")
def model_server(tflite: Path) -> Iterator[str]:
    """KServe's server, in its own environment: not ours, and it speaks TensorFlow Serving's REST format."""
    if not STAND_IN.exists():
        pytest.skip(f"{STAND_IN} is not there: make tools")
    line = [STAND_IN, ROOT / "scripts/model_stand_in.py", tflite, "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()


def test_gateway_before_kserve(
    exported: Path, model_server: str, photos: list[Path], agrees: Callable[[object], None]
) -> None:
    before = ["--runtime", "tf-serving", "--backend-url", model_server]
    with serving(exported / "models/sample", *before) as (front, _):
        agrees([asked(front, photo) for photo in photos])


def test_kserves_error_is_passed_on(exported: Path, model_server: str, photos: list[Path]) -> None:
    before = ["--runtime", "tf-serving", "--backend-url", model_server, "--backend-model", "other"]
    with serving(exported / "models/sample", *before, ready=False) as (front, _):
        answer = patient.post(f"{front}/predict", files={"photos": photos[0].read_bytes()})
        assert answer.status_code == 502 and "status 404" in answer.json()["error"]["message"]


class Context:
    """What Lambda hands over."""

    def get_remaining_time_in_millis(self) -> int:
        return 10_000


def test_lambda(
    tflite: Path, photos: list[Path], agrees: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRASH_LAMBDA_MODEL", str(tflite))
    lambda_function.classifier.cache_clear()
    events = [{"image": base64.b64encode(photo.read_bytes()).decode()} for photo in photos]
    agrees([ranked(lambda_function.handler(event, Context())["predictions"][0]) for event in events])
    lambda_function.classifier.cache_clear()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("place", ["server", "device"])
def test_page(gateway: str, photos: list[Path], agrees: Callable[[object], None], place: str) -> None:
    pytest.importorskip("playwright", reason="the Python package playwright is not installed")
    from helpers.pages import answers, choose_device, opened

    with chromium() as browser, opened(browser, gateway) as (page, _):
        if place == "device":
            choose_device(page)
        page.set_input_files("#files", photos)
        found = answers(page, len(photos))
    agrees([found[photo.name] for photo in photos])


def test_saved_model(exported: Path, photos: list[Path], agrees: Callable[[object], None]) -> None:
    """The signature that a model server runs, fed with the bitmaps that the gateway sends it."""
    program = """
import json, sys
from pathlib import Path
from image_classification_trash.inference.bundle import read_bundle
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.tf_serving import bitmap
from image_classification_trash.export.to_tensorflow import SavedModelRuntime
config = read_bundle("models/sample").config
photos = [bitmap(read_photo(path, config.input_size, config.resize_mode)) for path in sys.argv[1:]]
print(json.dumps(SavedModelRuntime(Path("models/sample/export/saved_model/1")).run_bytes(photos).tolist()))
"""
    line = [sys.executable, "-c", program, *map(str, photos)]
    done = subprocess.run(line, cwd=exported, capture_output=True, text=True, timeout=GUARD, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    agrees(json.loads(done.stdout))
