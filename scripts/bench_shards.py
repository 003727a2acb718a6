"""Measure what shards and Ray cost beside `predict`: computing a photo, the start, the command's memory, the time after a kill.

    python scripts/bench_shards.py ../shared/trashnet/dataset-resized.zip --photos 20000 --distinct 300
    python scripts/bench_shards.py ../shared/trashnet/dataset-resized.zip --width 128 --model small.tflite
    python scripts/bench_shards.py --only driver kills

`photos` links few distinct photos often and has them answered by `predict`, by shards without Ray and by shards on Ray, all
three at the same time, so that other work on the machine slows them alike. Computing is that of all processes below the
command, Ray's too; the start is a run on one photo, and is subtracted. `driver` is the growth of the command's process while a
stub answers 10,000 shards on Ray. `kills` ends an actor, or a node of a cluster of two.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from image_classification_trash.distributed import ray_engine
from image_classification_trash.distributed.shard_work import Outcome, ShardJob
from image_classification_trash.distributed.shards import Shard

CLI = [sys.executable, "-m", "image_classification_trash", "predict"]
RAY = ("--engine", "ray", "--actors", "2")
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "test"


def below(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


@dataclass
class Cost:
    """Computing and duration, in seconds, and memory, in MiB, of a command and all processes below it, some of which have ended."""

    seconds_of: dict[tuple[int, str], float] = field(default_factory=dict)
    name_of: dict[tuple[int, str], str] = field(default_factory=dict)
    memory: float = 0
    wall: float = 0

    waited_for: float = 0
    """Seconds of the command and of those below it that it waited for, exactly, once it has ended."""

    @property
    def seconds(self) -> float:
        return max(self.waited_for, sum(self.seconds_of.values()))

    def by_name(self) -> dict[str, float]:
        """Seconds of the processes of each name, the most first."""
        found: dict[str, float] = {}
        for process, seconds in self.seconds_of.items():
            name = self.name_of.get(process, "")
            found[name] = found.get(name, 0) + seconds
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def beside_actors(self) -> float:
        """Seconds of the command and of Ray itself."""
        names = self.by_name()
        return sum(names.values()) - names.get("ray::ShardActor", 0)

    def look(self, pid: int) -> None:
        memory = 0
        for each in below(pid):
            with suppress(OSError, IndexError):
                fields = Path(f"/proc/{each}/stat").read_text().rpartition(") ")[2].split()
                self.seconds_of[each, fields[19]] = (int(fields[11]) + int(fields[12])) / TICKS
                self.name_of[each, fields[19]] = name_of(each) or self.name_of.get((each, fields[19]), "")
                shares = Path(f"/proc/{each}/smaps_rollup").read_text().split("\nPss:")[1]
                memory += int(shares.split()[0])
        self.memory = max(self.memory, memory / 1024)


def costs(runs: dict[str, list[str]], folder: Path) -> dict[str, Cost]:
    """Run commands at the same time and return what each cost."""
    found, began = {name: Cost() for name in runs}, time.monotonic()
    running = {
        name: subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=(folder / f"{name}.log").open("w"))
        for name, line in runs.items()
    }  # fmt: skip
    while running:
        for name, process in list(running.items()):
            found[name].look(process.pid)
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                assert status == 0, (folder / f"{name}.log").read_text()[-2000:]
                found[name].waited_for = usage.ru_utime + usage.ru_stime
                found[name].wall = time.monotonic() - began
                process.returncode = 0
                del running[name]
        time.sleep(0.2 if len(running) == 1 else 1)
    return found


def narrowed(content: bytes, width: int | None) -> bytes:
    """A photo at a width, where one is given."""
    if width is None:
        return content
    photo, made = Image.open(io.BytesIO(content)), io.BytesIO()
    photo.resize((width, photo.height * width // photo.width)).save(made, "JPEG", quality=90)
    return made.getvalue()


def write_photos(
    archive: Path | None, folder: Path, distinct: int, photos: int, width: int | None = None
) -> None:
    """Write a folder `photos` of links to distinct photos, and shards of one and of all of them."""
    (folder / "distinct").mkdir()
    if archive is None:
        contents = [photo.read_bytes() for photo in sorted(SAMPLE.rglob("*.jpg"))[:distinct]]
    else:
        with zipfile.ZipFile(archive) as opened:
            names = sorted(
                name for name in opened.namelist() if name.endswith(".jpg") and "__MACOSX" not in name
            )
            contents = [opened.read(name) for name in names[:: max(1, len(names) // distinct)]]
    for number, content in enumerate(contents):
        (folder / "distinct" / f"{number}.jpg").write_bytes(narrowed(content, width))
    for name, count in (("one", 1), ("all", photos)):
        (folder / name).mkdir()
        for number in range(count):
            os.link(
                folder / "distinct" / f"{number % len(contents)}.jpg", folder / name / f"{number:06d}.jpg"
            )
        line = [*CLI[:-1], "shards", name, "--output", f"shards-{name}", "--shard-photos", "500"]
        subprocess.run(line, cwd=folder, check=True, capture_output=True)


def lines(name: str, model: Path | None) -> dict[str, list[str]]:
    """The three ways to answer the photos of a folder."""
    begin = [*CLI] if model is None else [*CLI, "--model", str(model.absolute())]
    shards = [*begin, "--shards", f"shards-{name}", "--parquet"]
    return {
        "predict": [*begin, name, "--csv", f"{name}.csv"],
        "shards": [*shards, f"answers-{name}"],
        "ray": [*shards, f"answers-{name}-ray", *RAY],
    }


def measure_photos(
    archive: Path | None, distinct: int, photos: int, width: int | None, model: Path | None
) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_photos(archive, folder, distinct, photos, width)
        start = {name: costs({name: line}, folder)[name] for name, line in lines("one", model).items()}
        for name, cost in start.items():
            yield f"{name}, one photo: {cost.seconds:.1f} CPU s, {cost.memory:.0f} MiB"
        rest = costs(lines("all", model), folder)
        each = {name: (cost.seconds - start[name].seconds) / (photos - 1) for name, cost in rest.items()}
        for name, seconds in each.items():
            ratio = f"{seconds / each['predict']:.3f} times predict"
            yield f"{name}, {photos:,} photos: {rest[name].seconds:.1f} CPU s, {1000 * seconds:.2f} ms of CPU a photo, {ratio}; {rest[name].memory:.0f} MiB"
        for name, seconds in rest["ray"].by_name().items():
            if seconds >= 0.1:
                yield f"ray: {seconds:.1f} CPU s of {name}"
        seconds = rest["ray"].beside_actors() - start["ray"].beside_actors()
        share = seconds / (rest["ray"].wall - start["ray"].wall)
        yield f"ray: all but its actors took {share:.1%} of a core after the start, however little the run got done meanwhile"


class StubActor:
    """Answers shards of 10,000 photos without reading any."""

    def __init__(self, job: ShardJob) -> None:
        pass

    def start(self) -> None:
        pass

    def answer(self, shard: Shard, carefully: bool) -> Outcome:
        return Outcome(shard, 10_000)


def resident() -> float:
    """The memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_driver(shards: int = 10_000) -> Iterator[str]:
    ray_engine.ShardActor = StubActor  # type: ignore[assignment, misc]
    made_up = (Shard(number, "0" * 64) for number in range(shards))
    job, begin, photos = ShardJob("shards", "answers", "shipped"), 0.0, 0
    for number, outcome in enumerate(ray_engine.answer_on_ray(job, made_up, None, 2)):
        begin = begin or resident()
        photos += outcome.photos
        if number % (shards // 4) == shards // 4 - 1:
            yield f"driver, {number + 1:,} shards: {resident() - begin:+.1f} MiB since the first"
    assert photos == 10_000 * shards


def measure_kills(photos: int = 1200) -> Iterator[str]:
    """End an actor, then a node, when some shards are answered."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    raylet: int = second.all_processes["raylet"][0].process.pid
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_photos(None, folder, 72, photos)
        line = [*CLI[:-1], "shards", "all", "--output", "small", "--shard-photos", "20"]
        subprocess.run(line, cwd=folder, check=True, capture_output=True)
        for victim in ("nobody", "actor", "node"):
            line = [
                *CLI,
                "--shards",
                "small",
                "--parquet",
                f"answers-{victim}",
                "--json",
                *RAY,
                "--address",
                cluster.address,
            ]
            running = subprocess.Popen(
                line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            while len(list(folder.glob(f"answers-{victim}/*.parquet"))) < 5:
                assert running.poll() is None
                time.sleep(0.05)
            killed, clock = below(raylet), time.monotonic()
            if victim == "actor":
                killed = [pid for pid in killed if is_actor(pid)]
            for pid in killed if victim != "nobody" else ():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            result = json.loads(running.communicate()[0])
            assert result["photos"] == photos and result["unreadable"] == 0
            yield f"{victim} killed: {time.monotonic() - clock:.0f} s to the end, {result['lost_processes']} lost processes"
    cluster.shutdown()


def is_actor(pid: int) -> bool:
    return name_of(pid) == "ray::ShardActor"


def name_of(pid: int) -> str:
    """What a process is called in the table: the class of an actor, the program or its script."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return ""
    if words[0].startswith("ray::"):
        return words[0].split()[0].partition(".")[0]
    named = [word for word in words[1:] if word.endswith(".py") or word == "image_classification_trash"]
    return Path(named[0] if named and "python" in words[0] else words[0]).name


def main() -> None:
    """Measure what is asked for and print a line each."""
    os.environ.update(RAY_worker_niceness="0")  # else Ray's processes wait for all others
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", nargs="?", type=Path, help="zip of photos; without one, the sample")
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--distinct", type=int, default=300)
    parser.add_argument(
        "--width", type=int, help="of the photos in pixels; smaller ones show more of what shards cost"
    )
    parser.add_argument("--model", type=Path, help="instead of the shipped one")
    parser.add_argument("--kill-photos", type=int, default=1200, help="in shards of 20, for the kills")
    parts = ("photos", "driver", "kills")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    arguments = parser.parse_args()
    measures: dict[str, Callable[[], Iterator[Any]]] = {
        "photos": lambda: measure_photos(
            arguments.archive, arguments.distinct, arguments.photos, arguments.width, arguments.model
        ),
        "driver": measure_driver,
        "kills": lambda: measure_kills(arguments.kill_photos),
    }
    for name in arguments.only:
        for line in measures[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main()
