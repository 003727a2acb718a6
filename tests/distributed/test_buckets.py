"""Photos, shards and answers in object storage: rows for what is missing or forbidden, repeats for what fails."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.commands import command
from helpers.s3 import Bucket, s3

from image_classification_trash.distributed import shard_work, stores
from image_classification_trash.distributed.shard_work import FetchedPhoto
from image_classification_trash.distributed.stores import store_at
from image_classification_trash.errors import PhotoTooLargeError, StoreError

pytest.importorskip("obstore")
SAMPLE = Path(__file__).parents[2] / "data" / "sample" / "test"
ENDLESS = [503]
SHARDS = ("shards", "s3://b/photos", "--output", "s3://b/shards", "--shard-photos", "3")
PREDICT = ("predict", "--shards", "s3://b/shards", "--parquet", "s3://b/answers")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    bucket = Bucket()
    for number, photo in enumerate(sorted(SAMPLE.rglob("*.jpg"))[:6]):
        bucket.objects[f"photos/{number} é.jpg"] = photo.read_bytes()
    bucket.objects["photos/notes.txt"] = b"no photo"
    with s3(bucket) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store_at.cache_clear()
        yield bucket
    store_at.cache_clear()


def rows_in(bucket: Bucket) -> list[dict[str, Any]]:
    files = [content for key, content in sorted(bucket.objects.items()) if key.startswith("answers/")]
    return [row for content in files for row in pq.read_table(io.BytesIO(content)).to_pylist()]


def test_a_bucket_is_listed_answered_and_resumed(bucket: Bucket, tmp_path: Path) -> None:
    command(tmp_path, *SHARDS)
    bucket.faults["photos/1 é.jpg"] = [403]
    del bucket.objects["photos/2 é.jpg"]
    bucket.faults["photos/3 é.jpg"] = [503, 500, 0, 200]
    bucket.slow["photos/4 é.jpg"] = 1.0
    command(tmp_path, *PREDICT, status=3)
    rows = rows_in(bucket)
    assert [row["path"] for row in rows] == [f"s3://b/photos/{number} é.jpg" for number in range(6)]
    errors = [row["error"] for row in rows]
    assert errors[0] is None, errors
    assert [bool(error) for error in errors] == [False, True, True, False, False, False]
    assert "the store forbids it" in errors[1] and "there is no such object" in errors[2]

    before = bucket.objects.pop("answers/000001.parquet")
    assert "2 shards, 1 of them before" in command(tmp_path, *PREDICT, status=3).stderr
    assert bucket.objects["answers/000001.parquet"] == before
    assert "max_pixels" in command(tmp_path, *PREDICT, "--max-pixels", "9000000", status=2).stderr


def test_a_listing_that_breaks_off_is_an_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is not taken for the end of the listing: no photo after it goes missing without a word."""
    monkeypatch.setitem(stores._RETRIES, "max_retries", 1)
    photos = stores.store_at("s3://b/photos")
    bucket.faults[""] = [200, 503, 503, 200]
    with pytest.raises(StoreError, match="s3://b fails"):
        list(photos.files())
    bucket.faults[""] = [200, 503, 200]
    assert len(list(photos.files())) == 7, "the library itself repeats a request"


def test_a_photo_is_one_request_and_one_that_is_too_large_is_not_fetched(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_work, "MAX_BYTES", 2**20)
    bucket.objects["photos/large.jpg"] = bytes(3 * 2**20)
    whole = shard_work.fetched("s3://b/photos/0 é.jpg")
    assert isinstance(whole, FetchedPhoto) and whole.read() == bucket.objects["photos/0 é.jpg"]
    large = shard_work.fetched("s3://b/photos/large.jpg")
    assert isinstance(large, FetchedPhoto) and not large.getvalue()
    with pytest.raises(PhotoTooLargeError, match=r"large\.jpg has 3 MiB; the limit is 1 MiB"):
        large.read()
    assert bucket.asked == ["photos/0 é.jpg", "photos/large.jpg"]


def test_a_listing_is_refused_or_recovered(bucket: Bucket, tmp_path: Path) -> None:
    command(tmp_path, *SHARDS)
    assert "holds shards already" in command(tmp_path, *SHARDS, status=2).stderr
    whole = {key: content for key, content in bucket.objects.items() if key.startswith("shards/")}
    del bucket.objects["shards/_shards.json"]
    assert "was not finished" in command(tmp_path, *PREDICT, status=2).stderr
    command(tmp_path, *SHARDS)
    assert {key: bucket.objects[key] for key in whole} == whole
    bucket.objects["other/notes.txt"] = b""
    done = command(tmp_path, "shards", "s3://b/photos", "--output", "s3://b/other", status=2)
    assert "holds other files: notes.txt" in done.stderr


@pytest.mark.slow
def test_a_store_that_fails_fails_its_shard_alone(bucket: Bucket, tmp_path: Path) -> None:
    command(tmp_path, *SHARDS)
    bucket.faults["photos/4 é.jpg"] = [503]
    done = command(tmp_path, *PREDICT, status=1)
    assert "1 of 2 shards failed, first 000001.parquet" in done.stderr and len(rows_in(bucket)) == 3
    bucket.faults.clear()
    command(tmp_path, *PREDICT)
    assert len(rows_in(bucket)) == 6 and not any(row["error"] for row in rows_in(bucket))


def test_an_account_that_is_not_configured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        store_at("az://container/photos")
