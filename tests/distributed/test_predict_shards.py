"""Shards are answered whole or not at all, every photo once and in order, by the model that began."""

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.commands import CLI, GUARD, command
from helpers.killer import KILLER, environment_with_killer

from image_classification_trash.distributed import shard_work
from image_classification_trash.distributed.shard_work import ShardJob, ShardWork
from image_classification_trash.distributed.shards import Shard, write_shards
from image_classification_trash.distributed.stores import Folder, repeated
from image_classification_trash.errors import StoreError
from image_classification_trash.inference.images import photo_bytes

SAMPLE = Path(__file__).parents[2] / "data" / "sample" / "test"


def some_photos(folder: Path, many: int = 7) -> Path:
    folder.mkdir()
    for number, photo in enumerate(sorted(SAMPLE.rglob("*.jpg"))[:many]):
        shutil.copy(photo, folder / f"{number}.jpg")
    return folder


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def listed(folder: Path, shard_photos: int = 3) -> None:
    command(folder, "shards", "photos", "--output", "shards", "--shard-photos", str(shard_photos))


def test_answers_equal_those_of_predict(tmp_path: Path) -> None:
    photos = some_photos(tmp_path / "photos")
    (photos / "5.jpg").write_bytes(b"no photo")
    listed(tmp_path)
    (photos / "6.jpg").unlink()
    done = command(tmp_path, "predict", "--shards", "shards", "--parquet", "answers", "--json", status=3)
    assert json.loads(done.stdout) == {
        "answers": "answers", "shards": 3, "photos": 7, "unreadable": 2, "answered_before": 0, "lost_processes": 0,
    }  # fmt: skip
    names = [str(photos / f"{number}.jpg") for number in range(7)]
    command(tmp_path, "predict", *names, "--parquet", "one.parquet", status=3)
    assert rows_in(tmp_path / "answers") == pq.read_table(tmp_path / "one.parquet").to_pylist()
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == [
        "000000.parquet",
        "000001.parquet",
        "000002.parquet",
    ]
    metadata = pq.read_metadata(tmp_path / "answers" / "000001.parquet").metadata
    shards = json.loads((tmp_path / "shards" / "_shards.json").read_text())
    assert metadata[b"shard"].decode() == shards["digests"][1] and len(metadata[b"model"]) == 64


def test_only_shards_without_an_answer_are_answered(tmp_path: Path) -> None:
    some_photos(tmp_path / "photos")
    listed(tmp_path)
    run = ("predict", "--shards", "shards", "--parquet", "answers")
    command(tmp_path, *run)
    answers, before = tmp_path / "answers", rows_in(tmp_path / "answers")
    (answers / "000001.parquet").unlink()
    kept = (answers / "000000.parquet").stat().st_mtime_ns
    assert "3 shards, 2 of them before; 7 photos" in command(tmp_path, *run).stderr
    assert rows_in(answers) == before and (answers / "000000.parquet").stat().st_mtime_ns == kept


def test_another_model_and_other_shards_are_refused(tmp_path: Path) -> None:
    photos = some_photos(tmp_path / "photos", 3)
    listed(tmp_path)
    run = ("predict", "--shards", "shards", "--parquet", "answers")
    command(tmp_path, *run)
    other = command(tmp_path, *run, "--max-pixels", "50000000", status=2)
    assert "max_pixels default -> 50000000" in other.stderr
    (photos / "0.jpg").rename(photos / "00.jpg")
    shutil.rmtree(tmp_path / "shards")
    listed(tmp_path)
    assert "shard " in command(tmp_path, *run, status=2).stderr
    (tmp_path / "answers" / "notes.txt").touch()
    assert "notes.txt is no answer to a shard" in command(tmp_path, *run, status=2).stderr


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    done = command(tmp_path, "predict", "--shards", "none", "--parquet", "answers", status=2)
    assert "holds no shards, or their listing was not finished" in done.stderr
    assert not (tmp_path / "answers").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["a.jpg", "--parquet", "x"], "--shards takes no photos"),
        ([], "needs --parquet"),
        (["--parquet", "x", "--actors", "2"], "need --engine ray"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, more: list[str], words: str) -> None:
    assert words in command(tmp_path, "predict", "--shards", "m", *more, status=2).stderr


def test_ray_needs_shards(tmp_path: Path) -> None:
    assert "need --shards" in command(tmp_path, "predict", "a.jpg", "--engine", "ray", status=2).stderr


@pytest.mark.parametrize(
    ("index", "completions"), [("0", ""), ("", "2"), ("2", "2"), ("-1", "2"), ("one", "2"), ("0", "0")]
)
def test_a_part_that_is_not_numbered_is_refused(tmp_path: Path, index: str, completions: str) -> None:
    given = {"JOB_COMPLETION_INDEX": index, "JOB_COMPLETIONS": completions}
    line = ("predict", "--shards", "m", "--parquet", "a", "--engine", "indexed")
    done = command(tmp_path, *line, status=2, environment=given)
    assert f"JOB_COMPLETION_INDEX is '{index}', JOB_COMPLETIONS '{completions}'" in done.stderr


def test_the_indexes_of_a_job_answer_every_shard_once_and_resume(tmp_path: Path) -> None:
    """As pods do that share a folder: at the same time, one of them twice, more of them than shards of a part."""
    some_photos(tmp_path / "photos", 7)
    listed(tmp_path, 2)
    line = [*CLI, "predict", "--shards", "shards", "--parquet", "answers", "--engine", "indexed", "--json"]

    def pod(index: int, completions: int = 3) -> subprocess.Popen[str]:
        given = {"JOB_COMPLETION_INDEX": str(index), "JOB_COMPLETIONS": str(completions)}
        return subprocess.Popen(
            line, cwd=tmp_path, env={**os.environ, **given}, stdout=subprocess.PIPE, text=True
        )

    def result(running: subprocess.Popen[str]) -> dict[str, Any]:
        output, _ = running.communicate(timeout=GUARD)
        assert running.returncode == 0
        return dict[str, Any](json.loads(output))

    answers = tmp_path / "answers"
    first = result(pod(0))
    assert (first["shards"], first["photos"], first["answered_before"]) == (2, 3, 0)
    assert sorted(path.name for path in answers.glob("*.parquet")) == ["000000.parquet", "000003.parquet"]
    (answers / "000003.parquet").unlink()
    kept = (answers / "000000.parquet").stat().st_mtime_ns
    found = [result(running) for running in [pod(0), pod(1), pod(2)]]
    assert [(it["shards"], it["photos"], it["answered_before"]) for it in found] == [
        (2, 3, 1),
        (1, 2, 0),
        (1, 2, 0),
    ]
    assert (answers / "000000.parquet").stat().st_mtime_ns == kept
    assert [Path(row["path"]).name for row in rows_in(answers)] == [f"{number}.jpg" for number in range(7)]
    idle = result(pod(8, 9))
    assert (idle["shards"], idle["photos"]) == (0, 0)
    whole = command(tmp_path, "predict", "--shards", "shards", "--parquet", "answers")
    assert "4 shards, 4 of them before; 7 photos" in whole.stderr
    assert sorted(path.name for path in answers.iterdir()) == [
        f"00000{number}.parquet" for number in range(4)
    ]


def test_a_photo_that_ends_its_process_is_a_row(tmp_path: Path) -> None:
    photos = some_photos(tmp_path / "photos", 4)
    (photos / "1.jpg").rename(photos / KILLER)
    listed(tmp_path, 4)
    line = [*CLI, "predict", "--shards", "shards", "--parquet", "answers", "--json"]
    environment = environment_with_killer(tmp_path)
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=GUARD, check=False)  # fmt: skip
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert result["unreadable"] == 1 and result["lost_processes"] == 3
    errors = {Path(row["path"]).name: row["error"] for row in rows_in(tmp_path / "answers")}
    assert list(errors) == ["0.jpg", "2.jpg", "3.jpg", KILLER] and list(errors.values())[:3] == [None] * 3
    assert errors[KILLER] == "It ended the process that read it, 2 times: SIGKILL."


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    some_photos(tmp_path / "photos", 7)
    listed(tmp_path, 1)
    line = [*CLI, "predict", "--shards", "shards", "--parquet", "answers"]
    running = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + GUARD
    while not list(tmp_path.glob("answers/*.parquet")) and time.monotonic() < end:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    command(tmp_path, *line[len(CLI) :])
    names = [Path(row["path"]).name for row in rows_in(tmp_path / "answers")]
    assert names == [f"{number}.jpg" for number in range(7)]
    found = [path.name for path in (tmp_path / "answers").iterdir()]
    assert all(name.endswith(".parquet") or name.startswith("_") for name in found)


def test_an_error_of_the_disk_fails_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never becomes a row: a network file system that is gone says nothing about a photo."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    photos = some_photos(tmp_path / "photos", 2)
    (shard,) = write_shards(map(str, sorted(photos.iterdir())), Folder(tmp_path / "m"), 10, "x").shards()
    work = ShardWork(ShardJob(str(tmp_path / "m"), str(tmp_path / "a"), "shipped"))
    healthy, asked = Path.open, []

    def failing(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == "1.jpg" and len(asked) < 5:
            asked.append(path)
            raise OSError(errno.ESTALE, "stale file handle")
        return healthy(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", failing)
    outcome = work(shard)
    assert outcome.failure and "fails, after 3 attempts" in outcome.failure
    assert not (tmp_path / "a").exists()
    assert work(shard).photos == 2, "the disk is back"
    assert [row["error"] for row in rows_in(tmp_path / "a")] == [None, None]


def test_what_is_repeated_ends() -> None:
    tries: list[int] = []

    def fails() -> None:
        tries.append(1)
        raise OSError(errno.EIO, "i/o error")

    with pytest.raises(StoreError, match="i/o error"):
        repeated(fails, lambda error: True, "x")
    assert len(tries) == 3


def test_a_shard_of_another_listing_fails(tmp_path: Path) -> None:
    write_shards(["/a.jpg"], Folder(tmp_path / "m"), 10, "x")
    work = ShardWork(ShardJob(str(tmp_path / "m"), str(tmp_path / "a"), "shipped"))
    assert "changed since it was listed" in str(work(Shard(0, "0" * 64)).failure)


def test_photo_bytes_names_the_cause() -> None:
    """What `wait_for_disk` relies on."""
    assert shard_work.photo_bytes is photo_bytes
    with pytest.raises(Exception) as found:  # noqa: PT011
        photo_bytes("/missing.jpg")
    assert isinstance(found.value.__cause__, FileNotFoundError)


@pytest.mark.slow
@pytest.mark.parametrize("attempts", [3])
def test_ray_answers_as_the_embedded_engine_does(tmp_path: Path, attempts: int) -> None:
    pytest.importorskip("ray")
    photos = some_photos(tmp_path / "photos", 7)
    (photos / "3.jpg").rename(photos / KILLER)
    listed(tmp_path, 2)
    environment = environment_with_killer(tmp_path)
    for engine in (["--engine", "ray", "--actors", "2"], []):
        line = [
            *CLI,
            "predict",
            "--shards",
            "shards",
            "--parquet",
            f"answers{len(engine)}",
            *engine,
            "--json",
        ]
        for _ in range(attempts):  # Ray's start fails at times on a busy machine
            done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=GUARD, check=False)  # fmt: skip
            if done.returncode == 3:
                break
        assert done.returncode == 3, done.stderr
        assert json.loads(done.stdout)["lost_processes"] == 3
    on_ray, embedded = rows_in(tmp_path / "answers4"), rows_in(tmp_path / "answers0")
    assert on_ray == embedded and [bool(row["error"]) for row in on_ray].count(True) == 1
