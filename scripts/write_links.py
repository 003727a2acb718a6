"""Write the repository's address into everything that links to it: project URLs, badges, the site, Colab.

python scripts/write_links.py https://github.com/OWNER/NAME
python scripts/write_links.py --unset

The setting is `repository` below `[tool.trash-classifier]` in pyproject.toml, empty until there is a repository that people
can reach. Without it there are no such links. Between its markers a file is this script's own.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "links:begin", "links:end"
ADDRESS = re.compile(r"https://[\w.-]+/[\w.-]+/[\w.-]+")
GITHUB = "https://github.com/"


def project_urls(address: str) -> list[str]:
    """Lines of pyproject.toml, which package indexes show."""
    pages = {
        "Homepage": "",
        "Documentation": "/tree/main/docs",
        "Changelog": "/blob/main/CHANGELOG.md",
        "Issues": "/issues",
    }
    return ["[project.urls]", *(f'{name} = "{address}{path}"' for name, path in pages.items())]


def badges(address: str) -> list[str]:
    """Lines of the README."""
    if not address.startswith(GITHUB):
        return [f"[Repository]({address})"]
    checks = f"{address}/actions/workflows/ci.yml"
    return [f"[![checks]({checks}/badge.svg)]({checks})"]


def site(address: str) -> list[str]:
    """Lines of mkdocs.yml."""
    return [f"repo_url: {address}", "edit_uri: edit/main/docs/"]


def colab(address: str) -> list[str]:
    """Lines with a link to each notebook in Colab, which opens notebooks on GitHub alone."""
    if not address.startswith(GITHUB):
        return []
    place = f"https://colab.research.google.com/github/{address.removeprefix(GITHUB)}/blob/main/notebooks"
    notebooks = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    return [f"- [Open {name.removesuffix('.ipynb')} in Colab]({place}/{name})" for name in notebooks]


PLACES: dict[str, Callable[[str], list[str]]] = {
    "pyproject.toml": project_urls,
    "README.md": badges,
    "mkdocs.yml": site,
    "docs/tutorials/first-model.md": colab,
}


def with_links(text: str, lines: list[str]) -> str:
    """Replace what stands between the markers, which have a line each."""
    before, begin, rest = text.partition(BEGIN)
    head, _, rest = rest.partition("\n")
    inner, end, after = rest.partition(END)
    assert begin and end, "a marker is missing"
    opening = inner.splitlines()[-1]  # what begins the line of the second marker: # or <!--
    made = "".join(f"{line}\n" for line in lines)
    return f"{before}{begin}{head}\n{made}{opening}{end}{after}"


def write(address: str, root: Path) -> None:
    """Set the address, empty for none, and write all places."""
    project = root / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(
        re.sub(r'(?m)^repository = ".*?"', f'repository = "{address}"', text), encoding="utf-8"
    )
    for name, lines in PLACES.items():
        file = root / name
        text = file.read_text(encoding="utf-8")
        file.write_text(with_links(text, lines(address) if address else []), encoding="utf-8")


def repository(root: Path) -> str:
    """The address that is set; empty if none is."""
    content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return str(content["tool"]["trash-classifier"]["repository"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", nargs="?", default="", help="https://HOST/OWNER/NAME")
    parser.add_argument("--unset", action="store_true", help="take the address and all links away")
    given = parser.parse_args()
    if given.unset == bool(given.address) or (given.address and not ADDRESS.fullmatch(given.address)):
        sys.exit("error: give an address such as https://github.com/OWNER/NAME, or --unset")
    write(given.address, ROOT)
