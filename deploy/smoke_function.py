"""Ask a deployed stack's function for a photo of the sample, signed by the AWS command line: python deploy/smoke_function.py STACK

The exit status is 1 if it does not answer with a decision.
"""

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PHOTO = next((Path(__file__).parents[1] / "data/sample/test/glass").glob("*.jpg"))


def main(stack: str) -> None:
    query = "Stacks[0].Outputs[?OutputKey=='FunctionName'].OutputValue"
    name = aws(
        "cloudformation", "describe-stacks", "--stack-name", stack, "--query", query, "--output", "text"
    ).strip()
    with tempfile.TemporaryDirectory() as folder:
        event, answer = Path(folder) / "event.json", Path(folder) / "answer.json"
        event.write_text(json.dumps({"image": base64.b64encode(PHOTO.read_bytes()).decode()}))
        aws("lambda", "invoke", "--function-name", name, "--cli-binary-format", "raw-in-base64-out",
            "--payload", f"file://{event}", str(answer))  # fmt: skip
        found = json.loads(answer.read_text())
    predictions = found.get("predictions") or [{}]
    if predictions[0].get("decision") is None:
        sys.exit(f"{name} of {stack} did not answer a good photo: {json.dumps(found)[:500]}")
    print(f"{name}: {predictions[0]['decision']}, {predictions[0]['probability']:.1%}")


def aws(*arguments: str) -> str:
    """What the AWS command line prints; its own error ends the program."""
    done = subprocess.run(["aws", *arguments], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        sys.exit(f"aws {' '.join(arguments[:2])} failed")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1])
