"""Other projects' clients, where they are installed: in the environment of the tests, or that of CLIENTS_PYTHON."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import GUARD
from helpers.gateways import CONFIG, photos, serving, write_onnx

SCRIPT = Path(__file__).parents[2] / "scripts" / "try_clients.py"


@pytest.mark.slow
def test_clients_agree_with_predict(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photos(1)[0])
    python = os.environ.get("CLIENTS_PYTHON", sys.executable)
    with serving(write_onnx(tmp_path / "model.onnx", CONFIG)) as (url, _):
        line = [python, str(SCRIPT), url, str(photo)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    if done.stdout.count(": ok") < 4:
        pytest.skip(f"not all clients are installed: {done.stdout}")
