"""Run the notebooks and write what came out as pages of the documentation: python scripts/render_notebooks.py [NAME ...]

    make notebooks                                   # this, after both halves of each pair were brought into step
    python scripts/render_notebooks.py 1.0-modelling

Each notebook runs in one temporary folder that holds nothing but the sample photos, so what a page shows does not depend on
what else was made in the repository. The pages and their pictures are docs/tutorials/notebooks/NAME.md and docs/tutorials/notebooks/NAME_files/.
"""

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS, PAGES = ROOT / "notebooks", ROOT / "docs" / "tutorials" / "notebooks"
ORIGIN = (
    "<!-- Made by scripts/render_notebooks.py from notebooks/{}.ipynb: change that, then: make notebooks -->"
)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PROGRESS = re.compile(r"\d+/(\d+|\?) \[\d\d:\d\d|^INFO:tensorflow:")
SECONDS = 900
"""One cell may take as long as this."""


def workshop(folder: Path) -> Path:
    """A folder in which a notebook finds the sample photos and may leave what it makes."""
    (folder / "data").mkdir()
    (folder / "data" / "sample").symlink_to(ROOT / "data" / "sample")
    return folder


def run(notebook: Path, folder: Path) -> Any:
    """The notebook with its outputs; a cell that fails raises nbclient's CellExecutionError, which shows it."""
    read = nbformat.read(notebook, as_version=4)
    client = NotebookClient(read, timeout=SECONDS, resources={"metadata": {"path": str(folder)}})
    return without_noise(client.execute())


def without_noise(notebook: Any) -> Any:
    """Progress bars and warnings go; what was printed and drawn stays."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr" and not is_noise(out)]
            cell.source = re.sub(r"^%matplotlib inline\n", "", cell.source)
    return notebook


def is_noise(output: Any) -> bool:
    """Whether an output says nothing but how far something has come, as Lightning and TensorFlow print it."""
    lines = ANSI.sub("", output.get("text", "-")).replace("\r", "\n").splitlines()
    return not any(line.strip() and not PROGRESS.search(line) for line in lines)


def page(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and its pictures by their path beside it."""
    resources = {"output_files_dir": f"{name}_files", "unique_key": name}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources)
    text = re.sub(r"^!\[png\]", "![What the cell above draws]", text, flags=re.MULTILINE)
    pictures = {path: smaller(content) for path, content in resources["outputs"].items()}
    return f"{ORIGIN.format(name)}\n\n{tidy(text)}\n", pictures


def smaller(png: bytes) -> bytes:
    """A picture with a palette: a third of the bytes, and none the worse to look at."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def tidy(text: str) -> str:
    """No blanks at the ends of lines, no more than one empty line."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)).strip()


def write_page(name: str, text: str, pictures: dict[str, bytes]) -> None:
    shutil.rmtree(PAGES / f"{name}_files", ignore_errors=True)
    for path, content in pictures.items():
        (PAGES / path).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / path).write_bytes(content)
    (PAGES / f"{name}.md").write_text(text, encoding="utf-8")


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="trash-notebooks-") as made:
        folder = workshop(Path(made))
        for name in names or sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb")):
            text, pictures = page(run(NOTEBOOKS / f"{name}.ipynb", folder), name)
            write_page(name, text.replace(made, "."), pictures)
            print(f"docs/tutorials/notebooks/{name}.md")


if __name__ == "__main__":
    main(sys.argv[1:])
