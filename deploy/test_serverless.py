"""Ask a deployed function, or one in the Runtime Interface Emulator, for good and bad photos: python deploy/test_serverless.py URL

URL is a Function URL or an API's address, or the emulator's
http://127.0.0.1:PORT/2015-03-31/functions/function/invocations. Prints a table; the exit status is 1 if an answer is
not what it should be.
"""

import argparse
import base64
import json
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHOTO = next((Path(__file__).parents[1] / "data/sample/test/glass").glob("*.jpg"))
JSON = "application/json"


@dataclass(frozen=True)
class Case:
    """A request and the answer it should get; no code: a prediction."""

    name: str
    body: bytes
    status: int
    code: str | None = None
    content_type: str = JSON


def cases(photo: bytes) -> list[Case]:
    """Good and bad requests around one good photo."""
    encoded = base64.b64encode(photo).decode()
    return [
        Case("photo as base64", as_json(image=encoded), 200),
        Case("photo as it is", photo, 200, content_type="image/jpeg"),
        Case("not a photo", as_json(image=base64.b64encode(b"no photo").decode()), 400, "not_a_photo"),
        Case("half a photo", photo[: len(photo) // 2], 400, "not_a_photo", "image/jpeg"),
        Case("dead link", as_json(url="http://nothing.invalid/a.jpg"), 400, "url_failed"),
        Case("link to metadata", as_json(url="http://169.254.169.254/latest/"), 422, "url_refused"),
        Case("link to itself", as_json(url="http://127.0.0.1:9001/"), 422, "url_refused"),
        Case("wrong body", as_json(photo="?"), 422, "wrong_body"),
        Case("not JSON", b"{", 422, "wrong_body"),
        Case("wrong content type", b"{}", 415, "wrong_content_type", "text/plain"),
    ]


def as_json(**values: str) -> bytes:
    return json.dumps(values).encode()


def ask(url: str, case: Case) -> tuple[int, Any]:
    """Status and JSON of the answer."""
    if "/functions/" not in url:
        return post(url, case.body, case.content_type)
    status, answer = post(url, json.dumps(as_event(case)).encode(), JSON)
    return (answer["statusCode"], json.loads(answer["body"])) if "statusCode" in answer else (status, answer)


def as_event(case: Case) -> dict[str, Any]:
    """What a Function URL makes of the request."""
    return {
        "version": "2.0",
        "headers": {"content-type": case.content_type},
        "requestContext": {"http": {"method": "POST", "path": "/"}},
        "body": base64.b64encode(case.body).decode(),
        "isBase64Encoded": True,
    }


def post(url: str, body: bytes, content_type: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": content_type})  # noqa: S310  the user's own address
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def is_good(case: Case, status: int, answer: Any) -> bool:
    if status != case.status:
        return False
    if case.code is not None:
        return bool(answer["error"]["code"] == case.code)
    probabilities = [entry["probability"] for entry in answer["predictions"][0]["probabilities"]]
    return abs(sum(probabilities) - 1) < 0.02 and probabilities == sorted(probabilities, reverse=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--photo", type=Path, default=PHOTO, help="a good photo; default: one of the sample")
    arguments = parser.parse_args()
    failed = 0
    for case in cases(arguments.photo.read_bytes()):
        start = time.perf_counter()
        try:
            status, answer = ask(arguments.url, case)
            good = is_good(case, status, answer)
        except (OSError, ValueError, KeyError, TypeError) as error:
            status, answer, good = 0, repr(error), False
        failed += not good
        seconds = time.perf_counter() - start
        print(f"{'ok  ' if good else 'FAIL'} {case.name:<20} {status} {1000 * seconds:7.0f} ms", flush=True)
        if not good:
            print(f"     expected {case.status} {case.code or 'a prediction'}: {str(answer)[:300]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
