"""Reads bombs by their names, one after the other, and prints what became of each: a child of the tests.

python tests/helpers/read_bombs.py webp_8944_a_side gif_65535_a_side
"""

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.photo_bombs import BOMBS
from image_classification_trash.errors import PhotoError
from image_classification_trash.inference.images import read_photo

SIZE = (224, 288)
ADDRESS_SPACE = 6 * 2**30
SECONDS = 60
warnings.simplefilter("ignore")


def main() -> int:
    """Each in a child of its own, so that the most memory that it held can be told apart."""
    sys.stdout.write(json.dumps({name: in_a_child(BOMBS[name]()) for name in sys.argv[1:]}))
    return 0


def in_a_child(data: bytes) -> dict[str, object]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.write(writer, json.dumps(read(data)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    outcome: dict[str, object] = json.loads(answer) if answer else {"answer": f"died with {status}"}
    return outcome


def read(data: bytes) -> dict[str, object]:
    """What becomes of a photo, and what reading it took beside the bytes of the photo itself."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the most memory so far
    before, start = peak_mebibytes(), time.process_time()
    try:
        pixels = read_photo(data, SIZE)
        answer = "pixels" if pixels.shape == (*SIZE, 3) else f"shape {pixels.shape}"
    except PhotoError as error:
        answer = "refused" if error.found and error.hint else f"silent {error!r}"
    except BaseException as error:
        answer = f"raised {error!r}"
    return {
        "answer": answer,
        "mebibytes": peak_mebibytes() - before + len(data) / 2**20,
        "seconds": time.process_time() - start,
    }


def peak_mebibytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    sys.exit(main())
