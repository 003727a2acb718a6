"""Several sources become one manifest; every file is in it or in problems.csv, with its source and licence."""

import csv
import http.server
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.combined import make_photos, prepare, problems, splits_of, zipped
from helpers.photos import ROOT, SHARED

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.combining import fetching
from image_classification_trash.data.combining.combine import combine
from image_classification_trash.data.combining.known_sets import KNOWN_SETS
from image_classification_trash.data.combining.sources_file import read_sources_file
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.data.manifest import COLUMNS, SOURCE_COLUMNS, read_manifest
from image_classification_trash.errors import ArchiveError, DatasetError, DownloadError
from image_classification_trash.files import sha256_of_file
from image_classification_trash.models.audit_data import near_duplicate_issues


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "street", {"a": 8, "bees": 8, "leaves": 4, "unclear": 3}, 1000)


STREET = {
    "name": "street",
    "path": "street",
    "labels": {"bees": "b", "leaves": "not waste", "unclear": "leave out"},
    "licence": "CC BY 4.0",
    "attribution": "Jane Doe",
    "weight": {"b": 0.5},
}


def test_every_file_is_used_or_named_with_its_source_and_licence(tmp_path: Path, street: Path) -> None:
    yard = make_photos(tmp_path / "yard", {"a": 6, "b": 6}, 2000)
    shutil.copy(yard / "a/0.jpg", street / "bees/copy.jpg")  # a contradiction across sources
    shutil.copy(yard / "a/1.jpg", street / "a/again.jpg")
    (yard / "notes.txt").touch()
    prepared = prepare(tmp_path, STREET, {"name": "yard", "path": "yard", "licence": "MIT"})
    used, named = {photo.path for photo in prepared.manifest.rows}, problems(prepared)
    files = {path.relative_to(tmp_path).as_posix() for root in (street, yard) for path in root.rglob("*.*")}
    assert files == used | set(named) and not used & set(named)
    assert named["street/bees/copy.jpg"] == named["yard/a/0.jpg"] == "two_labels"
    assert "duplicate" in (named.get("yard/a/1.jpg"), named.get("street/a/again.jpg"))
    assert Counter(named.values())["left_out_by_map"] == 3 and named["yard/notes.txt"] == "not_a_photo"
    again = read_manifest(prepared.folder)
    assert again == prepared.manifest and again.labels == ("a", "b") and len(again.not_waste) == 4
    header, *rows = (prepared.folder / "manifest.csv").read_text().splitlines()
    assert header.split(",") == [*COLUMNS, *SOURCE_COLUMNS] and len(rows) == len(used)
    stated = {(photo.source, photo.label): (photo.licence, photo.weight) for photo in again.rows}
    assert stated["street", "b"] == ("CC BY 4.0", 0.5) and stated["yard", "b"] == ("MIT", 1.0)
    assert stated["street", "not waste"] == ("CC BY 4.0", 1.0)
    origin = again.metadata.sources[0] if again.metadata.sources else None
    assert origin and origin.left_out_by_map == {"unclear": 3} and origin.attribution == "Jane Doe"
    assert sum(origin.photos.values()) == sum(photo.source == "street" for photo in again.rows)


def test_the_manifest_is_the_same_wherever_the_photos_lie(tmp_path: Path) -> None:
    made = []
    for place, within in (("here", "x"), ("there/far", "y/z")):
        make_photos(tmp_path / place / within / "yard", {"a": 6, "b": 6}, 2000)
        make_photos(tmp_path / place / "street", {"a": 6, "b": 6}, 3000)
        yard = {"name": "yard", "path": f"{within}/yard"}
        prepared = prepare(tmp_path / place, yard, {"name": "street", "path": "street"})
        assert all(prepared.manifest.path_of(photo).is_file() for photo in prepared.manifest.rows)
        made.append((prepared.folder / "manifest.csv").read_bytes())
    assert made[0] == made[1] and b"yard/a/0.jpg" in made[0]


def test_a_second_run_does_nothing_and_a_changed_file_counts(tmp_path: Path, street: Path) -> None:
    assert not prepare(tmp_path, STREET).done_before
    assert prepare(tmp_path, STREET).done_before
    assert not prepare(tmp_path, {**STREET, "weight": 2.0}).done_before
    assert not prepare(tmp_path, {**STREET, "licence": "MIT"}).done_before


def test_a_single_source_has_no_new_columns(tmp_path: Path) -> None:
    make_photos(tmp_path / "yard", {"a": 6, "b": 6}, 2000)
    prepared = make_dataset(DataSettings(name="mine", source=[tmp_path / "yard"], data_dir=tmp_path / "data"))
    assert (prepared.folder / "manifest.csv").read_text().splitlines()[0].split(",") == COLUMNS
    assert "sources" not in (prepared.folder / "dataset.json").read_text()


def test_a_table_is_shared_by_sources_and_its_groups_stay_whole(tmp_path: Path) -> None:
    make_photos(tmp_path / "all/one", {"a": 10, "b": 10, "other": 5}, 3000)
    make_photos(tmp_path / "all/two", {"a": 10, "b": 10}, 4000)
    make_photos(tmp_path / "all/three", {"a": 2}, 5000)
    rows = []
    for file in sorted((tmp_path / "all").rglob("*.jpg")):
        place = file.relative_to(tmp_path / "all").as_posix()
        rows.append([place, file.parent.name, f"take {int(file.stem) // 2}", "CC0" if "two" in place else ""])
    with (tmp_path / "all/list.csv").open("w", newline="") as sink:
        csv.writer(sink).writerows([["file", "kind", "take", "terms"], *rows])
    columns = {"filepath": "file", "label": "kind", "group": "take", "licence": "terms"}
    one = {"name": "one", "path": "all/list.csv", "only": "one", "columns": columns, "licence": "MIT"}
    two = {"name": "two", "path": "all/list.csv", "only": ["two/"], "columns": columns}
    prepared = prepare(tmp_path, {**one, "labels": {"other": "not waste"}}, two)
    assert {(photo.source, photo.licence) for photo in prepared.manifest.rows} == {
        ("one", "MIT"),
        ("two", "CC0"),
    }
    split_of: dict[str, set[str]] = {}
    for photo in prepared.manifest.rows:
        split_of.setdefault(photo.group, set()).add(photo.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert len(split_of) == 5  # takes 0 to 4 of both sources, as the table is one
    assert [kind for path, kind in problems(prepared).items() if path.startswith("one/three/")] == [
        "not_selected"
    ] * 2


def test_groups_of_one_name_in_two_tables_stay_apart(tmp_path: Path) -> None:
    for name, seed in (("one", 3000), ("two", 4000)):
        make_photos(tmp_path / name, {"a": 6, "b": 6}, seed)
        files = sorted((tmp_path / name).rglob("*.jpg"))
        lines = [
            f"{file.parent.name}/{file.name},{file.parent.name},take {int(file.stem) % 3}" for file in files
        ]
        (tmp_path / name / "list.csv").write_text("\n".join(["filepath,label,group", *lines]))
    prepared = prepare(
        tmp_path, {"name": "one", "path": "one/list.csv"}, {"name": "two", "path": "two/list.csv"}
    )
    sources: dict[str, set[str]] = {}
    for photo in prepared.manifest.photos:
        sources.setdefault(photo.group, set()).add(photo.source)
    assert len(sources) == 6 and all(len(names) == 1 for names in sources.values())


def test_roles_decide_splits(tmp_path: Path, street: Path) -> None:
    for name, seed in (("shop", 5000), ("yard", 6000), ("beach", 7000)):
        make_photos(tmp_path / name, {"a": 8, "b": 8}, seed)
    make_photos(tmp_path / "ground", {"deep": 9, "flat": 9}, 8000)
    prepared = prepare(
        tmp_path,
        {**STREET, "role": "train and validation"},
        {"name": "shop", "path": "shop", "role": "train"},
        {"name": "yard", "path": "yard"},
        {"name": "beach", "path": "beach", "role": "test only"},
        {"name": "ground", "path": "ground", "role": "not-waste"},
    )
    every = {"train", "val", "test"}
    assert splits_of(prepared) == {
        "street": {"train", "val"}, "shop": {"train"}, "yard": every, "beach": {"test"}, "ground": every,
    }  # fmt: skip
    assert {photo.label for photo in prepared.manifest.rows if photo.source == "ground"} == {"not waste"}
    assert prepared.manifest.labels == ("a", "b")


def test_what_another_source_has_in_test_is_left_out_of_training(tmp_path: Path) -> None:
    make_photos(tmp_path / "shop", {"a": 9, "b": 9}, 5000)
    make_photos(tmp_path / "exam", {"a": 4, "b": 4}, 6000)
    for number in range(3):  # the same pictures, in another file
        (tmp_path / f"shop/a/near{number}.jpg").write_bytes(b"".join([(tmp_path / f"exam/a/{number}.jpg").read_bytes(), b"\n"]))  # fmt: skip
    prepared = prepare(
        tmp_path,
        {"name": "shop", "path": "shop", "role": "train"},
        {"name": "exam", "path": "exam", "role": "test only"},
    )
    assert splits_of(prepared) == {"shop": {"train"}, "exam": {"test"}}
    named = problems(prepared)
    assert {path for path, kind in named.items() if kind == "near_duplicate_in_split"} == {
        f"shop/a/near{number}.jpg" for number in range(3)
    }
    assert prepared.manifest.metadata.near_duplicates.overlap["test"].with_near_duplicate_in_train == 0


def test_left_out_sources_become_test(tmp_path: Path, street: Path) -> None:
    make_photos(tmp_path / "shop", {"a": 8, "b": 8}, 5000)
    make_photos(tmp_path / "yard", {"a": 8, "b": 8}, 6000)
    sources = (STREET, {"name": "shop", "path": "shop", "role": "train"}, {"name": "yard", "path": "yard"})
    prepared = prepare(tmp_path, *sources, split="source", leave_out=["shop", "street"])
    assert splits_of(prepared) == {"street": {"test"}, "shop": {"test"}, "yard": {"train", "val"}}
    assert prepared.manifest.metadata.split.method == "source, without shop, street"
    with pytest.raises(DatasetError, match="'yards' is not known") as caught:
        prepare(tmp_path, *sources, split="source", leave_out=["yards"])
    assert "'yard'" in (caught.value.hint or "")
    with pytest.raises(DatasetError, match="Every source is left out"):
        prepare(tmp_path, *sources, split="source", leave_out=["shop", "street", "yard"])


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"split": "source"}, "no source to leave out"),
        ({"leave_out": ["street"]}, "belongs to --split source"),
        ({"layout": "sites"}, "--sources and --layout exclude"),
        ({"source": ["street"]}, "--sources and --source exclude"),
    ],
)
def test_settings_that_contradict_a_sources_file_are_refused(
    settings: dict[str, object], found: str, tmp_path: Path, street: Path
) -> None:
    with pytest.raises(DatasetError, match=found):
        prepare(tmp_path, STREET, **settings)


def test_settings_that_need_a_sources_file_are_refused(tmp_path: Path) -> None:
    for given in ({"split": "source"}, {"leave_out": ["x"]}):
        with pytest.raises(DatasetError, match="need several named sources"):
            make_dataset(DataSettings(name="mine", source=[tmp_path], data_dir=tmp_path / "data", **given))
    with pytest.raises(DatasetError, match="name of a data set of its own"):
        make_dataset(DataSettings(name="trashnet", sources=tmp_path / "x.yaml", data_dir=tmp_path / "data"))


@pytest.mark.parametrize(
    ("change", "found", "hint"),
    [
        (
            {"labels": {"bees": "b", "leaves": "not waste"}},
            r"neither classes nor in its map: unclear \(3\)",
            "labels:",
        ),
        ({"path": "nowhere"}, "nowhere does not exist", "data sources file's folder"),
        (
            {"labels": dict.fromkeys(("a", "bees", "leaves", "unclear"), "leave out")},
            "leaves out every photo",
            "labels",
        ),
        ({"only": "be"}, "only: 'be' has no photo", "bees"),
        ({"path": "empty"}, "No photos were found", "class"),
        ({"sha256": "0" * 64}, "a folder, which has no SHA-256", "Leave sha256 out"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(
    change: dict[str, object], found: str, hint: str, tmp_path: Path, street: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=found) as caught:
        prepare(tmp_path, {**STREET, **change})
    assert hint in (caught.value.hint or "") and "'street'" in caught.value.found


def test_one_photo_in_two_sources_is_refused(tmp_path: Path, street: Path) -> None:
    with pytest.raises(DatasetError, match="in more than one source, or twice in one: street, again"):
        prepare(tmp_path, STREET, {**STREET, "name": "again"})


def test_a_zip_with_another_checksum_is_refused_and_nothing_is_lost(tmp_path: Path, street: Path) -> None:
    archive = zipped(street, "packed")
    source = {**STREET, "path": archive.name, "sha256": sha256_of_file(archive)}
    before = prepare(tmp_path, source).manifest.fingerprint
    with pytest.raises(ArchiveError, match=r"has SHA-256 .*, not 0000"):
        prepare(tmp_path, {**source, "sha256": "0" * 64})
    assert read_manifest(tmp_path / "data/processed/field").fingerprint == before and archive.exists()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serve the files in tmp_path."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_url_is_fetched_once_and_checked(tmp_path: Path, street: Path, site: str) -> None:
    archive = zipped(street, "packed")
    digest = sha256_of_file(archive)
    source = {key: value for key, value in STREET.items() if key != "path"} | {"url": f"{site}/packed.zip"}
    with pytest.raises(ArchiveError, match=f"has SHA-256 {digest}, not 1111"):
        prepare(tmp_path, {**source, "sha256": "1" * 64})
    assert not list((tmp_path / "data/raw/downloads").iterdir())
    assert len(prepare(tmp_path, {**source, "sha256": digest.upper()}).manifest.rows) == 20
    archive.unlink()
    assert prepare(tmp_path, {**source, "sha256": digest}).done_before  # from the downloaded copy
    (tmp_path / f"data/raw/downloads/{digest}.zip").write_bytes(b"damaged")
    with pytest.raises(DownloadError, match="could not be fetched") as caught:
        prepare(tmp_path, {**source, "sha256": digest})
    assert "as path" in (caught.value.hint or "")


def test_a_file_that_is_too_long_is_not_kept(
    tmp_path: Path, street: Path, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(street, "packed")
    monkeypatch.setattr(fetching, "MAX_DOWNLOAD_BYTES", 100)
    with pytest.raises(DownloadError, match="longer than 100 bytes"):
        prepare(tmp_path, {"name": "x", "url": f"{site}/packed.zip", "sha256": sha256_of_file(archive)})
    assert not list((tmp_path / "data/raw/downloads").iterdir())


def test_a_hub_data_set_is_asked_for_its_revision(
    tmp_path: Path, street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: list[object] = []

    def snapshot(name: str, **given: object) -> str:
        asked.extend([name, given])
        return str(street)

    def missing(*given: object, **more: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    source = {key: value for key, value in STREET.items() if key != "path"}
    hub = {**source, "hub": "owner/photos", "revision": "abc"}
    assert len(prepare(tmp_path, hub).manifest.rows) == 20
    assert asked == ["owner/photos", {"repo_type": "dataset", "revision": "abc"}]
    with pytest.raises(DownloadError, match=r"owner/photos could not be fetched .* no network"):
        prepare(tmp_path, {**hub, "file": "all.zip"})


@pytest.mark.parametrize("name", ["realwaste", "taco", "drinking-waste"])
def test_the_map_of_a_known_set_fits_an_archive_of_its_layout(name: str, tmp_path: Path) -> None:
    labels = KNOWN_SETS[name].labels
    folder = tmp_path / ("realwaste-main/RealWaste" if name == "realwaste" else "photos")
    make_photos(folder, dict.fromkeys(labels, 3), 1000)
    archive = zipped(tmp_path / folder.relative_to(tmp_path).parts[0], "copy")
    classes = ["cardboard", "glass", "metal", "paper", "plastic", "trash"]
    prepared = prepare(tmp_path, {"name": "set", "known": name, "path": archive.name}, classes=classes)
    left_out = 3 * sum(label == "leave out" for label in labels.values())
    assert Counter(problems(prepared).values()) == ({"left_out_by_map": left_out} if left_out else {})
    for photo in prepared.manifest.rows:
        assert photo.label == labels[Path(photo.path).parent.name]


def test_trashnet_among_sources_keeps_its_authors_split(tmp_path: Path, trashnet_zip: Path) -> None:
    make_photos(tmp_path / "street", {"a": 6, "b": 6}, 1000)
    trashnet = {"name": "trashnet", "known": "trashnet", "path": str(trashnet_zip)}
    street = {"name": "street", "path": "street", "labels": {"a": "glass", "b": "paper"}, "role": "train"}
    classes = ["cardboard", "glass", "metal", "paper", "plastic", "trash"]
    prepared = prepare(tmp_path, trashnet, street, classes=classes)
    own = [photo for photo in prepared.manifest.photos if photo.source == "trashnet"]
    assert Counter(photo.split for photo in own)["test"] == 430 and {photo.licence for photo in own} == {
        "MIT"
    }


def test_the_example_names_every_photo_of_fieldphotos(tmp_path: Path) -> None:
    file = read_sources_file(ROOT / "configs/sources/fieldphotos.yaml")
    table = SHARED / "fieldphotos/sources.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not on this machine")
    own = [replace(spec, path=table) for spec in file.sources if not spec.known]
    combined = combine(replace(file, sources=tuple(own)), tmp_path)
    labels = Counter(item.label for item in combined.files)
    assert sum(labels.values()) == 2983 and labels["not waste"] == 932
    assert not [row for row in combined.left_out if row.kind in ("not_selected", "left_out_by_map")]
    assert {item.licence for item in combined.files} >= {"CC BY 4.0", "MIT"}
    assert next(spec for spec in own if spec.name == "taco").weight_of("plastic") == 0.25


def test_near_duplicates_of_two_sources_with_different_labels_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_photos(tmp_path / "shop", {"a": 9, "b": 9}, 5000)
    make_photos(tmp_path / "yard", {"a": 9, "b": 9}, 6000)
    make_photos(tmp_path / "ground", {"flat": 6}, 7000)
    (tmp_path / "yard/b/near.jpg").write_bytes((tmp_path / "shop/a/0.jpg").read_bytes() + b"\n")
    (tmp_path / "ground/flat/near.jpg").write_bytes((tmp_path / "shop/a/1.jpg").read_bytes() + b"\n")
    sources = [{"name": name, "path": name} for name in ("shop", "yard")]
    prepared = prepare(tmp_path, *sources, {"name": "ground", "path": "ground", "role": "not-waste"})
    assert "2 pairs of two sources look alike and have different labels" in caplog.text
    issues = {issue.path: issue for issue in near_duplicate_issues(prepared.manifest, prepared.folder)}
    assert issues["ground/flat/near.jpg"].kind == "near_duplicate_labels"
    assert "shop/a/0.jpg (a)" in issues["yard/b/near.jpg"].detail
