"""On a Ray cluster of two nodes every photo is answered once, whatever is killed; a cluster that was not named is not joined."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.commands import CLI, GUARD, command
from helpers.killer import KILLER, SLOW
from helpers.patient import wait_until
from helpers.photos import ROOT, encoded, picture
from helpers.ray_nodes import ATTEMPTS, TOKEN, TwoNodes, kill, two_nodes

from image_classification_trash.features.content_cache import read_rows

pytestmark = pytest.mark.slow
DISTINCT = 12
PREDICT = ("predict", "--shards", "shards", "--json", "--parquet")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    pytest.importorskip("ray")
    with two_nodes(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def shards_of(folder: Path, names: list[str], shard_photos: int) -> None:
    """List photos of these names, which are links to few small ones."""
    (folder / "distinct").mkdir()
    for number in range(DISTINCT):
        (folder / "distinct" / f"{number}.jpg").write_bytes(encoded(picture(number, (48, 64))))
    (folder / "photos").mkdir()
    for number, name in enumerate(names):
        os.link(folder / "distinct" / f"{number % DISTINCT}.jpg", folder / "photos" / name)
    command(folder, "shards", "photos", "--output", "shards", "--shard-photos", str(shard_photos))


def driver(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command outside of the cluster: it does not obey the killer."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **TOKEN, "PYTHONPATH": paths}
    return subprocess.Popen(
        [*CLI, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    """Run a command, again where Ray does not start, and return its output and errors."""
    for _ in range(ATTEMPTS):
        running = driver(folder, *arguments)
        output, errors = running.communicate(timeout=GUARD)
        if "does not start" not in errors and "cannot be reached" not in errors:
            break
    assert running.returncode == status, errors
    return output, errors


def result(folder: Path, answers: str, *more: str, status: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ended(folder, *PREDICT, answers, *more, status=status)[0])
    return found


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def names_in(folder: Path) -> list[str]:
    return [Path(row["path"]).name for row in rows_in(folder)]


def test_3000_photos_are_answered_as_without_ray(cluster: TwoNodes, tmp_path: Path) -> None:
    names = [f"{number:04d}.jpg" for number in range(3000)]
    shards_of(tmp_path, names, 250)
    result(tmp_path, "embedded")
    on_ray = result(tmp_path, "ray", "--engine", "ray", "--address", cluster.address, "--actors", "2")
    assert on_ray == {
        "answers": "ray", "shards": 12, "photos": 3000, "unreadable": 0, "answered_before": 0, "lost_processes": 0,
    }  # fmt: skip
    assert names_in(tmp_path / "ray") == names == names_in(tmp_path / "embedded")
    for here, there in zip(rows_in(tmp_path / "embedded"), rows_in(tmp_path / "ray"), strict=True):
        assert {**there, **_numbers(here)} == here, "labels, errors, columns"
        assert _numbers(there) == pytest.approx(_numbers(here), abs=1e-6, rel=0)


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {column: value for column, value in row.items() if isinstance(value, float)}


def test_a_cluster_that_happens_to_run_is_not_joined(cluster: TwoNodes, tmp_path: Path) -> None:
    """Its processes end at a certain photo, all others read it."""
    shards_of(tmp_path, ["0.jpg", KILLER, "z.jpg"], 3)
    ray = ("--engine", "ray", "--actors", "1")
    joined = result(tmp_path, "joined", *ray, "--address", cluster.address, status=3)
    assert joined["unreadable"] == 1 and 2 <= joined["lost_processes"] <= 3
    assert [bool(row["error"]) for row in rows_in(tmp_path / "joined")] == [False, True, False]
    own = result(tmp_path, "own", *ray)
    assert own["unreadable"] == own["lost_processes"] == 0
    assert names_in(tmp_path / "own") == names_in(tmp_path / "joined") == ["0.jpg", KILLER, "z.jpg"]


@pytest.mark.parametrize("victim", ["actor", "driver", "node"])
def test_what_is_killed_costs_no_photo(cluster: TwoNodes, tmp_path: Path, victim: str) -> None:
    names = [f"{number:03d}-{SLOW}" for number in range(240)]
    shards_of(tmp_path, names, 6)
    arguments = ("answers", "--engine", "ray", "--address", cluster.address, "--actors", "2")
    running = driver(tmp_path, *PREDICT, *arguments)
    wait_until(lambda: running.poll() is not None or _is_at_work(cluster, tmp_path / "answers"))
    assert running.poll() is None, running.communicate()
    if victim == "driver":
        kill([running.pid])
        running.communicate()
        found = result(tmp_path, *arguments)
        assert 1 <= found["answered_before"] < 40
    else:
        kill(cluster.busy("ShardActor.answer") if victim == "actor" else cluster.processes())
        output, errors = running.communicate(timeout=GUARD)
        assert running.returncode == 0, errors
        found = json.loads(output)
        assert found["answered_before"] == 0 and found["lost_processes"] >= 1
    assert (found["shards"], found["photos"], found["unreadable"]) == (40, 240, 0)
    assert names_in(tmp_path / "answers") == names and not any(
        row["error"] for row in rows_in(tmp_path / "answers")
    )
    if victim == "node":
        cluster.replace_second()


def _is_at_work(cluster: TwoNodes, answers: Path) -> bool:
    return bool(cluster.busy("ShardActor.answer")) and len(list(answers.glob("*.parquet"))) > 1


def labelled(folder: Path, name: str) -> Path:
    for number in range(40):
        photo = folder / "photos" / "ab"[number % 2] / f"{number}-{name}"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(encoded(picture(number, (48, 64))))
    return folder / "photos"


def made(folder: Path) -> dict[str, bytes]:
    """What `data` and `features` made, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix != ".lock"}


def test_data_and_features_make_the_same_files(cluster: TwoNodes, tmp_path: Path) -> None:
    """Although a process is killed while it hashes photos."""
    (labelled(tmp_path, SLOW) / "a" / "bad.jpg").write_bytes(b"no photo")
    data = ("data", "mine", "--source", "photos", "--no-embeddings", "--data-dir")
    features = ("features", "mine", "--input-height", "64", "--input-width", "64", "--data-dir")
    ray = ("--engine", "ray", "--address", cluster.address, "--actors", "2")
    assert "1 unreadable" in ended(tmp_path, *data, "embedded")[0]
    ended(tmp_path, *features, "embedded")
    running = driver(tmp_path, *data, "ray", *ray)
    wait_until(lambda: running.poll() is not None or bool(cluster.busy("done_with_all")))
    assert running.poll() is None, running.communicate()
    kill(cluster.busy("done_with_all"))
    _, errors = running.communicate(timeout=GUARD)
    assert running.returncode == 0, errors
    ended(tmp_path, *features, "ray", *ray)
    here, there = made(tmp_path / "embedded"), made(tmp_path / "ray")
    assert list(here) == list(there)
    vectors = [name for name in here if name.endswith(".npz")]
    assert [name for name in here if here[name] != there[name] and name not in vectors] == []
    for name in vectors:
        one, other = (read_rows(tmp_path / engine / name, "vectors", name) for engine in ("embedded", "ray"))
        assert list(one) == list(other)
        assert np.stack(list(one.values())) == pytest.approx(np.stack(list(other.values())), abs=1e-5)


def test_a_photo_that_ends_what_hashes_it_is_named(cluster: TwoNodes, tmp_path: Path) -> None:
    labelled(tmp_path, "photo.jpg").joinpath("a", KILLER).write_bytes(encoded(picture(99, (48, 64))))
    ray = ("--engine", "ray", "--address", cluster.address)
    line = ("data", "mine", "--source", "photos", "--no-embeddings", *ray)
    _, errors = ended(tmp_path, *line, status=1)
    assert "3 of Ray's processes ended with" in errors and KILLER in errors
    assert not (tmp_path / "data" / "processed" / "mine").exists()
