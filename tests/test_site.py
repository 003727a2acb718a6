"""The documentation's site: every page has its place, all links and anchors resolve, and code in the how-tos works."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from helpers.commands import GUARD

from image_classification_trash.inference.classifier import TrashClassifier

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXTERNAL = DOCS / "external-links.txt"


def pages(nav: object) -> list[str]:
    """The files named in a navigation, in their order."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    assert not isinstance(parts, str)
    return [page for part in parts for page in pages(part)]  # type: ignore[attr-defined]


def test_every_page_has_one_place_in_the_navigation() -> None:
    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(named) == sorted(file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=GUARD, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Links(HTMLParser):
    """Where a page's links and pictures lead, and the anchors that it offers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        wanted = {"a": "href", "img": "src", "script": "src", "link": "href"}.get(tag)
        if wanted in values:
            self.targets.add(values[wanted])


def test_links_and_anchors_of_the_built_site_resolve(site: Path) -> None:
    known = {file: Links(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}
    assert len(known) > 25
    broken = [
        (page.relative_to(site).as_posix(), target)
        for page, links in known.items()
        if page.name != "404.html"  # its links start at the site's root, wherever that will be
        for target in links.targets
        if not urlsplit(target).scheme and not resolves(page, target, known)
    ]
    assert not broken


def resolves(page: Path, target: str, known: dict[Path, Links]) -> bool:
    parts = urlsplit(target)
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if file.is_dir():
        file /= "index.html"
    anchors = known[file].anchors | {"", "__top"} if file in known else {""}
    return file.exists() and unquote(parts.fragment) in anchors


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"(https?:)?//|<link[^>]+rel=\"stylesheet\"[^>]+href=\"(https?:)?//"
    )
    assert not [file for file in site.rglob("*.html") if loaded.search(file.read_text(encoding="utf-8"))]


def test_the_reference_comes_from_the_docstrings(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert 'id="image_classification_trash.TrashClassifier.stream"' in text
    assert "memory stays flat however many photos there are" in text


def test_external_links_are_listed() -> None:
    """They are not asked here, without a network; the list is for whoever asks them now and then."""
    files = [ROOT / "README.md", *DOCS.rglob("*.md")]
    found = {
        link.rstrip(".")
        for file in files
        for link in re.findall(r"\]\((https?://[^)\s]+)\)", file.read_text(encoding="utf-8"))
    }
    assert EXTERNAL.read_text(encoding="utf-8").splitlines() == sorted(found)


@pytest.mark.slow
def test_the_raspberry_pis_code_answers_as_predict_does(exported: Path, tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "raspberry-pi.md").read_text(encoding="utf-8")
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Interpreter" in block
    )
    model = exported / "models/sample/export/model.tflite"
    photo = next((ROOT / "data/sample/test/glass").glob("*.jpg"))
    (tmp_path / "model_int8.tflite").symlink_to(model)
    (tmp_path / "photo.jpg").symlink_to(photo)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=GUARD, check=False
    )
    (answer,) = TrashClassifier.load(model).predict([photo])
    assert done.returncode == 0, done.stderr
    said, probability = done.stdout.split()
    assert said == answer.decision
    assert float(probability) == pytest.approx(answer.probability, abs=0.02)
