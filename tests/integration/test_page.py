"""The page in a real browser: by mouse, keyboard and camera, asking the server or running the model itself.

Needs Debian's Chromium and the Python package playwright.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import patient
from helpers.gateways import serving
from helpers.page_model import CHROMIUM, LABELS, chromium, encoded, sample_photos, write_tflite
from helpers.pages import LOADED, WAIT, answers, choose_device, opened
from PIL import Image

from image_classification_trash.inference.images import RESIZE_MODES, Pixels, ResizeMode, read_photo

pytest.importorskip("playwright", reason="the Python package playwright is not installed")
from playwright.sync_api import Browser, Page, expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]
PHOTOS = sample_photos(30)
TOLERANCE = 1e-4
"""Largest difference of a probability between page and server that docs/reference/serving.md promises for photos of a camera."""
File = dict[str, Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(write_tflite(tmp_path_factory.mktemp("model") / "model.tflite")) as (url, _):
        yield url


def asked(requests: Sequence[Any]) -> int:
    """How many photos went to the server: only POST can carry one."""
    return sum(request.method != "GET" for request in requests)


def of_server(url: str, name: str, data: bytes) -> dict[str, float]:
    (prediction,) = patient.post(f"{url}/predict", files={"photos": (name, data)}).json()["predictions"]
    return {entry["label"]: entry["probability"] for entry in prediction["probabilities"]}


def largest_difference(one: dict[str, float], other: dict[str, float]) -> float:
    assert one.keys() == other.keys() == set(LABELS)
    return max(abs(one[label] - other[label]) for label in LABELS)


def test_several_photos_to_the_server(browser: Browser, gateway: str) -> None:
    with opened(browser, gateway) as (page, requests):
        page.set_input_files("#files", PHOTOS[:4])
        found = answers(page, 4)
        assert asked(requests) == 4
        expect(page.locator("#status")).to_have_text("4 answers")
        for file in PHOTOS[:4]:
            assert (
                largest_difference(found[file.name], of_server(gateway, file.name, file.read_bytes())) < 1e-6
            )


def test_the_page_asks_for_an_api_key_where_the_gateway_does(browser: Browser, tmp_path: Path) -> None:
    keys, right = tmp_path / "keys.txt", "right-key-0123456789"
    keys.write_text(right)
    model = write_tflite(tmp_path / "model.tflite")
    with serving(model, "--api-keys-file", str(keys)) as (url, _), opened(browser, url, 4) as (page, _):
        form = page.locator("#key-form")
        expect(form).to_be_hidden()
        page.set_input_files("#files", PHOTOS[:2])  # both are refused, and wait
        for key, note in (("wrong-key-0123456789", "not accepted"), (right, "kept")):
            expect(form).to_be_visible()
            page.get_by_label("This server asks for an API key").fill(key)
            page.get_by_role("button", name="Use this key").click()
            if key != right:
                expect(page.locator("#key-note")).to_contain_text(note)
        assert len(answers(page, 2)) == 2
        expect(form).to_be_hidden()
        page.reload()
        choose_device(page)  # the model comes with the key that the tab keeps
        page.evaluate("sessionStorage.clear()")
        page.reload()
        page.get_by_label("On this device").check()
        page.set_input_files("#files", PHOTOS[:1])
        expect(form).to_be_visible()
        page.get_by_label("This server asks for an API key").fill(right)
        page.get_by_role("button", name="Use this key").click()
        assert len(answers(page, 1)) == 1
        expect(page.locator("#engine")).to_contain_text(LOADED)


def test_the_page_itself_gives_the_servers_answers(browser: Browser, gateway: str) -> None:
    """30 photos, none of which leaves; the top classes differ, so that equality means something."""
    with opened(browser, gateway) as (page, requests):
        choose_device(page)
        before = len(requests)
        page.set_input_files("#files", PHOTOS)
        found = answers(page, len(PHOTOS))
        assert {request.url.split(":")[0] for request in requests[before:]} == {"blob"}
    expected = {file.name: of_server(gateway, file.name, file.read_bytes()) for file in PHOTOS}
    assert len({max(row, key=row.__getitem__) for row in expected.values()}) > 1
    worst = max(largest_difference(found[name], expected[name]) for name in expected)
    assert worst < TOLERANCE


def odd_photos() -> list[File]:
    """What decoding must get right: sides turned, transparency, palettes, grey, and what JPEG's draft mode halves."""
    rng = np.random.default_rng(7)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    large = np.asarray(coarse.resize((1203, 901), Image.Resampling.BICUBIC))
    alpha = np.asarray(coarse.resize((300, 200)).convert("L"))
    see_through = np.dstack([np.asarray(coarse.resize((300, 200))), alpha])
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "turned.jpg": encoded(large[:200, :300], "JPEG", exif=exif),
        "turned-large.jpg": encoded(large[:896, :1200], "JPEG", exif=exif, quality=92),
        "large.jpg": encoded(large, "JPEG", quality=92),
        "grey.jpg": encoded(large[:300, :400], "JPEG", "L"),
        "clear.png": encoded(see_through, "PNG"),
        "palette.png": encoded(large[:300, :400], "PNG", "P"),
        "large.png": encoded(large, "PNG"),
        "plain.webp": encoded(large[:300, :400], "WEBP", lossless=True),
        "plain.gif": encoded(large[:300, :400], "GIF"),
        "small.bmp": encoded(large[:20, :30], "BMP"),
    }
    return [{"name": name, "mimeType": "", "buffer": data} for name, data in files.items()]


def test_odd_photos_are_read_as_the_server_reads_them(browser: Browser, gateway: str) -> None:
    photos = odd_photos()
    with opened(browser, gateway) as (page, _):
        choose_device(page)
        page.set_input_files("#files", photos)
        found = answers(page, len(photos))
    off = {
        photo["name"]: largest_difference(
            found[photo["name"]], of_server(gateway, photo["name"], photo["buffer"])
        )
        for photo in photos
    }
    assert max(off.values()) < 0.01, off


def test_no_network_is_needed_once_loaded(browser: Browser, gateway: str) -> None:
    with opened(browser, gateway) as (page, requests):
        choose_device(page)
        page.context.set_offline(True)
        page.set_input_files("#files", PHOTOS[0])
        assert (
            largest_difference(
                answers(page, 1)[PHOTOS[0].name], of_server(gateway, "x", PHOTOS[0].read_bytes())
            )
            < TOLERANCE
        )
        assert asked(requests) == 0


def test_bad_photos_are_refused_in_both_places(browser: Browser, gateway: str) -> None:
    bad = [
        {"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b"no photo"},
        {"name": "empty.jpg", "mimeType": "image/jpeg", "buffer": b""},
        {
            "name": "tiny.png",
            "mimeType": "image/png",
            "buffer": encoded(np.zeros((4, 4, 3), np.uint8), "PNG"),
        },
    ]
    with opened(browser, gateway, refusals=3) as (page, requests):
        page.set_input_files("#files", bad)
        expect(page.locator("#results h2")).to_have_text(["No answer"] * 3)
        assert asked(requests) == 3
        choose_device(page)
        page.set_input_files("#files", bad)
        expect(page.locator("#results h2")).to_have_text(["No answer"] * 6)
        said = " ".join(page.locator("#results > li").all_text_contents()[:3])
        assert "cannot read it" in said and "0 bytes" in said and "at least 8 a side" in said
        assert asked(requests) == 3


def test_a_refused_link_is_said_and_links_rest_on_the_device(browser: Browser, gateway: str) -> None:
    with opened(browser, gateway, refusals=1) as (page, requests):
        page.get_by_label("Or a link to a photo").fill("http://127.0.0.1/photo.jpg")
        page.get_by_role("button", name="Classify it").click()
        expect(page.locator("#results h2")).to_have_text(["No answer"])
        expect(page.locator("#results > li")).to_contain_text("127.0.0.1")
        choose_device(page)
        expect(page.get_by_label("Or a link to a photo")).to_be_disabled()
        expect(page.locator("#no-links")).to_be_visible()
        page.get_by_label("On this server").check()
        expect(page.get_by_label("Or a link to a photo")).to_be_enabled()
        assert asked(requests) == 1


@pytest.mark.parametrize("place", ["server", "device"])
def test_the_camera(browser: Browser, gateway: str, place: str) -> None:
    with opened(browser, gateway, permissions=["camera"]) as (page, requests):
        if place == "device":
            choose_device(page)
        page.get_by_role("button", name="Use the camera").click()
        expect(page.get_by_role("button", name="Take the picture")).to_be_focused()
        page.keyboard.press("Enter")
        assert sum(answers(page, 1)["camera.jpg"].values()) == pytest.approx(1, abs=1e-3)
        page.keyboard.press("Escape")
        expect(page.locator("#viewfinder")).to_be_hidden()
        expect(page.get_by_role("button", name="Use the camera")).to_be_focused()
        assert asked(requests) == (place == "server")


def test_by_keyboard_alone(browser: Browser, gateway: str) -> None:
    with opened(browser, gateway) as (page, requests):
        page.keyboard.press("Tab")
        expect(page.get_by_label("On this server")).to_be_focused()
        page.keyboard.press("ArrowDown")
        expect(page.get_by_label("On this device")).to_be_checked()
        expect(page.locator("#engine")).to_contain_text(LOADED, timeout=WAIT)
        page.keyboard.press("Tab")
        expect(page.locator("#files")).to_be_focused()
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(PHOTOS[0])
        answers(page, 1)
        assert asked(requests) == 0


def test_not_sure_is_said_alike(browser: Browser, gateway: str) -> None:
    with opened(browser, gateway) as (page, _):
        page.set_input_files("#files", PHOTOS)
        answers(page, len(PHOTOS))
        sent = page.locator("#results h2").all_text_contents()
        possible = page.locator("#results p", has_text="It looks most like")
        said = possible.all_text_contents()
        choose_device(page)
        page.set_input_files("#files", PHOTOS)
        answers(page, 2 * len(PHOTOS))
        kept = page.locator("#results h2").all_text_contents()[: len(PHOTOS)]
        said_here = possible.all_text_contents()[: len(said)]
    assert kept == sent
    assert 0 < kept.count("Not sure") == len(said) < len(kept)
    assert said_here == said
    assert len({text.count(" or ") for text in said}) > 1, (
        "the photos differ in how many classes they may show"
    )


def test_a_model_that_does_not_load_is_said_and_no_photo_is_sent(browser: Browser, gateway: str) -> None:
    with opened(browser, gateway) as (page, requests):
        page.context.route("**/model.tflite", lambda route: route.fulfill(status=503))
        page.get_by_label("On this device").check()
        page.set_input_files("#files", PHOTOS[0])
        expect(page.locator("#engine")).to_contain_text("could not be loaded", timeout=WAIT)
        expect(page.locator("#results h2")).to_have_text(["No answer"])
        page.context.unroute_all()
        page.set_input_files("#files", PHOTOS[1])
        assert set(answers(page, 2)[PHOTOS[1].name]) == set(LABELS)
        assert asked(requests) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_light_and_dark(browser: Browser, gateway: str, scheme: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, gateway, color_scheme=scheme, **phone) as (page, _):
        page.set_input_files("#files", PHOTOS[0])
        answers(page, 1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for text in ("h1", "#results h2", "#results .name", "#where small", "#where legend", ".pick"):
            assert contrast(page, text) >= 4.5, text
        for target in page.locator("button:visible, .pick, #where label").all():
            box = target.bounding_box()
            assert box is not None and box["height"] >= 44
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (luminance(background) > 0.5) == (scheme == "light")


def contrast(page: Page, selector: str) -> float:
    """WCAG's contrast of a text with what lies behind it."""
    colours = page.locator(selector).first.evaluate(
        """element => {
          let behind = element;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
          return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        }"""
    )
    low, high = sorted(luminance(colour) for colour in colours)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


# The page's resize, held against Pillow's: equal.

SOURCE = Path(__file__).parents[2] / "web" / "src" / "pixels.js"


@pytest.fixture(scope="module")
def pixels_page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.evaluate(
        "async source => { window.pixels = await import(URL.createObjectURL(new Blob([source], {type: 'text/javascript'}))); }",
        SOURCE.read_text(encoding="utf-8"),
    )
    yield page
    page.close()


def resized(
    page: Page, photo: Pixels, size: tuple[int, int], resize_mode: ResizeMode, scale: int = 1
) -> Pixels:
    """uint8 (H, W, 3) through the page's code."""
    height, width = photo.shape[:2]
    rgba = np.dstack([photo, np.full((height, width), 255, np.uint8)])
    values = page.evaluate(
        """([data, width, height, size, fit, scale]) => {
          const rgba = Uint8ClampedArray.from(data);
          const rows = (top, count) => rgba.subarray(top * width * 4, (top + count) * width * 4);
          return Array.from(pixels.toModelPixels(rows, width, height, size, fit, scale));
        }""",
        [rgba.ravel().tolist(), width, height, list(size), resize_mode, scale],
    )
    return np.array(values, np.uint8).reshape(*size, 3)


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("shape", [(64, 80), (300, 211), (97, 130), (513, 64), (20, 33), (80, 64)])
def test_resize_is_pillows(pixels_page: Page, resize_mode: ResizeMode, shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = read_photo(Image.fromarray(photo), (64, 80), resize_mode)
    off = np.abs(resized(pixels_page, photo, (64, 80), resize_mode).astype(int) - expected).max()
    # Pillow may change the order of its passes for photos narrower than the input, which rounds otherwise.
    assert off <= (1 if shape[1] < 80 else 0)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reduction_is_the_jpeg_librarys(pixels_page: Page, scale: int) -> None:
    """A real photo, enlarged, so that draft mode sets in; without chroma subsampling only rounding differs."""
    side = 20 * scale * 2
    photo = Image.open(PHOTOS[3]).resize((side + 13, side + 5), Image.Resampling.BICUBIC)
    data = encoded(np.asarray(photo), "JPEG", quality=90, subsampling=0)
    size = (16, 20)
    assert (
        pixels_page.evaluate("([w, h, size]) => pixels.draftScale(w, h, size)", [*photo.size, list(size)])
        == scale
    )
    expected = read_photo(data, size).astype(int)
    got = resized(pixels_page, read_photo(data), size, "stretch", scale).astype(int)
    assert np.abs(got - expected).max() <= 2
