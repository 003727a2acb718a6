"""Pins the base images of dockerfiles to what their tags name now: FROM name:tag becomes FROM name:tag@sha256:...

    python scripts/pin_images.py                 asks the registries, and writes the digests into deploy/*.dockerfile

A digest is written only after the manifest behind the tag was read and its SHA-256 compared. Where a registry cannot be
reached nothing is written. A tag that has a digest already is looked up again, so that updates are one run. A release refuses base images without a digest:
`scripts/check_supply_chain.py --release`.
"""

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FROM = re.compile(
    r"^(?P<word>FROM\s+(?:--\S+\s+)*)(?P<image>\S+)(?P<rest>(?:\s+AS\s+(?P<stage>\S+))?\s*)$", re.IGNORECASE
)
KINDS = ", ".join((
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
))  # fmt: skip
HOSTS = {"docker.io": "https://registry-1.docker.io"}
"""Registries whose interface is at another host than images are named after."""
SECONDS = 30
LARGEST = 4 * 2**20
"""Bytes of a manifest."""


class PinError(Exception):
    """A digest that cannot be had, or an image that cannot be pinned."""


@dataclass(frozen=True)
class Image:
    """The name of a base image, `registry/repository:tag@digest`."""

    registry: str
    repository: str
    tag: str
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> "Image":
        """Read an image's name.

        Raises:
            PinError: it is short, has no tag, or a variable in it.
        """
        found = re.fullmatch(
            r"([a-z0-9.-]+\.[a-z]+(?::\d+)?)/([a-z0-9._/-]+):([\w.-]+)(?:@(sha256:[0-9a-f]{64}))?", text
        )
        if found is None:
            raise PinError(f"{text} is not REGISTRY/REPOSITORY:TAG, with or without @sha256:DIGEST")
        return cls(*found.groups())

    @property
    def name(self) -> str:
        """The name without the digest."""
        return f"{self.registry}/{self.repository}:{self.tag}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*", default=sorted((ROOT / "deploy").glob("*.dockerfile")))
    parser.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="REGISTRY=URL",
        help="another address of a registry's interface",
    )
    options = parser.parse_args()
    try:
        pin(options.files, HOSTS | dict(word.split("=", 1) for word in options.mirror))
    except PinError as error:
        print(f"pin_images.py: {error}. Nothing was written.", file=sys.stderr)
        return 1
    return 0


def pin(files: Sequence[Path], hosts: Mapping[str, str]) -> None:
    """Look up all images, then write all files."""
    images = {image.name: image for file in files for image in base_images(file)}
    digests = {name: resolve(image, hosts) for name, image in images.items()}
    for file in files:
        text = "".join(
            pinned(line, digests) for line in file.read_text(encoding="utf-8").splitlines(keepends=True)
        )
        file.write_text(text, encoding="utf-8")
    for name, digest in digests.items():
        old = images[name].digest
        print(f"{name}@{digest}" + (" as before" if old == digest else f", before: {old}" if old else ""))


def base_images(file: Path) -> Iterator[Image]:
    """The images that a dockerfile starts from, its own stages left out.

    Raises:
        PinError: one of them cannot be pinned.
    """
    stages = set()
    for line in file.read_text(encoding="utf-8").splitlines():
        found = FROM.match(line)
        if found is None:
            continue
        if found["image"] not in stages and found["image"] != "scratch":
            yield Image.parse(found["image"])
        stages.add(found["stage"])


def pinned(line: str, digests: Mapping[str, str]) -> str:
    """A line of a dockerfile, with the digest if it is a FROM of an image."""
    found = FROM.match(line)
    name = found["image"].partition("@")[0] if found else ""
    return f"{found['word']}{name}@{digests[name]}{found['rest']}" if found and name in digests else line


def resolve(image: Image, hosts: Mapping[str, str]) -> str:
    """Ask a registry for the digest of a tag, and check it against the manifest.

    Raises:
        PinError: it cannot be reached, does not know the tag, or its digest does not fit the manifest.
    """
    host = hosts.get(image.registry, f"https://{image.registry}").rstrip("/")
    url = f"{host}/v2/{image.repository}/manifests/{image.tag}"
    try:
        try:
            stated, manifest = fetch(url)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            stated, manifest = fetch(url, token(error.headers.get("WWW-Authenticate", ""), host))
    except (OSError, ValueError, KeyError) as error:
        raise PinError(f"{image.name}: {host} gives no digest ({error})") from error
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    if stated not in (None, digest):
        raise PinError(f"{image.name}: {host} says {stated}, but its manifest has {digest}")
    if "schemaVersion" not in json.loads(manifest):
        raise PinError(f"{image.name}: {host} answers with something else than a manifest")
    return digest


def fetch(url: str, bearer: str | None = None) -> tuple[str | None, bytes]:
    """The digest that a registry states, and the manifest itself."""
    headers = {"Accept": KINDS} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS) as answer:  # noqa: S310  checked: token()
        manifest: bytes = answer.read(LARGEST + 1)
        if len(manifest) > LARGEST:
            raise ValueError(f"a manifest of more than {LARGEST} bytes")
        return answer.headers.get("Docker-Content-Digest"), manifest


def token(challenge: str, host: str) -> str:
    """A token for anybody, from where the registry's challenge says."""
    words = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = words.pop("realm", "")
    if not realm.startswith("https://") and not (host.startswith("http://") and realm.startswith("http://")):
        raise ValueError(f"the registry names no safe address for tokens, but {realm!r}")
    query = urllib.parse.urlencode({name: words[name] for name in ("service", "scope") if name in words})
    with urllib.request.urlopen(f"{realm}?{query}", timeout=SECONDS) as answer:  # noqa: S310  checked above
        said = json.loads(answer.read(LARGEST))
    return str(said.get("token") or said["access_token"])


if __name__ == "__main__":
    sys.exit(main())
