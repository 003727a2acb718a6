"""A data sources file is read whole or refused with the source, the key and what to write instead."""

from pathlib import Path

import pytest
from helpers.combined import write_sources

from image_classification_trash.data.combining.known_sets import KNOWN_SETS, LEAVE_OUT
from image_classification_trash.data.combining.sources_file import (
    MAX_SOURCES_BYTES,
    SourceSpec,
    read_sources_file,
)
from image_classification_trash.data.trashnet import LABELS
from image_classification_trash.errors import DatasetError

STREET = {"name": "street", "path": "photos"}


def test_what_a_source_says_and_what_follows_from_the_file(tmp_path: Path) -> None:
    file = write_sources(
        tmp_path,
        {
            **STREET,
            "labels": {"cans": "metal", "leaves": "not-waste", "unclear": "leave out"},
            "weight": {"metal": 2},
        },
        {"name": "ground", "path": "/elsewhere", "role": "not waste", "licence": "MIT"},
    )
    read = read_sources_file(file)
    street, ground = read.sources
    assert read.classes == LABELS and street.path == tmp_path / "photos" and street.address == "photos"
    assert street.labels == {"cans": "metal", "leaves": "not waste", "unclear": LEAVE_OUT}
    assert street.role == "any" and street.licence == "not stated"
    assert street.weight_of("metal") == 2.0 and street.weight_of("glass") == 1.0
    assert (
        ground.role == "not-waste" and ground.path == Path("/elsewhere") and ground.weight_of("glass") == 1.0
    )


@pytest.mark.parametrize(
    ("source", "found", "hint"),
    [
        ({"name": "x"}, "says nothing of where its photos are", "path, url, hub"),
        ({**STREET, "url": "https://a.b/c.zip"}, "says path and url where", "path, url, hub"),
        ({**STREET, "license": "MIT"}, "key 'license' is not known", "'licence'"),
        ({**STREET, "labels": {"x": "plastik"}}, "label 'x': class 'plastik' is not known", "'plastic'"),
        ({**STREET, "labels": {False: "paper"}}, "map no labels", "in quotes"),
        ({**STREET, "role": "trian"}, "role 'trian' is not known", "'train'"),
        ({**STREET, "layout": "clases"}, "layout 'clases' is not known", "'classes'"),
        ({**STREET, "weight": 0}, "weight = 0", "above 0"),
        ({**STREET, "weight": float("nan")}, "weight = nan", "above 0"),
        ({**STREET, "weight": True}, "weight = True", "above 0"),
        ({**STREET, "weight": {"papper": 2}}, "'papper' is not known", "'paper'"),
        ({**STREET, "role": "test only", "weight": 2}, "test only and has a weight", "Leave one out"),
        (
            {**STREET, "role": "not-waste", "labels": {"x": "glass"}},
            "not-waste, but it has photos of glass",
            "role",
        ),
        ({**STREET, "label": "glass", "layout": "classes"}, "label is that of all", "Leave out"),
        ({**STREET, "columns": {"filepth": "x"}}, "column 'filepth' is not known", "'filepath'"),
        ({**STREET, "only": {"a": 1}}, "is no list of paths", "only: ["),
        ({**STREET, "sha256": "abc"}, "not 64 hexadecimal digits", "Correct"),
        ({**STREET, "revision": "main"}, "revision and file belong to `hub`", "Leave them out"),
        ({**STREET, "name": "../x"}, "its name begins paths", "letters"),
        ({**STREET, "name": 3}, "source 1 has no name", "- name: NAME"),
        ({**STREET, "licence": 4.0}, "licence = 4.0 is not text", "in quotes"),
        ({"name": "x", "url": "https://a.b/c.zip"}, "needs the SHA-256", "sha256sum"),
        (
            {"name": "x", "url": "file:///etc/passwd", "sha256": "0" * 64},
            "does not begin with https://",
            "path",
        ),
        ({"name": "x", "hub": "owner/set"}, "needs its owner, name and revision", "revision:"),
        ({"name": "x", "known": "realwast"}, "known set 'realwast' is not known", "'realwaste'"),
        ({"name": "x", "known": "realwaste"}, "needs the SHA-256", "sha256"),
        ({"name": "x", "known": "taco"}, "says nothing of where", "cut out the boxes"),
    ],
)
def test_a_faulty_source_is_refused(source: dict[str, object], found: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_sources_file(write_sources(tmp_path, source))
    assert found in caught.value.found and hint in (caught.value.hint or "")
    assert "sources.yaml" in caught.value.found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "names no sources"),
        ("sources: []", "names no sources"),
        ("sources: {a: b}", "names no sources"),
        ("sauces: []", "key 'sauces' is not known"),
        ("sources: [{name: a, path: x}, {name: a, path: y}]", "two sources have the name 'a'"),
        ("sources: [{name: a, path: x, path: y}]", "gives 'path' twice in one mapping: line 1"),
        ("sources: [{name: a, path: x, role: test only}]", "all sources are test only"),
        ("classes: [a]\nsources: [{name: a, path: x}]", "at least two names"),
        ("classes: [a, not waste]\nsources: [{name: a, path: x}]", "at least two names"),
        ("sources: [}", "is not YAML"),
        ("sources: !!python/object/apply:os.system [echo]", "is not YAML"),
        ("when: 2025-99-99", "is not YAML"),
        ("[" * 20_000, "is nested too deeply"),
        ("#" * (MAX_SOURCES_BYTES + 1), "cannot be read: it is longer than"),
    ],
)
def test_a_faulty_file_is_refused(text: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_sources_file(file)
    assert found in caught.value.found and len(caught.value.found) < 2000


def test_aliases_that_name_billions_of_values_make_a_short_message(tmp_path: Path) -> None:
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 9))
    file = tmp_path / "sources.yaml"
    file.write_text(f"l0: &l0 [x, x]\n{levels}\nsources: *l8")
    with pytest.raises(DatasetError) as caught:
        read_sources_file(file)
    assert len(caught.value.found) < 2000


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_sources_file(tmp_path / "none.yaml")


def test_known_sets_state_a_licence_and_map_to_the_classes() -> None:
    for name, known in KNOWN_SETS.items():
        assert known.licence and known.attribution and known.page.startswith("https://"), name
        assert set(known.labels.values()) <= {*LABELS, LEAVE_OUT}, name
        assert known.url or known.obtain, name
    assert len(KNOWN_SETS["taco"].labels) == 60


def test_a_known_set_brings_its_map_and_is_read_from_a_copy(tmp_path: Path) -> None:
    file = write_sources(
        tmp_path, {"name": "waste", "known": "drinking-waste", "path": "copy", "licence": "mine"}
    )
    (spec,) = read_sources_file(file).sources
    assert isinstance(spec, SourceSpec) and spec.labels["AluCan"] == "metal" and spec.licence == "mine"
    assert "kaggle.com" in spec.address and not spec.url and "Serezhkin" in spec.attribution
