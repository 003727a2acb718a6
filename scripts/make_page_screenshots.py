"""Take pictures of the gateway's page and of a report: python scripts/make_page_screenshots.py MODEL FOLDER [REPORT]

Light, dark, phone and a model that runs in the page, each with answers, as PNG files in FOLDER; and of REPORT, which
`trash-classifier evaluate` made, its first screen as report.png, and that of the wrong answers beside it as errors.png. Needs Debian's
Chromium and the Python package playwright. docs/images/page.png is the one named device.png, docs/images/report.png and errors.png are the
report's.
"""

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from page_model import SAMPLE, chromium  # noqa: E402
from PIL import Image  # noqa: E402

PHOTOS = [SAMPLE / "test" / name for name in ("glass/glass121.jpg", "metal/metal13.jpg")]
DESKTOP = {"viewport": {"width": 820, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "device_scale_factor": 2}
PICTURES: dict[str, tuple[dict[str, Any], bool]] = {
    "light": (DESKTOP, False),
    "dark": (DESKTOP | {"color_scheme": "dark"}, False),
    "phone": (PHONE, True),
    "device": (DESKTOP, True),
}


def take(browser: Any, url: str, path: Path, context: dict[str, Any], on_device: bool) -> None:
    page = browser.new_context(**context).new_page()
    page.goto(url)
    if on_device:
        page.get_by_label("On this device").check()
        page.get_by_text("The model is loaded").wait_for()
    page.set_input_files("#files", PHOTOS)
    page.locator("#results h2").nth(1).wait_for()
    page.locator("#results img").nth(1).wait_for()
    page.screenshot(path=path, full_page=True)


def take_report(browser: Any, report: Path, path: Path, height: int) -> None:
    page = browser.new_context(viewport={"width": 1200, "height": height}).new_page()
    page.goto(report.resolve().as_uri())
    page.locator("img").first.wait_for()
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def main(model: str, folder: str, report: str = "") -> None:
    line = [sys.executable, "-m", "image_classification_trash", "serve", model, "--port", "0"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process, chromium() as browser:
        assert process.stderr is not None
        url = next(found[0] for said in process.stderr if (found := re.search(r"http://\S+:\d+", said)))
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, (context, on_device) in PICTURES.items():
            take(browser, url, Path(folder) / f"{name}.png", context, on_device)
        if report:
            take_report(browser, Path(report), Path(folder) / "report.png", 1600)
            errors = Path(report).with_name(f"{Path(report).stem}-errors.html")
            take_report(browser, errors, Path(folder) / "errors.png", 1000)
        process.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
