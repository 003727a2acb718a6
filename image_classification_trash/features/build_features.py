"""Decode prepared photos and embed them into caches on disk, keyed by content: pixels per split, and backbone embeddings.

    python -m image_classification_trash.features.build_features sample
    trash-classifier features trashnet --input-height 256 --input-width 320

A pixel cache is reused only while photos, their order and the settings stay the same; a damaged cache raises an error.
"""

import glob
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from image_classification_trash.arrays import Embeddings, Ints
from image_classification_trash.config.data import FeatureSettings
from image_classification_trash.data.make_dataset import Embed
from image_classification_trash.data.manifest import (
    SPLITS,
    Manifest,
    Photo,
    Split,
    class_numbers,
    read_manifest,
)
from image_classification_trash.errors import CacheError, DatasetError
from image_classification_trash.features.content_cache import read_rows, readable, writable, write_rows
from image_classification_trash.files import as_text, atomic_path, sha256_of, write_text
from image_classification_trash.inference.images import Pixels, ResizeMode, Size, photo_bytes, read_photo
from image_classification_trash.networks.network import EmbeddingBackbone, build_network
from image_classification_trash.parallel.mapper import THREADS, Mapper
from image_classification_trash.show import Result, Shown

CACHE_VERSION = 1
BATCH = 32
"""Photos that are embedded together."""
STORED_AT_ONCE = 4096
"""Photos whose embeddings are stored together."""
VERIFIED_ALWAYS = 2**30
"""Bytes up to which a pixel cache is verified whenever it is opened; a larger one only if its file changed since then."""


class Backbone(Protocol):
    """A network without its classification head."""

    @property
    def key(self) -> str:
        """Return a text that identifies the architecture and the weights."""
        ...

    def embed(self, photos: Pixels) -> Embeddings:
        """Embed photos uint8 (B, H, W, 3) as float32 (B, D)."""
        ...


@dataclass(frozen=True)
class PixelSettings:
    """The settings that cached pixels depend on: height and width, and how photos are resized to them."""

    size: Size
    resize_mode: ResizeMode

    @property
    def key(self) -> str:
        """Return a short text that identifies the settings in file names."""
        return f"v{CACHE_VERSION}-{self.size[0]}x{self.size[1]}-{self.resize_mode}"


@dataclass(frozen=True)
class SplitCaches:
    """The splits of a data set as arrays, read through caches: decoded photos, class numbers and embeddings.

    Attributes:
        manifest: the data set's manifest; arrays follow the order of its photos.
        settings: size and resize mode of the pixels.
        folder: the caches' folder.
        mapper: decodes and embeds photos that no cache has; None: this process.
    """

    manifest: Manifest
    settings: PixelSettings
    folder: Path
    mapper: Mapper | None = None

    def pixels(self, split: Split) -> Pixels:
        """Return the decoded photos as `pixel_cache` does, uint8 (N, H, W, 3); every call verifies the checksum."""
        photos = self.manifest.photos_of(split)
        return pixel_cache(photos, self.manifest.root, self.settings, self.folder, split, self.mapper)

    def y_true(self, split: Split) -> Ints:
        """Return class numbers, int64 (N,)."""
        return class_numbers(self.manifest.photos_of(split), self.manifest.labels)

    def embeddings(self, split: Split, backbone: Backbone) -> Embeddings:
        """Return the embeddings as the function `embeddings` does, float32 (N, D)."""
        photos = self.manifest.photos_of(split)
        return embeddings(photos, self.manifest.root, backbone, self.settings, self.folder, self.mapper)


def pixel_cache(
    photos: Sequence[Photo],
    root: Path,
    settings: PixelSettings,
    folder: Path,
    split: str,
    mapper: Mapper | None = None,
) -> Pixels:
    """Return decoded photos, memory-mapped, uint8 (N, H, W, 3), in the order of `photos`; decode once, then read the cache.

    Args:
        photos: N photos.
        root: the folder that their paths are relative to.
        settings: size and resize mode.
        folder: the caches' folder.
        split: a name for the cache file.
        mapper: decodes the photos; None: threads of this process.

    Raises:
        CacheError: the cache is damaged or was changed.
        DatasetError: a photo was changed since it was listed.
        PhotoError: a photo cannot be read.
    """
    key = sha256_of(json.dumps([settings.key, [photo.sha256 for photo in photos]]).encode())[:16]
    name, shape = f"{split}-{settings.key}-{key}.npy", (len(photos), *settings.size, 3)
    file = folder / "pixels" / name
    if not file.exists() or not _note(file).exists():
        file = writable(folder) / "pixels" / name
    if not file.exists() or not _note(file).exists():
        decode = partial(decode_listed, root.absolute(), settings)
        _write_pixels(file, photos, shape, decode, mapper or THREADS)
    return _open_pixels(file, shape)


def embeddings(
    photos: Sequence[Photo],
    root: Path,
    backbone: Backbone,
    settings: PixelSettings,
    folder: Path,
    mapper: Mapper | None = None,
) -> Embeddings:
    """Return the embeddings of N photos, float32 (N, D); compute only those that are not in the cache.

    Without a mapper, threads decode ahead of the network, which is in this process; a mapper decodes and embeds whole
    batches. Every `STORED_AT_ONCE` photos are stored when they are embedded, so that a run that is ended loses little.

    Raises:
        CacheError: the cache cannot be read.
        DatasetError: a photo was changed since it was listed.
        PhotoError: a photo cannot be read.
    """
    stem = f"{backbone.key}-{settings.key}"
    known: dict[str, Embeddings] = {}
    for place in readable(folder):
        for file in sorted((place / "embeddings").glob(f"{glob.escape(stem)}.*npz")):
            known |= read_rows(file, "vectors", "embeddings")
    missing = [photo for photo in photos if photo.sha256 not in known]
    with tqdm(total=len(missing), desc="embed photos", unit="photo", disable=not missing) as bar:
        for start in range(0, len(missing), STORED_AT_ONCE):
            new = missing[start : start + STORED_AT_ONCE]
            vectors: list[Embeddings] = []
            decode = partial(decode_listed, root.absolute(), settings)
            for batch in embedded_batches(new, decode, backbone, mapper):
                vectors.extend(batch)
                bar.update(len(batch))
            computed = dict(zip((photo.sha256 for photo in new), vectors, strict=True))
            part = sha256_of("".join(computed).encode())[:16]
            write_rows(writable(folder) / "embeddings" / f"{stem}.{part}.npz", "vectors", computed)
            known |= computed
    return np.stack([known[photo.sha256] for photo in photos])


def decode_listed(root: Path, settings: PixelSettings, photo: Photo) -> Pixels:
    """Decode a photo of a data set, uint8 (H, W, 3), if it is still the one that was listed.

    Raises:
        DatasetError: its content was changed; what is cached and measured goes by its digest.
        PhotoError: it cannot be read.
    """
    path = root / photo.path
    data, name = photo_bytes(path), as_text(str(path))
    if sha256_of(data) != photo.sha256:
        found = f"{name} was changed after its data set was prepared."
        raise DatasetError(found, "Prepare the data set again: trash-classifier data NAME")
    return read_photo(data, settings.size, settings.resize_mode, name=name)


def embedded_batches(
    photos: Sequence[Photo], decode: Callable[[Photo], Pixels], backbone: Backbone, mapper: Mapper | None
) -> Iterator[Embeddings]:
    """Yield the embeddings of `BATCH` photos after the other, float32 (B, D), as of `embeddings`."""
    if mapper is None:
        yield from map(backbone.embed, _batches(photos, decode))
    else:
        pieces = (photos[at : at + BATCH] for at in range(0, len(photos), BATCH))
        yield from mapper.map(partial(decoded_and_embedded, backbone, decode), pieces)


def _batches(
    photos: Sequence[Photo], decode: Callable[[Photo], Pixels], mapper: Mapper = THREADS
) -> Iterator[Pixels]:
    """Yield decoded batches, uint8 (B, H, W, 3); the next ones are decoded while the caller uses this one."""
    decoded = mapper.map(decode, photos)
    while batch := list(islice(decoded, BATCH)):
        yield np.stack(batch)


def decoded_and_embedded(
    backbone: Backbone, decode: Callable[[Photo], Pixels], photos: Sequence[Photo]
) -> Embeddings:
    """Return the embeddings of B photos, float32 (B, D), decoded one after the other."""
    return backbone.embed(np.stack([decode(photo) for photo in photos]))


def _write_pixels(
    file: Path,
    photos: Sequence[Photo],
    shape: tuple[int, ...],
    decode: Callable[[Photo], Pixels],
    mapper: Mapper,
) -> None:
    """Decode photos into a .npy file, written as any file: the pages of a map would count as memory of this process."""
    checksum = 0
    with atomic_path(file) as temporary, temporary.open("wb") as sink:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(sink, header)
        if hasattr(os, "posix_fallocate"):  # so that a full disk fails here, not after hours of decoding
            os.posix_fallocate(sink.fileno(), 0, sink.tell() + math.prod(shape))
        with tqdm(total=len(photos), desc="decode photos", unit="photo") as bar:
            for batch in _batches(photos, decode, mapper):
                sink.write(batch.data)
                checksum = zlib.crc32(batch.data, checksum)
                bar.update(len(batch))
    write_text(_note(file), json.dumps({"shape": shape, "crc32": checksum}))


def _open_pixels(file: Path, shape: tuple[int, ...]) -> Pixels:
    hint = "Delete it; it will be created again."
    try:
        note = json.loads(_note(file).read_text(encoding="utf-8"))
        pixels: Pixels = np.load(file, mmap_mode="r", allow_pickle=False)
        checksum, state = note["crc32"], file.stat()
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"The pixel cache {file} cannot be read: {error}.", hint) from error
    is_verified = pixels.nbytes > VERIFIED_ALWAYS and note.get("verified") == [
        state.st_size,
        state.st_mtime_ns,
    ]
    fits = pixels.dtype == np.uint8 and pixels.shape == shape
    if not fits or not (is_verified or _crc32(file, state.st_size - pixels.nbytes) == checksum):
        raise CacheError(f"The pixel cache {file} was changed or truncated after it was written.", hint)
    if pixels.nbytes > VERIFIED_ALWAYS and not is_verified:
        with suppress(OSError):  # of a folder that cannot be written, or a full disk: it only saves time
            write_text(_note(file), json.dumps({**note, "verified": [state.st_size, state.st_mtime_ns]}))
    return pixels


def _crc32(file: Path, begin: int) -> int:
    """Return the checksum of a file from an offset on, read without a map, as `_write_pixels` writes it."""
    checksum, piece = 0, memoryview(bytearray(2**20))
    with file.open("rb", buffering=0) as opened:
        opened.seek(begin)
        while size := opened.readinto(piece):
            checksum = zlib.crc32(piece[:size], checksum)
    return checksum


def _note(file: Path) -> Path:
    return file.with_suffix(".json")


NEAR_DUPLICATE_PIXELS = PixelSettings((224, 288), "stretch")


def near_duplicate_embedder(interim_dir: Path, mapper: Mapper | None = None) -> Embed:
    """Return a function that embeds photos with the pretrained EfficientNet-Lite0, for which the similarity threshold was chosen.

    Args:
        interim_dir: the caches' folder.
        mapper: as of `embeddings`.
    """

    def embed(photos: Sequence[Photo], root: Path) -> Embeddings:
        backbone = EmbeddingBackbone(build_network("efficientnet_lite0", 2))
        return embeddings(photos, root, backbone, NEAR_DUPLICATE_PIXELS, interim_dir, mapper)

    return embed


@dataclass(frozen=True)
class CachedSplit:
    """Shapes of a split's pixels, (N, H, W, 3), and embeddings, (N, D)."""

    split: Split
    pixels: tuple[int, ...]
    embeddings: tuple[int, ...]


@dataclass(frozen=True)
class CachedFeatures(Result):
    """The cached arrays of each split, and the architecture that computed the embeddings."""

    architecture: str
    splits: tuple[CachedSplit, ...]

    def for_people(self) -> Iterator[Shown]:
        """Yield a line per split."""
        for cached in self.splits:
            shapes = f"pixels {cached.pixels}, embeddings {cached.embeddings}"
            yield f"{cached.split}: {shapes} of {self.architecture}"

    def as_json(self) -> dict[str, Any]:
        """Return the architecture and the shapes."""
        return asdict(self)


def build_features(settings: FeatureSettings, mapper: Mapper | None = None) -> CachedFeatures:
    """Compute the pixel caches and embeddings of a prepared data set, in this process or where `mapper` does.

    Raises:
        DatasetError: the data set is not prepared, or damaged.
        CacheError: a cache is damaged, or none can be written.
    """
    if writable(settings.interim_dir) != settings.interim_dir:
        hint = "Make it writable, or name another folder with --data-dir. Other commands do without caches."
        raise CacheError(f"{settings.interim_dir} cannot be written, where the caches belong.", hint)
    manifest = read_manifest(settings.processed_dir / settings.name)
    caches = SplitCaches(
        manifest, PixelSettings(settings.input_size, settings.resize_mode), settings.interim_dir, mapper
    )
    network = build_network(
        settings.architecture, len(manifest.labels), settings.pretrained, settings.weights
    )
    backbone = EmbeddingBackbone(network)
    cached = []
    for split in SPLITS:
        pixels, vectors = caches.pixels(split), caches.embeddings(split, backbone)
        cached.append(CachedSplit(split, pixels.shape, vectors.shape))
    return CachedFeatures(settings.architecture, tuple(cached))


if __name__ == "__main__":
    import sys
    from pkgutil import resolve_name

    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    run = resolve_name(
        "image_classification_trash.cli:run_features"
    )  # above this layer: it knows the engines
    sys.exit(carry_out("features", lambda: load_settings(FeatureSettings, sys.argv[1:]), run))
