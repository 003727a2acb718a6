"""Shards: Parquet files that list the photos of a folder, a list or a bucket, a fixed number in each.

trash-classifier shards s3://bucket/photos --output s3://bucket/shards --shard-photos 10000
trash-classifier predict --shards s3://bucket/shards --parquet s3://bucket/answers

`000000.parquet`, `000001.parquet`, ... hold a column `path`; a name that is not UTF-8 stands as bytes in `raw` too.
`_shards.json` is written last: without it, a listing was not finished.
"""

import hashlib
import heapq
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from image_classification_trash.config.data import ShardsSettings
from image_classification_trash.distributed.stores import (
    UNFINISHED,
    Folder,
    Store,
    absolute,
    is_bucket,
    store_at,
)
from image_classification_trash.errors import SettingsError, ShardError
from image_classification_trash.files import as_text, atomic_directory, only_writer, parse_json
from image_classification_trash.inference.images import NAMED_AS, PHOTO_SUFFIXES
from image_classification_trash.inference.prediction_table import arrow_and_parquet
from image_classification_trash.inference.web_photos import is_url
from image_classification_trash.models.predict_model import listed_names
from image_classification_trash.show import Note, Result, Shown

INDEX = "_shards.json"
SUFFIX = ".parquet"
RUN, RUNS = 300_000, 128
"""Names that are sorted in memory, and sorted files that are open at a time."""
MOST_SHARDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard: its number, and the SHA-256 of the names in it."""

    number: int
    digest: str

    @property
    def name(self) -> str:
        """Return the name of its file, and of the file with its answers."""
        return f"{self.number:06d}{SUFFIX}"


@dataclass(frozen=True)
class ShardIndex:
    """What a folder of shards holds.

    Attributes:
        source: the folder, list or bucket that was listed.
        photos: number of photos in all shards.
        shard_photos: number of photos in each shard but the last.
        digests: SHA-256 of the names in each shard, by number.
    """

    source: str
    photos: int
    shard_photos: int
    digests: tuple[str, ...]

    def shards(self) -> Iterator[Shard]:
        """Yield the shards in order."""
        return (Shard(number, digest) for number, digest in enumerate(self.digests))

    def photos_in(self, number: int) -> int:
        """Return the number of photos in a shard."""
        return min(self.shard_photos, self.photos - number * self.shard_photos)


@dataclass(frozen=True)
class ShardsListed(Result):
    """Shards on disk or in a bucket: where they are, their number and that of their photos."""

    output: str
    shards: int
    photos: int

    def for_people(self) -> Iterator[Shown]:
        """Yield the place and the counts, for standard error."""
        yield Note(f"{self.output}: {self.shards:,} shards with {self.photos:,} photos")

    def as_json(self) -> dict[str, Any]:
        """Return the place and the counts."""
        return asdict(self)


def list_as_shards(settings: ShardsSettings) -> ShardsListed:
    """List the photos that the settings name, in memory that does not grow with their number.

    Photos of a folder or bucket are sorted by name; those of a list keep their order.

    Raises:
        SettingsError: there are no photos, or the output holds something already.
        StoreError: a bucket fails.
        BusyError: another process writes the same folder.
    """
    arrow_and_parquet()  # fail now, not after an hour of listing
    source = absolute(settings.source)
    with photos_of(source) as names, empty_store(settings.output) as output:
        index = write_shards(tqdm(names, desc="list", unit="photo"), output, settings.shard_photos, source)
    return ShardsListed(settings.output, len(index.digests), index.photos)


def write_shards(names: Iterable[str], output: Store, shard_photos: int, source: str) -> ShardIndex:
    """Write the names, in their order, as shards into an empty store, and the index last.

    Raises:
        SettingsError: there are no names, or more shards than `MOST_SHARDS`.
    """
    coming, photos, digests = iter(names), 0, list[str]()
    while names_of_shard := list(islice(coming, shard_photos)):
        if len(digests) == MOST_SHARDS:
            raise SettingsError(f"There are more than {MOST_SHARDS:,} shards.", "Raise --shard-photos.")
        shard = Shard(len(digests), _digest(names_of_shard))
        output.write(shard.name, names_as_parquet(names_of_shard))
        digests.append(shard.digest)
        photos += len(names_of_shard)
    if not photos:
        raise SettingsError(f"{as_text(source)} holds no photos.", NAMED_AS)
    index = ShardIndex(as_text(source), photos, shard_photos, tuple(digests))
    output.write(INDEX, json.dumps(asdict(index)).encode())
    return index


def read_index(location: str) -> ShardIndex:
    """Read which shards a folder or bucket holds.

    Raises:
        SettingsError: it holds no shards, or its listing was not finished.
    """
    hint = f"Make it with: trash-classifier shards SOURCE --output {location}"
    try:
        fields = parse_json(store_at(absolute(location)).read(INDEX))
        return ShardIndex(**{**fields, "digests": tuple(fields["digests"])})
    except (FileNotFoundError, NotADirectoryError) as error:
        found = f"{location} holds no shards, or their listing was not finished: {INDEX} is missing."
        raise SettingsError(found, hint) from error
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(f"{location}: {INDEX} is damaged.", hint) from error


def read_shard(store: Store, shard: Shard) -> list[str]:
    """Return the paths and addresses of a shard's photos.

    Raises:
        ShardError: the shard is missing, damaged, or not the one that was listed.
    """
    arrow, parquet = arrow_and_parquet()
    hint = "List the photos again into a new folder."
    try:
        table = parquet.read_table(io.BytesIO(store.read(shard.name)))
        raw = table["raw"].to_pylist() if "raw" in table.column_names else [None] * len(table)
        pairs = zip(table["path"].to_pylist(), raw, strict=True)
        names = [path if name is None else os.fsdecode(name) for path, name in pairs]
    except (FileNotFoundError, KeyError, arrow.ArrowException) as error:
        raise ShardError(f"The shard {store.full(shard.name)} is missing or damaged.", hint) from error
    if _digest(names) != shard.digest:
        raise ShardError(f"The shard {store.full(shard.name)} changed since it was listed.", hint)
    return names


def in_order(names: Iterable[str], run: int = RUN, runs: int = RUNS) -> Iterator[str]:
    """Yield names sorted, in memory for `run` of them: sorted runs lie in temporary files and are merged."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        coming, files = iter(names), list[Path]()

        def written(ordered: Iterable[str]) -> Path:
            handle, name = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.writelines(json.dumps(name) + "\n" for name in ordered)  # a name may hold line breaks
            return Path(name)

        while first := sorted(islice(coming, run)):
            if not files and len(first) < run:
                yield from first
                return
            files.append(written(first))
            del first
            if len(files) == runs:
                with ExitStack() as open_now:
                    merged = written(heapq.merge(*(_lines(file, open_now) for file in files)))
                for file in files:
                    file.unlink()
                files = [merged]
        yield from heapq.merge(*(_lines(file, opened) for file in files))


def _lines(file: Path, opened: ExitStack) -> Iterator[str]:
    return map(json.loads, opened.enter_context(file.open(encoding="ascii")))


@contextmanager
def photos_of(source: str) -> Iterator[Iterable[str]]:
    """Yield the photos of a folder or bucket, sorted, or those of a list, in its order."""
    path = Path(source)
    if is_bucket(source) or path.is_dir():
        store = store_at(source)
        found = (file.name for file in store.files())
        names = (name for name in found if os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES)  # noqa: PTH122
        yield in_order(map(store.full, names))
    elif is_url(source) or path.suffix.lower() in PHOTO_SUFFIXES or not path.exists():
        wrong = "is a photo" if path.exists() else "is neither a folder, nor a list, nor a bucket"
        raise SettingsError(
            f"{as_text(source)} {wrong}.", "Give a folder, a list with one path a line, or s3://..."
        )
    else:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            yield map(absolute, listed_names(file))


@contextmanager
def empty_store(location: str) -> Iterator[Store]:
    """Yield the store that shards are written to; a folder comes into being with all of them.

    Raises:
        SettingsError: it holds something that an unfinished listing did not leave.
    """
    hint = "Name another output, or delete it first."
    if is_bucket(location):
        store = store_at(location)
        for file in store.files():
            if file.name == INDEX:
                raise SettingsError(f"{location} holds shards already.", hint)
            if not is_shard_name(file.name):
                raise SettingsError(f"{location} holds other files: {file.name}.", hint)
        yield store
        return
    path = Path(absolute(location))
    with only_writer(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            found = "holds shards already" if (path / INDEX).exists() else "exists already"
            raise SettingsError(f"{location} {found}.", hint)
        with atomic_directory(path) as temporary:
            yield Folder(temporary)
            (temporary / UNFINISHED).rmdir()


def is_shard_name(name: str) -> bool:
    """Return whether a file is named as a shard and its answers are."""
    stem = name.removesuffix(SUFFIX)
    return name.endswith(SUFFIX) and len(stem) == 6 and stem.isascii() and stem.isdigit()


def names_as_parquet(names: list[str]) -> bytes:
    """Return names as a Parquet file, with the bytes of those that are not UTF-8."""
    arrow, parquet = arrow_and_parquet()
    texts = [as_text(name) for name in names]
    raw = [os.fsencode(name) if text != name else None for name, text in zip(names, texts, strict=True)]
    columns = {"path": arrow.array(texts, arrow.string())}
    if any(raw):
        columns["raw"] = arrow.array(raw, arrow.binary())
    sink = io.BytesIO()
    parquet.write_table(arrow.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _digest(names: list[str]) -> str:
    total = hashlib.sha256()
    for name in names:
        total.update(os.fsencode(name) + b"\0")
    return total.hexdigest()
