"""What makes a command start quickly stays so, and does not outlast the start."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from image_classification_trash.inference.images import DECODERS

ROOT = Path(__file__).parents[1]
PHOTO = next((ROOT / "data/sample/test/metal").glob("*.jpg"))
AFTERWARDS = """
import gc, sys
from image_classification_trash.__main__ import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print(gc.isenabled(), gc.get_freeze_count() > 1000, *sorted(sys.modules))
"""


def test_one_photo_imports_one_decoder_and_garbage_is_collected_again(tmp_path: Path) -> None:
    line = [sys.executable, "-c", AFTERWARDS, "predict", str(PHOTO)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    enabled, frozen, *loaded = done.stdout.splitlines()[-1].split()
    assert (enabled, frozen) == ("True", "True")
    assert {name for name in loaded if name.startswith("PIL.") and name.endswith("ImagePlugin")} == {
        "PIL.JpegImagePlugin"
    }
    assert not {"tqdm", "torch", "image_classification_trash.inference.photo_headers.heif"} & {*loaded}


def test_every_kind_has_its_decoder() -> None:
    code = (
        "from importlib import import_module\nfrom PIL import Image\n"
        "from image_classification_trash.inference.images import DECODERS\n"
        "for name in DECODERS.values(): import_module(f'PIL.{name}ImagePlugin')\n"
        "print(*Image.OPEN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*DECODERS} <= {*done.stdout.split()}
    Image.init()
    assert {*DECODERS} <= {*Image.OPEN}
