"""Blend and average the networks that were trained for the field, choose by validation, and embed all photos by the chosen one.

    python scripts/field/choose_field_model.py begin --weights weights --trashnet dataset-resized.zip --field fieldphotos --work work
    python scripts/field/choose_field_model.py choose --weights weights --trashnet dataset-resized.zip --field fieldphotos --work work
    python scripts/field/choose_field_model.py embed --size small --weights weights --trashnet dataset-resized.zip --field fieldphotos --work work
    python scripts/field/choose_field_model.py test --weights weights --trashnet dataset-resized.zip --field fieldphotos --work work
    python scripts/field/choose_field_model.py ship --weights weights --trashnet dataset-resized.zip --field fieldphotos --work work

`begin` writes the networks from which `train_last_stages.py` begins. `choose` reads TrashNet's validation photos and the tenth of field groups
that no final model learned from, `embed` all photos but TrashNet's test, by the network of a size, and `test` that test split, once,
for the networks that were chosen; `ship` writes their weights. What belongs to a size goes to `work/small` or `work/large`. Photos are decoded from their files.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from field_jobs import CLASSES, SLICE, Job, Recipe, Table
from field_networks import FieldNetwork, fold_stages, load_backbone, save_network
from pack_field_photos import CONTRADICTORY, Entry, field_entries, trashnet_entries
from PIL import Image

from image_classification_trash.data.trashnet import official_split
from image_classification_trash.features.synthesis.backgrounds import HELD_OUT, TRAINING, draw_background
from image_classification_trash.features.synthesis.cutouts import posterboard
from image_classification_trash.inference.images import read_photo

SIZE = (224, 288)
PIECE = 8
LITE0, LITE2 = "efficientnet_lite0", "efficientnet_lite2"


@dataclass(frozen=True)
class Candidate:
    """Networks whose weights are averaged, and blended with those that their trainings began from.

    Attributes:
        share: of the average; the rest is `rest`.
    """

    architecture: str
    members: tuple[str, ...]
    share: float
    rest: str = "shipped"


ALL_THREE = ("final-0", "student-0", "student-1")
LAST = ("last-0", "last-1")
CANDIDATES = {
    "shipped": Candidate(LITE0, ("shipped",), 1.0),
    "final, 0.7": Candidate(LITE0, ("final-0",), 0.7),
    "students, 0.5": Candidate(LITE0, ("student-0", "student-1"), 0.5),
    "students, 0.7": Candidate(LITE0, ("student-0", "student-1"), 0.7),
    "final and students, 0.5": Candidate(LITE0, ALL_THREE, 0.5),
    "final and students, 0.7": Candidate(LITE0, ALL_THREE, 0.7),
    "final and students, 0.85": Candidate(LITE0, ALL_THREE, 0.85),
    "final and students, 1": Candidate(LITE0, ALL_THREE, 1.0),
    "last stages, 0.4": Candidate(LITE0, LAST, 0.4, "small"),
    "last stages, 0.5": Candidate(LITE0, LAST, 0.5, "small"),
    "last stages, 0.7": Candidate(LITE0, LAST, 0.7, "small"),
    "last stages, 1": Candidate(LITE0, LAST, 1.0, "small"),
    "teacher 0": Candidate(LITE2, ("teacher-0",), 1.0),
    "teacher 1": Candidate(LITE2, ("teacher-1",), 1.0),
    "teachers, averaged": Candidate(LITE2, ("teacher-0", "teacher-1"), 1.0),
}
BEGUN = {"small": "final and students, 0.85", "large": "teachers, averaged"}
"""Candidates from which `train_last_stages.py` begins, by the names that it reads them by."""
CHOSEN = {"small": "last stages, 0.4", "large": "teachers, averaged"}
"""The candidate that each size of the shipped model is."""


def state_of(name: str, weights: Path) -> dict[str, torch.Tensor]:
    """Average and blend the weights of a candidate."""
    wanted = CANDIDATES[name]
    states = [safetensors.torch.load_file(weights / f"{member}.safetensors") for member in wanted.members]
    mean = {key: torch.stack([state[key].float() for state in states]).mean(0) for key in states[0]}
    if wanted.share < 1:
        before = safetensors.torch.load_file(weights / f"{wanted.rest}.safetensors")
        mean = {key: torch.lerp(before[key].float(), value, wanted.share) for key, value in mean.items()}
    mean.pop("temperature")
    return mean


def network_of(name: str, weights: Path) -> FieldNetwork:
    """Build a candidate, ready to run."""
    network = FieldNetwork(CANDIDATES[name].architecture, len(CLASSES), 5, 0.0)
    network.load_state_dict(state_of(name, weights), strict=False)
    return network.eval()


def before_and_after(size: str, weights: Path) -> list[FieldNetwork]:
    """Build the network of a size before fine-tuning, which is ImageNet's, and after it."""
    architecture = CANDIDATES[CHOSEN[size]].architecture
    plain = FieldNetwork(architecture, len(CLASSES), 5, 0.0)
    load_backbone(plain, weights / f"{architecture}.safetensors")
    return [plain.eval(), network_of(CHOSEN[size], weights)]


class Twin:
    """Networks of one architecture that share their frozen stages: photos to the embeddings of each."""

    def __init__(self, networks: Sequence[FieldNetwork]) -> None:
        folded = [fold_stages(network.stages()) for network in networks]
        self._stem, self._tails = folded[0][:5], [one[5:] for one in folded]

    @torch.inference_mode()
    def __call__(self, photos: np.ndarray) -> list[torch.Tensor]:
        """uint8 (B, H, W, 3) to embeddings (B, D) of each network."""
        x = torch.from_numpy(photos).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        stem = self._stem((x - 127) / 128)
        return [tail(stem).mean((2, 3)) for tail in self._tails]


def decoded(entries: Sequence[Entry]) -> Iterator[np.ndarray]:
    """Photos by the pixel contract, in pieces, uint8 (B, H, W, 3)."""
    for start in range(0, len(entries), PIECE):
        yield np.stack([read_photo(entry.data, SIZE) for entry in entries[start : start + PIECE]])


def embeddings(networks: Sequence[FieldNetwork], entries: Sequence[Entry]) -> list[np.ndarray]:
    """Embeddings (N, D) of entries by each network."""
    twin = Twin(networks)
    parts = [twin(photos) for photos in decoded(entries)]
    return [torch.cat(column).numpy() for column in zip(*parts, strict=True)]


def scores_of(network: FieldNetwork, embedded: np.ndarray) -> np.ndarray:
    """Scores (N, C) before temperature."""
    with torch.inference_mode():
        return network.head(torch.from_numpy(embedded)).numpy()


def macro(scores: np.ndarray, label: np.ndarray) -> float:
    """Mean over classes of the share that is right."""
    right = scores.argmax(1) == label
    return float(np.mean([right[label == c].mean() for c in np.unique(label)]))


def entries_for(options: argparse.Namespace, wanted: str) -> list[Entry]:
    """The photos of a step."""
    everything = [*trashnet_entries(options.trashnet), *field_entries(options.field)]
    if wanted == "embed":
        return everything
    columns = {f: np.array([getattr(e, f) for e in everything]) for f in Table.__dataclass_fields__}
    table = Table(**columns)
    rows = [*table.validation(), *table.left_out(Job("", Recipe(), SLICE))]
    return [everything[row] for row in rows]


def test_entries(archive: Path) -> list[Entry]:
    """TrashNet's official test photos without the contradictory ones."""
    split_of = official_split()
    with zipfile.ZipFile(archive) as opened:
        return [
            Entry(
                f"trashnet/{Path(name).name}",
                opened.read(name),
                "trashnet",
                "trashnet",
                name,
                "test",
                CLASSES.index(Path(name).parent.name),
            )
            for name in sorted(opened.namelist())
            if split_of.get(Path(name).name) == "test" and Path(name).name not in CONTRADICTORY
        ]


def choose(options: argparse.Namespace) -> None:
    """Measure all candidates on validation photos."""
    entries = entries_for(options, "choose")
    label = np.array([entry.label for entry in entries])
    val = np.array([entry.split == "val" for entry in entries])
    found = {}
    for architecture in (LITE0, LITE2):
        names = [name for name, one in CANDIDATES.items() if one.architecture == architecture]
        networks = [network_of(name, options.weights) for name in names]
        for name, network, embedded in zip(names, networks, embeddings(networks, entries), strict=True):
            scores = scores_of(network, embedded)
            found[name] = {
                "val_accuracy": float((scores.argmax(1) == label)[val].mean()),
                "val_macro": macro(scores[val], label[val]),
                "slice_accuracy": float((scores.argmax(1) == label)[~val].mean()),
                "slice_macro": macro(scores[~val], label[~val]),
                "n_val": int(val.sum()),
                "n_slice": int((~val).sum()),
            }
            print(name, {key: round(value, 3) for key, value in found[name].items()}, flush=True)
    (options.work / "candidates.json").write_text(json.dumps(found, indent=1))


def made_negatives(entries: Sequence[Entry]) -> list[Entry]:
    """Photos without waste made by rule: drawn backgrounds, and posterboard whose object is removed.

    Those of source `made` come from the rules and photos of training, those of `made_held_out` from the other rules and from
    validation photos.
    """
    made = []
    rng = np.random.default_rng(5)
    for source, rules, split, count in (
        ("made", TRAINING, "train", 150),
        ("made_held_out", HELD_OUT, "val", 60),
    ):
        boards = [e for e in entries if e.split == split][:: max(1, len(entries) // 6 // count)][:count]
        pixels = [posterboard(read_photo(entry.data, SIZE), rng) for entry in boards]
        pixels += [draw_background(rules, number, SIZE, 9) for number in range(count)]
        for number, one in enumerate(pixels):
            buffer = io.BytesIO()
            Image.fromarray(one).save(buffer, "PNG", compress_level=1)
            name = f"{source}/{number}"
            made.append(Entry(name, buffer.getvalue(), source, source, name, "notwaste", -1))
    return made


def embed(options: argparse.Namespace) -> None:
    """Embed all photos by ImageNet's network and by the chosen one of a size, which share their first stages."""
    entries = entries_for(options, "embed")
    entries += made_negatives(entries)
    networks = before_and_after(options.size, options.weights)
    before, after = embeddings(networks, entries)
    columns = {f: np.array([getattr(e, f) for e in entries]) for f in Table.__dataclass_fields__}
    np.savez_compressed(
        options.work / options.size / "embeddings.npz",
        before=before.astype(np.float16),
        after=after.astype(np.float16),
        scores=scores_of(networks[1], after),
        **columns,
    )


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Log probabilities (N, C)."""
    x = scores - scores.max(1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(1, keepdims=True)))


def calibration_error(probabilities: np.ndarray, label: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over bins of the largest probability (Guo et al., 2017)."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == label
    number = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [
        abs(sure[number == b].mean() - right[number == b].mean()) * (number == b).mean() for b in set(number)
    ]
    return float(sum(gaps))


def test_record(scores: np.ndarray, label: np.ndarray, temperature: float) -> dict[str, object]:
    """Accuracy and macro accuracy in percent with 95% intervals (bootstrap over photos), and calibration."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(label), size=len(label)) for _ in range(1000)]
    record: dict[str, object] = {"n": len(label), "temperature": round(temperature, 2)}
    for name, measure in (("accuracy", lambda s, y: (s.argmax(1) == y).mean()), ("macro", macro)):
        low, high = np.quantile([measure(scores[rows], label[rows]) for rows in drawn], [0.025, 0.975])
        record[name] = [round(100 * float(v), 1) for v in (measure(scores, label), low, high)]
    probabilities = np.exp(log_softmax(scores / temperature))
    return record | {"ece": round(calibration_error(probabilities, label), 3)}


def fit_temperature(scores: np.ndarray, label: np.ndarray) -> float:
    """The temperature of the smallest log loss, on a grid."""
    tried = np.arange(0.3, 2.0, 0.02)
    losses = [-log_softmax(scores / t)[np.arange(len(label)), label].mean() for t in tried]
    return float(tried[int(np.argmin(losses))])


def test(options: argparse.Namespace) -> None:
    """Measure the chosen networks, and the mean of their log probabilities, on TrashNet's test split; keep their scores."""
    tested = test_entries(options.trashnet)
    val = [entry for entry in entries_for(options, "choose") if entry.split == "val"]
    label = np.array([entry.label for entry in [*val, *tested]])
    cut, scores = len(val), {}
    for size, name in CHOSEN.items():
        networks = before_and_after(size, options.weights)
        before, after = embeddings(networks, [*val, *tested])
        scores[name] = scores_of(networks[1], after)
        np.savez_compressed(
            options.work / size / "test.npz",
            name=np.array([entry.name for entry in [*val, *tested]]),
            label=label,
            before=before.astype(np.float16),
            after=after.astype(np.float16),
            scores=scores[name],
        )
    scores["both, mean of log probabilities"] = np.mean([log_softmax(one) for one in scores.values()], axis=0)
    found = {
        name: test_record(one[cut:], label[cut:], fit_temperature(one[:cut], label[:cut]))
        | {"val_accuracy": round(100 * float((one[:cut].argmax(1) == label[:cut]).mean()), 1)}
        for name, one in scores.items()
    }
    print(json.dumps(found, indent=1))
    (options.work / "test.json").write_text(json.dumps(found, indent=1))


def begin(options: argparse.Namespace) -> None:
    """Write the networks from which `train_last_stages.py` begins, with temperatures fitted to TrashNet's validation photos."""
    val = [entry for entry in entries_for(options, "choose") if entry.split == "val"]
    label = np.array([entry.label for entry in val])
    for size, name in BEGUN.items():
        network = network_of(name, options.weights)
        temperature = fit_temperature(scores_of(network, embeddings([network], val)[0]), label)
        save_network(network, options.weights / f"{size}.safetensors", temperature)


def ship(options: argparse.Namespace) -> None:
    """Write the chosen networks under the package's names."""
    for size, name in CHOSEN.items():
        state = {key: value.contiguous() for key, value in state_of(name, options.weights).items()}
        halved = {key: value.half() if value.ndim > 1 else value for key, value in state.items()}
        safetensors.torch.save_file(halved, options.work / size / "network.safetensors")


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=["begin", "choose", "embed", "test", "ship"])
    parser.add_argument("--weights", type=Path, required=True, help="folder of networks")
    parser.add_argument("--trashnet", type=Path, required=True, help="dataset-resized.zip")
    parser.add_argument("--field", type=Path, required=True, help="the folder with sources.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder to write to")
    parser.add_argument("--size", choices=list(CHOSEN), default="small", help="of the network that embeds")
    options = parser.parse_args()
    for size in CHOSEN:
        (options.work / size).mkdir(parents=True, exist_ok=True)
    {"begin": begin, "choose": choose, "embed": embed, "test": test, "ship": ship}[options.step](options)


if __name__ == "__main__":
    main()
