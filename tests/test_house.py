"""The house stands as designed: imports run one way, inference needs no torch, the public surface is what is listed."""

import subprocess
import sys
from pathlib import Path

import image_classification_trash

ROOT = Path(__file__).parents[1]


def test_imports_run_one_way() -> None:
    line = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_inference_imports_no_training_library() -> None:
    code = "import sys, image_classification_trash; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "torchvision", "tensorflow", "sklearn", "lightning", "timm", "pydantic"}


def test_serving_imports_no_training_library() -> None:
    code = "import sys, image_classification_trash.serving.http.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "torchvision", "tensorflow", "sklearn", "lightning", "timm", "matplotlib"}


def test_public_surface() -> None:
    assert image_classification_trash.__all__ == [
        "BundleError",
        "PhotoError",
        "Prediction",
        "TrashClassifier",
        "TrashClassifierError",
        "__version__",
        "adapt_model",
        "evaluate",
        "export_model",
        "train",
    ]
    assert all(hasattr(image_classification_trash, name) for name in image_classification_trash.__all__)
