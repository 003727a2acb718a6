"""The soak and the fuzzer of requests, for half a minute each; by hand they run for half an hour.

How long /healthz takes and how fast memory settles say here how busy the machine is; the long runs check both.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import GUARD

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "scripts"
UNHURRIED = ["--healthz-ms", "60000", "--growth", "1"]


def run(script: str, *arguments: str) -> str:
    line = [sys.executable, str(SCRIPTS / script), "--seconds", "30", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_mixed_load_loses_nothing() -> None:
    said = run("soak_gateway.py", *UNHURRIED)
    found = json.loads(said.splitlines()[0])["gateways"]["alone"]
    assert found["lost"] == 0 and found["violations"] == [] and "no violation" in said
    assert (
        {"200", "400", "413", "422"}
        <= found["statuses"].keys()
        <= {"200", "400", "404", "408", "413", "415", "422", "503"}
    )


def test_before_a_model_server_too(exported: Path) -> None:
    said = run("soak_gateway.py", str(exported / "models/sample"), *UNHURRIED, "--outage", "8")
    found = json.loads(said.splitlines()[0])["gateways"]
    assert found["before a model server"]["statuses"]["200"] > 0 and found["alone"]["statuses"]["200"] > 0


def test_odd_requests_are_answered_with_stated_statuses(tmp_path: Path) -> None:
    said = run("fuzz_requests.py", "--keep", str(tmp_path / "kept"))
    counts = {status: int(count) for count, status in re.findall(r"(\d+) (\d{3}|no answer)", said)}
    assert {"200", "400", "422"} <= counts.keys() and " 0 findings" in said
    assert not (tmp_path / "kept").exists()
