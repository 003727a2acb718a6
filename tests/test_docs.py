"""What the documents tell people to type exists: commands and flags, make targets, modules, files and links.

Nothing is run; `tests/integration` does that.
"""

import importlib.util
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path

import pytest

from image_classification_trash.cli import VOLUME, in_one_word
from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.verbs import VERBS, settings_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "references").glob("*.md")],
)
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
OTHER_PROGRAMS = {
    "aws",
    "curl",
    "docker",
    "echo",
    "find",
    "kubectl",
    "pip",
    "python3",
    "torchrun",
    "sam",
    "source",
    "tensorboard",
    "wandb",
}
Words = list[str]


def typed_lines() -> Iterator[tuple[str, str]]:
    """Each line of each bash block, continuation lines joined, with the document it stands in."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield document.relative_to(ROOT).as_posix(), line.strip()


def simple_commands(line: str) -> Iterator[tuple[dict[str, str], Words]]:
    """A line's commands between pipes: the environment set for each, and its words without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: Words = []
    for token in [*lexer, ";"]:
        if set(token) <= set("|&;"):
            yield _without_environment(words)
            words = []
        else:
            words.append(token)


def _without_environment(words: Words) -> tuple[dict[str, str], Words]:
    environment: dict[str, str] = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    if ">" in words:
        words = words[: words.index(">")]
    return environment, words


def check_trash_classifier(arguments: Words) -> None:
    """The verb is known and its settings accept the arguments."""
    if arguments in (["--help"], ["--version"], ["--schema"]):
        return
    verb, *rest = in_one_word(list(dropwhile(VOLUME.__contains__, arguments)))
    assert verb in VERBS
    if not {"--help", "--help-all"} & {*rest}:
        load_settings(settings_of(verb), rest)


def check_make(arguments: Words) -> None:
    """Make knows what it would do; `docs` and `data` are folders too, so their rules are looked up as well."""
    targets = [word for word in arguments if "=" not in word]
    assert set(targets) <= TARGETS
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    line = ["make", "--dry-run", *arguments]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_python(arguments: Words) -> None:
    """The module exists and its settings accept the arguments, or the script exists."""
    if arguments[0] == "-m" and arguments[1].startswith("image_classification_trash"):
        spec = importlib.util.find_spec(arguments[1])
        assert spec is not None and spec.origin is not None
        verb = re.search(r"carry_out\(\s*\"([a-z]+)\"", Path(spec.origin).read_text(encoding="utf-8"))
        assert verb is not None, f"{arguments[1]} is no command"
        check_trash_classifier([verb[1], *arguments[2:]])
    elif arguments[0] != "-m":
        assert (ROOT / arguments[0]).is_file()


@pytest.mark.parametrize(("document", "line"), list(typed_lines()))
def test_typed_lines_are_accepted(document: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    checks = {"trash-classifier": check_trash_classifier, "make": check_make, "python": check_python}
    for environment, (program, *arguments) in simple_commands(line):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        program_name = Path(program).name
        assert program_name in checks.keys() | OTHER_PROGRAMS, f"{document}: {program} is not known here"
        if program_name in checks:
            checks[program_name](arguments)


def test_all_documents_are_looked_at() -> None:
    documents = {document for document, _ in typed_lines()}
    assert documents >= {
        "README.md",
        "docs/reference/data.md",
        "docs/reference/training.md",
        "docs/reference/prediction.md",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def anchors(document: Path) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


RECIPES = sorted({*(ROOT / "configs").glob("*.yaml")} - {ROOT / "configs/sweep.yaml"})  # that one is W&B's


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipes_are_accepted(recipe: Path) -> None:
    needed = {
        "predict": ["photo.jpg"], "monitor": ["photo.jpg"], "shards": ["photos", "--output", "shards"],
        "adapt": ["--photos", "photos", "--output", "mine"],
    }  # fmt: skip
    for verb in VERBS:
        load_settings(settings_of(verb), [*needed.get(verb, []), "--config", str(recipe)])


def test_every_command_and_target_is_documented() -> None:
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert all(f"trash-classifier {verb} " in text for verb in VERBS)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
