"""State what is installed, for `--version` and for reports of faults; imports no engine.

trash-classifier --version
"""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "shipped"
ENGINES = {
    "LiteRT": "ai-edge-litert",
    "ONNX Runtime": "onnxruntime",
    "PyTorch": "torch",
    "TensorFlow": "tensorflow-cpu",
}
"""Names of engines, and the distributions that hold them."""


def describe_versions(package: str) -> str:
    """Return lines: the version of this `package`, the shipped model and the start of its digest, each engine, Python."""
    lines = [f"trash-classifier {package}", f"shipped model: {_shipped_model()}"]
    for engine, distribution in ENGINES.items():
        try:
            lines.append(f"{engine}: {version(distribution)}")
        except PackageNotFoundError:
            lines.append(f"{engine}: not installed")
    return "\n".join(
        [*lines, f"Python: {platform.python_version()} on {platform.system()} {platform.machine()}"]
    )


def _shipped_model() -> str:
    """Return the name in the title of the model card and the digest that the installation states, unchecked."""
    try:
        name = (SHIPPED / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        sums = (SHIPPED / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except (OSError, IndexError):
        return "none in this installation"
    digests = [line.split()[0] for line in sums if line.endswith("  model.tflite")]
    return f"{name}, SHA-256 {digests[0][:12]}" if digests else name
