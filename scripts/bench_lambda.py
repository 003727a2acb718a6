"""Cold start of the Lambda's handler with LiteRT and with ONNX Runtime: import, load, first photo, in fresh processes.

    python scripts/bench_lambda.py models/trashnet/export/model_int8.tflite models/trashnet/export/model_int8.onnx

Both run the same handler and take turns, so that a busy machine slows both alike. Seconds are those within the process, from
before the first import to the answer; the interpreter's own start is left out, as it is the same for both.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PHOTO = next((ROOT / "data/sample/test/glass").glob("*.jpg"))
START = """
import sys, time
start = time.perf_counter()
import json
from image_classification_trash.serving.lambda_function import handler
answer = handler(json.loads(sys.stdin.read()), None)
assert "predictions" in answer, answer
print(time.perf_counter() - start)
"""


def cold_start(model: Path, event: str) -> float:
    """Seconds of one fresh process."""
    environment = {**os.environ, "TRASH_LAMBDA_MODEL": str(model)}
    line = [sys.executable, "-c", START]
    done = subprocess.run(line, input=event, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs=2, help="a .tflite and an .onnx file of one model")
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--runs", type=int, default=15, help="of each; one more before them is not counted")
    arguments = parser.parse_args()
    event = json.dumps({"image": base64.b64encode(arguments.photo.read_bytes()).decode()})
    rounds = [[cold_start(model, event) for model in arguments.models] for _ in range(arguments.runs + 1)][1:]
    for model, seconds in zip(arguments.models, zip(*rounds, strict=True), strict=True):
        low, *_, high = statistics.quantiles(seconds, n=10)
        print(
            f"{model.name:<20} median {statistics.median(seconds):.3f} s, 80% of runs {low:.3f} to {high:.3f} s"
        )
    ratio = statistics.median(first / second for first, second in rounds)
    print(f"ratio, median of {len(rounds)} rounds: {ratio:.2f}; {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main()
