"""Pack every photo that training for the field may see into one small file, for a machine that has nothing but torch.

    python scripts/field/pack_field_photos.py --trashnet dataset-resized.zip --field fieldphotos --output packed

Writes `packed/photos.npz`: TrashNet's official train and val photos (never test) and the field photos, decoded by the
pixel contract at 256x320 and stored as WebP, with class, source, group, family, and an object mask for copy-paste; and
`packed/<network>.safetensors`: ImageNet weights of both EfficientNet-Lites in half precision, under timm's names.
"""

import argparse
import csv
import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
from PIL import Image
from tqdm import tqdm

from image_classification_trash.data.trashnet import official_split
from image_classification_trash.features.synthesis.cutouts import MASK_SIZE, cut_out
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.networks.backbones import LITE, fetch_lite

SIZE = (256, 320)
CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
CONTRADICTORY = frozenset(
    f"{name}.jpg" for name in ("glass115", "metal91", "glass176", "plastic152", "glass389", "plastic332")
)
"""Three TrashNet photos that stand under two labels each, byte for byte."""
FAMILY = {
    "taco_rf": "taco",
    "taco_rf2": "taco",
    "taco_trashe": "taco",
    "trashnetpp": "trashnetpp",
    "trashnetpp_more": "trashnetpp",
    "drinkwaste": "drinkwaste",
    "bhaktapur_bottles": "bhaktapur",
    "retail_table": "retail_table",
    "personal_trash": "personal",
    "datacluster": "personal",
    "fruit_contam": "one_class",
    "box_line": "one_class",
    "packages": "one_class",
    "medicine_boxes": "one_class",
}
"""Sources that share photos, objects or a photographer are one family: they are left out together."""
GROUND_SOURCES = ("taco_rf", "beach_ground", "tidybot")
"""Their not-waste photos show bare ground: they also serve as backgrounds, so they keep more detail."""


@dataclass(frozen=True)
class Entry:
    """One photo to pack; `label` is -1 for not-waste photos, `split` is train, val, field or notwaste."""

    name: str
    data: bytes
    source: str
    family: str
    group: str
    split: str
    label: int

    @property
    def quality(self) -> int:
        """WebP quality: as low as the photo's use allows, since everything has to fit into 64 MiB."""
        if self.split == "notwaste":
            return 66 if self.source in GROUND_SOURCES else 45
        return 76 if self.split == "field" else 66


def trashnet_entries(archive: Path) -> Iterator[Entry]:
    """Yield TrashNet's official train and val photos without the contradictory ones."""
    split_of = official_split()
    with zipfile.ZipFile(archive) as opened:
        for name in sorted(opened.namelist()):
            file = Path(name).name
            if split_of.get(file) in ("train", "val") and file not in CONTRADICTORY:
                label = CLASSES.index(Path(name).parent.name)
                yield Entry(
                    f"trashnet/{file}", opened.read(name), "trashnet", "trashnet", file, split_of[file], label
                )


def field_entries(folder: Path) -> Iterator[Entry]:
    """Yield the field photos that `sources.csv` lists."""
    with (folder / "sources.csv").open(encoding="utf-8", newline="") as opened:
        for row in csv.DictReader(opened):
            source, wanted = row["file"].split("/")[0], row["mapped_class"]
            waste = wanted != "_notwaste"
            family = FAMILY.get(source, source)
            label = CLASSES.index(wanted) if waste else -1
            split = "field" if waste else "notwaste"
            yield Entry(
                row["file"], (folder / row["file"]).read_bytes(), source, family, row["group"], split, label
            )


def pack(entry: Entry) -> tuple[bytes, npt.NDArray[np.uint8], bool]:
    """Encode a photo as WebP and cut its object out: bytes, mask packed to bits (2400,), whether it shows the whole object."""
    pixels: Pixels = read_photo(entry.data, SIZE)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=entry.quality, method=5)
    if entry.split not in ("train", "field"):
        return buffer.getvalue(), np.zeros(MASK_SIZE[0] * MASK_SIZE[1] // 8, np.uint8), False
    mask = cut_out(read_photo(entry.data, MASK_SIZE))
    return buffer.getvalue(), np.packbits(mask > 0), bool((mask == 255).any())


def check_families(entries: list[Entry]) -> None:
    """Refuse a group of waste photos that lies in two families: leaving one out would leak the other."""
    families: dict[str, str] = {}
    for entry in entries:
        if entry.label >= 0 and families.setdefault(entry.group, entry.family) != entry.family:
            raise SystemExit(f"group {entry.group} is in {families[entry.group]} and in {entry.family}")


def write_photos(entries: list[Entry], output: Path, workers: int) -> None:
    """Pack all entries into `output`, a NumPy archive without pickles."""
    with ProcessPoolExecutor(workers) as pool:
        packed = list(tqdm(pool.map(pack, entries, chunksize=16), "pack", len(entries), unit="photo"))
    np.savez_compressed(
        output,
        data=np.frombuffer(b"".join(data for data, _, _ in packed), np.uint8),
        offsets=np.cumsum([0] + [len(data) for data, _, _ in packed]),
        masks=np.stack([mask for _, mask, _ in packed]),
        whole=np.array([whole for _, _, whole in packed]),
        label=np.array([entry.label for entry in entries]),
        name=np.array([entry.name for entry in entries]),
        source=np.array([entry.source for entry in entries]),
        family=np.array([entry.family for entry in entries]),
        group=np.array([entry.group for entry in entries]),
        split=np.array([entry.split for entry in entries]),
    )


def write_backbones(folder: Path) -> None:
    """Write both EfficientNet-Lites' ImageNet weights in half precision."""
    for name in LITE:
        weights = {key: value.half().contiguous() for key, value in fetch_lite(name).items()}
        safetensors.torch.save_file(weights, folder / f"{name}.safetensors")


def main() -> None:
    """Pack photos and weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trashnet", type=Path, required=True, help="dataset-resized.zip")
    parser.add_argument("--field", type=Path, required=True, help="the folder with sources.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--grounds-only", action="store_true", help="of not-waste photos, bare ground alone")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    entries = [*trashnet_entries(options.trashnet), *field_entries(options.field)]
    if options.grounds_only:
        entries = [e for e in entries if e.split != "notwaste" or e.source in GROUND_SOURCES]
    check_families(entries)
    write_backbones(options.output)
    write_photos(entries, options.output / "photos.npz", options.workers)
    print({file.name: file.stat().st_size for file in sorted(options.output.iterdir())})


if __name__ == "__main__":
    main()
