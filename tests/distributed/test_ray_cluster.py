"""On a Ray cluster of two nodes every photo is answered once, whatever is killed; a cluster that was not named is not joined."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.commands import CLI, GUARD, command
from helpers.killer import KILLER, SLOW
from helpers.patient import wait_until
from helpers.photos import encoded, picture
from helpers.ray_nodes import ATTEMPTS, TOKEN, TwoNodes, kill, two_nodes

pytestmark = pytest.mark.slow
DISTINCT = 12


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


def predict(folder: Path, answers: str, *more: str) -> subprocess.Popen[str]:
    """Start a driver, outside of the cluster: it does not obey the killer."""
    line = [*CLI, "predict", "--shards", "shards", "--parquet", answers, "--json", *more]
    here = str(Path(__file__).parents[2])
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **TOKEN, "PYTHONPATH": paths}
    return subprocess.Popen(
        line, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def result(folder: Path, answers: str, *more: str, status: int = 0) -> dict[str, Any]:
    """Run a driver, again where Ray does not start, and return its result."""
    for _ in range(ATTEMPTS):
        driver = predict(folder, answers, *more)
        output, errors = driver.communicate(timeout=GUARD)
        if "does not start" not in errors and "cannot be reached" not in errors:
            break
    assert driver.returncode == status, errors
    found: dict[str, Any] = json.loads(output)
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
    driver = predict(tmp_path, *arguments)
    wait_until(lambda: driver.poll() is not None or _is_at_work(cluster, tmp_path / "answers"))
    assert driver.poll() is None, driver.communicate()
    if victim == "driver":
        kill([driver.pid])
        driver.communicate()
        found = result(tmp_path, *arguments)
        assert 1 <= found["answered_before"] < 40
    else:
        kill(cluster.actors() if victim == "actor" else cluster.processes())
        output, errors = driver.communicate(timeout=GUARD)
        assert driver.returncode == 0, errors
        found = json.loads(output)
        assert found["answered_before"] == 0 and found["lost_processes"] >= 1
    assert (found["shards"], found["photos"], found["unreadable"]) == (40, 240, 0)
    assert names_in(tmp_path / "answers") == names and not any(
        row["error"] for row in rows_in(tmp_path / "answers")
    )
    if victim == "node":
        cluster.replace_second()


def _is_at_work(cluster: TwoNodes, answers: Path) -> bool:
    return bool(cluster.actors()) and len(list(answers.glob("*.parquet"))) > 1
