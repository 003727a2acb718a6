"""The notebooks: both halves of each pair say the same, nothing that ran is kept in git, and all of them run."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import nbformat
import pytest
from helpers.commands import GUARD
from helpers.scripts import load_script

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = ROOT / "docs" / "tutorials" / "notebooks"
each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(notebook: Any) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.fixture(scope="module")
def render() -> ModuleType:
    return load_script("render_notebooks")


def test_there_are_three() -> None:
    assert [file.stem for file in NOTEBOOKS] == [
        "1.0-modelling", "2.0-tflite-conversion", "3.0-tf-serving-connect"
    ]  # fmt: skip


@each
def test_both_halves_of_a_pair_say_the_same(notebook: Path) -> None:
    text = jupytext.read(notebook.with_suffix(".py"))
    assert cells_of(text) == cells_of(nbformat.read(notebook, as_version=4)), "make notebooks"


@each
def test_git_keeps_no_outputs(notebook: Path) -> None:
    code = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code), "make notebooks"


@each
def test_the_page_shows_this_notebook(notebook: Path, render: ModuleType) -> None:
    """The page's code and prose are the notebook's; what came out stands between."""
    page = (PAGES / f"{notebook.stem}.md").read_text(encoding="utf-8")
    for cell in render.without_noise(nbformat.read(notebook, as_version=4)).cells:
        assert render.tidy(cell.source) in page, (
            f"docs/tutorials/notebooks/{notebook.stem}.md lacks this: make notebooks"
        )


@each
def test_the_page_shows_its_pictures(notebook: Path) -> None:
    page = (PAGES / f"{notebook.stem}.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page))
    assert shown == {
        file.relative_to(PAGES).as_posix() for file in (PAGES / f"{notebook.stem}_files").iterdir()
    }


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, render: ModuleType) -> Path:
    """One folder for all notebooks, so that the second need not embed the photos again."""
    return Path(render.workshop(tmp_path_factory.mktemp("notebooks")))


@pytest.mark.slow
@each
def test_it_runs(notebook: Path, workshop: Path, render: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the sample, with the stand-in for a model server where it is installed; a cell that fails fails the test."""
    monkeypatch.setattr(render, "SECONDS", GUARD)
    done = render.run(notebook, workshop)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    text, pictures = render.page(done, notebook.stem)
    committed = (PAGES / f"{notebook.stem}.md").read_text(encoding="utf-8")
    assert sorted(pictures) == sorted(set(re.findall(r"\]\((\S+_files/[^)]+)\)", committed)))
    assert "Traceback" not in text
