"""Start the gateway's image without rights and ask it for a good and a bad photo: python deploy/smoke_image.py IMAGE

Needs docker, or what DOCKER names (podman). The exit status is 1 if it does not answer as it should. It needs the standard
library alone: a release runs it before the image is published, and on the image that was published before it is `latest`.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PHOTO = next((Path(__file__).parents[1] / "data/sample/test/glass").glob("*.jpg"))
DOCKER = os.environ.get("DOCKER", "docker")
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]  # noqa: S108  in the container
SECONDS = 120


def main(image: str) -> None:
    with running(image) as url:
        wait_until_ready(url)
        status, good = ask(url, PHOTO.read_bytes())
        if status != 200 or not (good.get("predictions") or [{}])[0].get("decision"):
            sys.exit(f"{image} did not answer a good photo: {status}, {json.dumps(good)[:500]}")
        status, bad = ask(url, b"no photo")
        if status != 400:
            sys.exit(f"{image} did not refuse what is no photo: {status}, {json.dumps(bad)[:500]}")
    prediction = good["predictions"][0]
    print(f"{image}: {prediction['decision']}, {prediction['probability']:.1%}")


@contextlib.contextmanager
def running(image: str) -> Iterator[str]:
    """A container: the gateway's address. What it said is shown if it fails."""
    name = docker("run", "--detach", *HARDENED, "--publish", "127.0.0.1::8080", image).strip()
    try:
        yield f"http://{docker('port', name, '8080').splitlines()[0].strip()}"
    except SystemExit:
        print(docker("logs", name), file=sys.stderr)
        raise
    finally:
        docker("rm", "--force", name)


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310  loopback
            return
        time.sleep(0.2)
    sys.exit(f"{url} is not ready after {SECONDS} seconds")


def ask(url: str, photo: bytes) -> tuple[int, Any]:
    """Status and JSON of the answer to a photo."""
    request = urllib.request.Request(f"{url}/predict", photo, {"Content-Type": "image/jpeg"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def docker(*arguments: str) -> str:
    """What docker prints; its own error ends the program."""
    done = subprocess.run([DOCKER, *arguments], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{DOCKER} {arguments[0]} failed")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1])
