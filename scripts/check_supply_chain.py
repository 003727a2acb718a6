"""Checks what goes into images, wheels and the Lambda's package: hashes, versions of one lock, named base images.

    python scripts/check_supply_chain.py               part of `make deploy-lint`
    python scripts/check_supply_chain.py --release     digests of the base images too, as on a tag

It asks no network: scripts/lock.sh and scripts/pin_images.py do.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pin_images import PinError, base_images

HASHED = {  # file: whether its versions are those of requirements.txt
    "deploy/gateway-requirements.txt": True,
    "deploy/serverless-requirements.txt": True,
    "deploy/build-requirements.txt": True,
    "deploy/stand-in-requirements.txt": False,
    ".github/release-requirements.txt": False,
}
Lock = dict[str, set[str]]
"""Versions by name; a name has several where they differ by Python version."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--release", action="store_true", help="also refuse base images without a digest")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    faults = [
        *locks(options.root),
        *covered(options.root),
        *installs(options.root),
        *bases(options.root, options.release),
    ]
    print(
        "\n".join(faults) or "hashes, versions and base images are in order",
        file=sys.stderr if faults else sys.stdout,
    )
    return 1 if faults else 0


def locks(root: Path) -> Iterator[str]:
    """Requirements without an exact version or a hash, and versions that differ from requirements.txt."""
    tested = lock(root / "requirements.txt")
    for name, follows in HASHED.items():
        for line in requirements(root / name):
            hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})(?!\S)", line)
            if not hashes or line.count("--hash") != len(hashes) or "==" not in line:
                yield f"{name}: {line.split()[0]} has no exact version with SHA-256 hashes; run scripts/lock.sh"
        for package, versions in lock(root / name).items() if follows else ():
            if not versions <= tested.get(package, versions):
                yield f"{name}: {package} {', '.join(versions)} is not in requirements.txt; run scripts/lock.sh --hashes"


def covered(root: Path) -> Iterator[str]:
    """Requirements of the package that the lock of the image, or that of the build, lacks."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    image = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["serve"]]
    for file, wanted in (
        ("deploy/gateway-requirements.txt", image),
        ("deploy/build-requirements.txt", project["build-system"]["requires"]),
        (".github/release-requirements.txt", project["dependency-groups"]["release"]),
    ):
        names = {normal(re.match(r"[\w.-]+", word)[0]) for word in wanted}  # type: ignore[index]
        for missing in sorted(names - lock(root / file).keys()):
            yield f"{file}: {missing} is missing, though pyproject.toml asks for it; run scripts/lock.sh --hashes"


def installs(root: Path) -> Iterator[str]:
    """Commands of pip that take packages without a hash into an image or a release."""
    files = [
        *(root / "deploy").glob("*.dockerfile"),
        root / "deploy/make_lambda_package.sh",
        root / "scripts/try_wheel.sh",
    ]
    for file in sorted(files):
        text = re.sub(r"^\s*#.*$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE).replace(
            "\\\n", " "
        )
        for command in re.split(r"&&|;|\n", text):
            takes = re.search(r"\bpip\b.*\s(install|wheel|download)\s", command)
            if takes and not re.search(r"--require-hashes|--no-index", command):
                yield f"{file.relative_to(root)}: {' '.join(command.split())} takes packages without --require-hashes"


def bases(root: Path, release: bool) -> Iterator[str]:
    """Base images that move: without a tag or with `latest`; and for a release, without a digest."""
    for file in sorted((root / "deploy").glob("*.dockerfile")):
        try:
            for image in dict.fromkeys(base_images(file)):
                if image.tag == "latest":
                    yield f"{file.relative_to(root)}: {image.name} is another image every day; name a version"
                if release and image.digest is None:
                    yield f"{file.relative_to(root)}: {image.name} has no digest; run scripts/pin_images.py and commit"
        except PinError as error:
            yield f"{file.relative_to(root)}: {error}"


def requirements(path: Path) -> list[str]:
    """The requirements of a file, each with its hashes in one line."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def lock(path: Path) -> Lock:
    found: Lock = {}
    for line in requirements(path):
        name, _, rest = line.partition("==")
        found.setdefault(normal(name), set()).add(rest.split()[0] if rest else "")
    return found


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


if __name__ == "__main__":
    sys.exit(main())
