"""The repository's address is one setting; links to it are made where it is set, and nowhere else."""

import shutil
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
try:
    from write_links import PLACES, repository, with_links, write
finally:
    sys.path.pop(0)
ADDRESS = "https://github.com/someone/trash"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_what_is_checked_in_is_what_the_setting_says() -> None:
    address = repository(ROOT)
    for name, lines in PLACES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert text == with_links(text, lines(address) if address else []), name


def test_an_address_is_written_everywhere_and_taken_away_again(copy: Path) -> None:
    write("", copy)
    before = {name: (copy / name).read_bytes() for name in PLACES}
    write(ADDRESS, copy)
    project = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["urls"]["Homepage"] == repository(copy) == ADDRESS
    assert f"{ADDRESS}/actions/workflows/ci.yml/badge.svg" in (copy / "README.md").read_text(encoding="utf-8")
    assert f"repo_url: {ADDRESS}\n" in (copy / "mkdocs.yml").read_text(encoding="utf-8")
    tutorial = (copy / "docs/tutorials/first-model.md").read_text(encoding="utf-8")
    assert (
        "colab.research.google.com/github/someone/trash/blob/main/notebooks/1.0-modelling.ipynb" in tutorial
    )
    write("", copy)
    assert {name: (copy / name).read_bytes() for name in PLACES} == before


def test_another_host_has_no_colab_and_no_badge(copy: Path) -> None:
    write("https://git.example.org/a/b", copy)
    assert all("colab" not in (copy / name).read_text(encoding="utf-8").lower() for name in PLACES)
