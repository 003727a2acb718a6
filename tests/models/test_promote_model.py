"""Versions, aliases and the gates before a promotion."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.errors import BundleError, PromotionError, SettingsError
from image_classification_trash.evaluation.export_report import (
    ExportConditions,
    ExportRecord,
    ExportReport,
)
from image_classification_trash.evaluation.model_list import bundle_of, entries, show
from image_classification_trash.evaluation.result import Accepted, Conditions, Interval, Metrics, Reliability
from image_classification_trash.files import sha256_of
from image_classification_trash.inference.bundle import (
    Bundle,
    BundleConfig,
    add_to_bundle,
    read_bundle,
    write_bundle,
)
from image_classification_trash.inference.model_store import (
    chosen_bundle,
    chosen_model,
    find_model,
    read_registry,
)
from image_classification_trash.inference.shipped import shipped_model
from image_classification_trash.models import promote_model as module
from image_classification_trash.models.compare_models import compare_models
from image_classification_trash.models.promote_model import gates, manage_models, promote, register, rollback
from image_classification_trash.show import Result, Table

VALIDATION: dict[str, Any] = {"accuracy": 0.91, "macro_f1": 0.9, "n": 100, "coverage": 0.8}


def make(
    models: Path, name: str = "mine", weights: bytes = b"w1", accuracy: float | None = 0.9, **changes: Any
) -> Bundle:
    """A bundle as a training, an evaluation and an export would leave it; its weights are never loaded."""
    config = BundleConfig(
        name=name, architecture="resnet18", labels=("glass", "paper"), input_height=64, input_width=64,
        resize_mode="stretch", temperature=1.0, threshold=0.5, data={"name": "sample", "fingerprint": "f" * 64, "counts": {"val": changes.get("val", {"glass": 50, "paper": 50})}},
        training={"validation": VALIDATION | changes.get("validation", {}), "settings": {}},
        git_commit="0" * 40, versions={}, created="2026-01-01T00:00:00Z",
    )  # fmt: skip
    record = ExportRecord("onnx", "float32", 2, changes.get("problem"), {})
    report = ExportReport(ExportConditions("m", {}, "p", "f" * 64), {"model.onnx": record}).as_json()
    files = {"model.safetensors": weights, "export/model.onnx": b"o" + weights}
    if changes.get("exported", True):
        files["export/report.json"] = json.dumps(report).encode()
    bundle = write_bundle(models / name, config, files)
    if accuracy is not None:
        add_to_bundle(bundle, {"metrics.json": json.dumps({"test": measured(accuracy, changes).as_json()})})
    return read_bundle(bundle.path)


def measured(accuracy: float, changes: dict[str, Any]) -> Metrics:
    figure = Interval(accuracy, accuracy - 0.05, accuracy + 0.05)
    bins = Reliability([], [], [], 0.0)
    return Metrics(
        n=100, accuracy=figure, balanced_accuracy=figure, macro_f1=figure, roc_auc=figure, log_loss=figure,
        brier=figure, ece=figure, per_class={}, confusion=[], reliability_before=bins, reliability=bins,
        conditions=Conditions("sample", "test", changes.get("photos", "t" * 64), None, 0, "95%", "m"),
        risk_coverage_area=0.0, accepted=Accepted(0.5, 90, changes.get("accepted", 0.9), 0.95),
    )  # fmt: skip


def settings(models: Path, action: str, *named: str, **more: Any) -> ModelsSettings:
    return ModelsSettings(action=action, models=list(named), models_dir=models, **more)  # type: ignore[arg-type]


def test_a_version_outlives_the_next_training(tmp_path: Path) -> None:
    first = register(make(tmp_path, weights=b"w1"), tmp_path, "first try")
    second = register(make(tmp_path, weights=b"w2"), tmp_path)
    assert (str(first), str(second)) == ("mine@1", "mine@2")
    shutil.rmtree(tmp_path / "mine")
    assert bundle_of("mine@1", tmp_path).weights.read_bytes() == b"w1"
    assert bundle_of("mine@latest", tmp_path).weights.read_bytes() == b"w2"
    assert read_registry(tmp_path).versions[0].note == "first try"


def test_the_same_content_is_the_same_version_and_brings_its_figures(tmp_path: Path) -> None:
    bundle = make(tmp_path, accuracy=None)
    register(bundle, tmp_path)
    assert bundle_of("mine@1", tmp_path).metrics() == {}
    add_to_bundle(bundle, {"metrics.json": '{"test": {}}'})
    assert str(register(bundle, tmp_path)) == "mine@1"
    assert bundle_of("mine@1", tmp_path).metrics() == {"test": {}}
    assert len(read_registry(tmp_path).versions) == 1


def test_promotion_and_the_way_back(tmp_path: Path) -> None:
    make(tmp_path, weights=b"w1")
    assert promote(settings(tmp_path, "promote", "mine")).replaced is None
    make(tmp_path, weights=b"w2", accuracy=0.93)
    moved = promote(settings(tmp_path, "promote", "mine", note="better"))
    assert (str(moved.version), str(moved.replaced)) == ("mine@2", "mine@1")
    assert all(gate.passed for gate in moved.gates)
    assert bundle_of("production", tmp_path).weights.read_bytes() == b"w2"
    back = rollback(settings(tmp_path, "rollback"))
    assert (str(back.version), str(back.replaced)) == ("mine@1", "mine@2")
    assert bundle_of("mine@production", tmp_path).weights.read_bytes() == b"w1"
    with pytest.raises(PromotionError, match="no version that production pointed at before"):
        rollback(settings(tmp_path, "rollback"))
    moves = [(move.action, move.version, move.note) for move in read_registry(tmp_path).moves]
    assert moves == [("promote", "mine@1", ""), ("promote", "mine@2", "better"), ("rollback", "mine@1", "")]


@pytest.mark.parametrize(
    ("changes", "gate", "found"),
    [
        ({"accuracy": 0.84}, "accuracy", "84.0%"),
        ({"accuracy": None}, "test split", "trash-classifier evaluate"),
        ({"exported": False}, "export parity", "trash-classifier export"),
        ({"problem": "answers differ"}, "export parity", "answers differ"),
        ({"photos": "u" * 64}, "accuracy", "never measured on the same photos"),
        ({"val": {"glass": 90, "paper": 10}}, "validation", "91.0% (83.8 to 95.2) on 100 photos"),
        (
            {"val": {"glass": 5, "paper": 5}, "validation": {"accuracy": 0.7}},
            "validation",
            "most frequent class alone reaches 50.0%",
        ),
        ({"validation": {"accuracy": 0.5}}, "validation", "chance 50.0%"),
        ({"validation": {"accuracy": float("nan")}}, "validation", "no figures of validation"),
        ({"validation": {"accuracy": None}}, "validation", "no figures of validation"),
        ({"val": {}}, "validation", "no figures of validation"),
        (
            {"validation": {"coverage": 0.07}},
            "accepted photos",
            "7.0% of validation and 90.0% of test; at least 50.0%",
        ),
        ({"validation": {"coverage": float("nan")}}, "accepted photos", "an unknown share of validation"),
        ({"accepted": 0.07}, "accepted photos", "80.0% of validation and 7.0% of test"),
    ],
)
def test_what_does_not_pass_the_gates_changes_nothing(
    tmp_path: Path, changes: dict[str, Any], gate: str, found: str
) -> None:
    make(tmp_path, weights=b"w1")
    promote(settings(tmp_path, "promote", "mine"))
    before = (tmp_path / "registry.json").read_bytes()
    make(tmp_path, weights=b"w2", **changes)
    with pytest.raises(PromotionError) as caught:
        promote(settings(tmp_path, "promote", "mine"))
    assert gate in caught.value.found and found in caught.value.found
    assert (tmp_path / "registry.json").read_bytes() == before
    assert not (tmp_path / ".versions/mine/2").exists()


def test_the_share_of_accepted_photos_is_a_setting(tmp_path: Path) -> None:
    make(tmp_path, validation={"coverage": 0.2})
    with pytest.raises(PromotionError, match="lower --min-accepted"):
        promote(settings(tmp_path, "promote", "mine"))
    assert promote(settings(tmp_path, "promote", "mine", min_accepted=0.2)).replaced is None


def test_a_little_below_is_not_beyond_the_interval(tmp_path: Path) -> None:
    replaced = make(tmp_path, name="old", accuracy=0.9)
    assert all(gate.passed for gate in gates(make(tmp_path, accuracy=0.851, weights=b"w2"), replaced))
    assert not all(gate.passed for gate in gates(make(tmp_path, accuracy=0.849, weights=b"w2"), replaced))


def test_an_exported_file_that_was_changed_stops_a_promotion(tmp_path: Path) -> None:
    bundle = make(tmp_path)
    (bundle.path / "export/model.onnx").write_bytes(b"other")
    with pytest.raises(PromotionError, match=r"model\.onnx does not match its checksum"):
        promote(settings(tmp_path, "promote", "mine"))


def test_the_same_model_is_not_promoted_twice(tmp_path: Path) -> None:
    make(tmp_path)
    promote(settings(tmp_path, "promote", "mine"))
    with pytest.raises(PromotionError, match="production is mine@1 already"):
        promote(settings(tmp_path, "promote", "mine@1"))
    promote(settings(tmp_path, "promote", "mine@1", alias="candidate"))
    assert show("candidate", tmp_path).aliases == ("latest", "production", "candidate")


def test_registrations_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    bundles = [make(tmp_path / str(i), weights=bytes([i])) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda bundle: register(bundle, tmp_path), bundles))
    assert sorted(version.number for version in versions) == list(range(1, 9))
    assert len(read_registry(tmp_path).versions) == 8


def test_a_failed_copy_leaves_the_registry_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copytree", full)
    with pytest.raises(OSError, match="No space left"):
        register(bundle, tmp_path)
    assert read_registry(tmp_path).versions == ()
    assert not list((tmp_path / ".versions/mine").iterdir())


def test_a_version_that_was_changed_is_said(tmp_path: Path) -> None:
    register(make(tmp_path), tmp_path)
    other = make(tmp_path / "elsewhere", weights=b"w2")
    shutil.rmtree(tmp_path / ".versions/mine/1")
    shutil.copytree(other.path, tmp_path / ".versions/mine/1")
    with pytest.raises(BundleError, match="no longer what was registered as mine@1"):
        find_model("mine@1", tmp_path)
    damaged = entries(tmp_path)[0]
    assert damaged.bundle is None and "no longer" in damaged.as_json()["problem"]
    assert "no longer" in damaged.as_row()[3]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format_version": 9}', '{"format_version": 1, "versions": 3}']
)
def test_a_damaged_registry_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry.json").write_text(text)
    with pytest.raises(BundleError, match="is not a registry"):
        read_registry(tmp_path)


def test_what_a_user_may_call_a_model(tmp_path: Path) -> None:
    register(make(tmp_path), tmp_path)
    folder, version = tmp_path / "mine", tmp_path / ".versions/mine/1"
    assert find_model(str(folder), tmp_path) == folder and find_model("mine", tmp_path) == folder
    assert find_model("mine@1", tmp_path) == find_model("mine@latest", tmp_path) == version
    assert find_model("away/model.onnx", tmp_path) == Path("away/model.onnx")
    for wrong in ("yours", "mine@2", "mine@production", "production", "mine@", "@1"):
        with pytest.raises(BundleError, match="There is no model"):
            find_model(wrong, tmp_path)


def test_who_answers_where_no_model_is_named(tmp_path: Path) -> None:
    assert chosen_model(None, tmp_path) == shipped_model()
    first = make(tmp_path, name="first")
    assert chosen_model(None, tmp_path) == chosen_bundle(None, tmp_path) == first.path
    promote(settings(tmp_path, "promote", "first"))
    newer = make(tmp_path, name="newer", weights=b"w2")
    assert chosen_model(None, tmp_path) == tmp_path / ".versions/first/1"
    assert chosen_bundle(None, tmp_path) == newer.path


def test_the_list_holds_versions_and_what_is_none_yet(tmp_path: Path) -> None:
    register(make(tmp_path, name="kept"), tmp_path)
    make(tmp_path, name="loose", weights=b"w2", accuracy=None, exported=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{}")
    rows = {row[0]: row[1:] for row in (entry.as_row() for entry in entries(tmp_path))}
    assert rows["kept@1"] == ["latest", "sample ffffffffffff", "91.0%", "90.0% (85.0 to 95.0)", "1 of 1 good"]
    assert rows[str(tmp_path / "loose")][-2:] == ["not measured", "none"]
    assert rows[str(tmp_path / "broken")][1] == "damaged:"
    document = entries(tmp_path)[0].as_json()
    assert document["fingerprint"] == "f" * 64 and document["measured"]["test"]["accuracy"]["value"] == 0.9


def test_figures_of_another_program_are_said_and_do_not_end_the_list(tmp_path: Path) -> None:
    make(tmp_path, name="a")
    bundle = make(tmp_path, name="b", weights=b"w2")
    add_to_bundle(bundle, {"metrics.json": '{"test": {"n": 100}}'})
    rows = {row[0]: row[1:] for row in (entry.as_row() for entry in entries(tmp_path))}
    assert rows[str(tmp_path / "a")][3] == "90.0% (85.0 to 95.0)"
    assert rows[str(tmp_path / "b")][1] == "damaged:" and "metrics.json" in rows[str(tmp_path / "b")][2]
    with pytest.raises(BundleError, match=r"does not hold the figures of an evaluation: test\.accuracy"):
        compare_models(settings(tmp_path, "compare", "b", "b"))


def test_a_description_that_lacks_something_does_not_end_the_list(tmp_path: Path) -> None:
    make(tmp_path, name="a")
    bundle = make(tmp_path, name="b", weights=b"w2")
    description = json.loads((bundle.path / "config.json").read_text(encoding="utf-8"))
    del description["data"]["fingerprint"]
    content = json.dumps(description).encode()
    sums = (bundle.path / "SHA256SUMS").read_text(encoding="utf-8")
    before = sha256_of((bundle.path / "config.json").read_bytes())
    (bundle.path / "config.json").write_bytes(content)
    (bundle.path / "SHA256SUMS").write_text(sums.replace(before, sha256_of(content)), encoding="utf-8")
    first, second = entries(tmp_path)
    assert first.bundle is not None and second.bundle is None
    assert second.problem == f"{bundle.path / 'config.json'} has no 'fingerprint'."


def test_every_action_shows_what_it_did(tmp_path: Path) -> None:
    make(tmp_path)
    made = {
        action: manage_models(settings(tmp_path, action, *named))
        for action, named in (
            ("list", []), ("show", ["mine"]), ("register", ["mine"]), ("promote", ["mine"]),
        )
    }  # fmt: skip
    lines = {action: "\n".join(text_of(result)) for action, result in made.items()}
    assert str(tmp_path / "mine") in lines["list"] and "1 of 1 good" in lines["show"]
    assert lines["register"] == f"{tmp_path / 'mine'} is mine@1"
    assert "production is mine@1\ngate" in lines["promote"] and "does not hold" not in lines["promote"]
    assert made["list"].as_json()["models"][0]["exported"] == {"model.onnx": True}
    assert made["promote"].as_json()["replaced"] is None


def text_of(result: Result) -> Iterator[str]:
    for shown in result.for_people():
        yield from shown.lines() if isinstance(shown, Table) else [str(shown)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["show"], "takes 1 models"),
        (["promote"], "takes 1 models"),
        (["compare", "a"], "takes 2 models"),
        (["list", "a"], "takes 0 models"),
        (["rollback", "--alias", "latest"], "choose another alias"),
        (["rollback", "--alias", "Two words"], "alias"),
        (["list", "--data", "photos"], "data is for compare, not for list"),
        (["dance"], "input should be"),
    ],
)
def test_wrong_use_is_said(words: list[str], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        load_settings(ModelsSettings, words)
