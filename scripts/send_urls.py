"""Send links of photos through a running gateway and print what it says.

    python scripts/send_urls.py references/list_urls_trash.txt --gateway http://127.0.0.1:8080 [--json]

Lines that begin with # are left out. Exit status: 0 when at least one photo was classified, 1 when none was.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import httpx


def read_links(path: Path) -> list[str]:
    """The links of a list, one a line."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def ask(client: httpx.Client, link: str) -> dict[str, Any]:
    """The gateway's prediction for one link, or its error."""
    try:
        answer = client.post("/predict", json={"url": link}).json()
        if "error" in answer:
            return {"url": link, "error": answer["error"]["message"]}
        (prediction,) = answer["predictions"]
        error = (prediction["error"] or {}).get("message")
        return {
            "url": link,
            "decision": prediction["decision"],
            "probability": prediction["probability"],
            "error": error,
        }
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return {"url": link, "error": f"the gateway gives no answer: {error}"}


def row(answer: dict[str, Any]) -> str:
    """One line of the table."""
    if answer["error"]:
        return f"{'-':<12} {'':>6}  {answer['url']}  {answer['error']}"
    return f"{answer['decision']:<12} {answer['probability']:6.3f}  {answer['url']}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("links", type=Path, help="a file with one link a line")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    given = parser.parse_args()
    try:
        links = read_links(given.links)
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"{given.links} cannot be read: {error}")
    with httpx.Client(base_url=given.gateway, timeout=30, trust_env=False) as client:
        answers = [ask(client, link) for link in links]
    print(json.dumps(answers, indent=2) if given.json else "\n".join(map(row, answers)))
    return 0 if any(not answer["error"] for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
