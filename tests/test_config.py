"""Settings: precedence, and typing errors answered with the nearest name."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from image_classification_trash.config.base import POSITIONAL, StageSettings
from image_classification_trash.config.command_line import SHORTCUTS, is_list, parse_arguments
from image_classification_trash.config.data import DataSettings
from image_classification_trash.config.loader import combined, load_settings, read_recipe
from image_classification_trash.config.models import (
    EvaluateSettings,
    ExportSettings,
    ModelsSettings,
    PredictSettings,
)
from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.config.training import AugmentationSettings, TrainSettings
from image_classification_trash.config.verbs import VERBS, settings_of
from image_classification_trash.errors import SettingsError

STAGES = [settings_of(verb) for verb in VERBS]
NEEDED = {
    "predict": ["photo.jpg"], "monitor": ["photo.jpg"], "shards": ["photos", "--output", "shards"],
    "adapt": ["--photos", "photos", "--output", "mine"],
}  # fmt: skip
"""What a command cannot do without."""


def test_defaults_recipe_environment_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("train:\n  epochs: 5\n  dropout: 0.5\n  seed: 3\n")
    monkeypatch.setenv("TRASH_TRAIN_DROPOUT", "0.4")
    monkeypatch.setenv("TRASH_TRAIN_SEED", "4")
    settings = load_settings(TrainSettings, ["mine", "--config", str(recipe), "--seed", "7"])
    assert (settings.name, settings.epochs, settings.dropout, settings.seed) == ("mine", 5, 0.4, 7)
    assert settings.batch_size == TrainSettings().batch_size


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--epchs", "3"], "--epochs"),
        (["--epochs", "many"], "epochs"),
        (["--epochs", "-1"], "greater"),
        (["--resize-mode", "squeeze"], "stretch"),
        (["../../etc"], "name"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_flags_say_what_and_suggest(arguments: list[str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        load_settings(TrainSettings, arguments)


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ("trian: {}", "'train'"),
        ("train:\n  epoch: 3", "'epochs'"),
        ("train: 3", "holds no settings"),
        ("- 1", "no sections"),
        ("train: [", "not YAML"),
        ("train:\n  epochs: lots", "epochs"),
        (
            "train:\n  epochs: 1\n  seed: 2\n  epochs: 3",
            "r.yaml gives 'epochs' twice in one mapping: lines 2 and 4",
        ),
        (
            "train: {epochs: 1}\ndata: {}\n'train': {seed: 2}",
            "gives 'train' twice in one mapping: lines 1 and 3",
        ),
    ],
)
def test_wrong_recipes_say_what_and_suggest(recipe: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(recipe)
    with pytest.raises(SettingsError, match=text):
        load_settings(TrainSettings, ["--config", str(path)])


def test_a_typing_error_in_the_environment_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRASH_DATA_SEDE", "1")
    with pytest.raises(SettingsError, match="'seed'"):
        load_settings(DataSettings, [])


def test_a_variable_in_two_spellings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRASH_DATA_SEED", "1")
    monkeypatch.setenv("trash_data_seed", "2")
    with pytest.raises(SettingsError, match="sets TRASH_DATA_SEED twice"):
        load_settings(DataSettings, [])


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_setting_is_a_finite_number(stage: type[StageSettings], text: str) -> None:
    for name, field in stage.model_fields.items():
        if "float" in str(field.annotation):
            with pytest.raises(SettingsError, match=name):
                combined(stage, {name: text})


def test_a_seed_is_one_that_every_library_takes() -> None:
    assert combined(DataSettings, {"name": "mine", "seed": str(2**32 - 1)}).seed == 2**32 - 1
    with pytest.raises(SettingsError, match="less than or equal to 4294967295"):
        combined(DataSettings, {"name": "mine", "seed": str(2**32)})


def test_a_recipe_may_override_what_it_merges(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: &data {seed: 1}\ntrain:\n  <<: *data\n  seed: 2\n  epochs: 3\n")
    assert read_recipe(path, TrainSettings) == {"seed": 2, "epochs": 3}


def test_settings_made_in_code_read_nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in STAGES:
        monkeypatch.setenv(f"TRASH_{stage.stage.upper()}_CONFIG", "nowhere.yaml")
    monkeypatch.setenv("TRASH_TRAIN_HUE", "lots")
    monkeypatch.setenv("TRASH_TRAIN_EPOCHS", "3")
    assert (TrainSettings().hue, TrainSettings().epochs, TrainSettings().config) == (0.02, 20, None)
    assert DataSettings(seed=4).seed == 4


def test_a_command_reads_its_own_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRASH_TRAIN_HUE", "lots")
    monkeypatch.setenv("TRASH_TRAIN_SEDE", "1")
    monkeypatch.setenv("TRASH_TRAIN_SEED", "5")
    for stage in (stage for stage in STAGES if stage.stage != "train"):
        settings = load_settings(stage, NEEDED.get(stage.stage, []))
        assert getattr(settings, "seed", 0) == 0


def test_predict_takes_many_photos_and_json() -> None:
    settings = load_settings(PredictSettings, ["a.jpg", "b.jpg", "--json"])
    assert settings.photos == ["a.jpg", "b.jpg"] and settings.json_output
    with pytest.raises(SettingsError, match=r"(?i)photos"):
        load_settings(PredictSettings, [])


@pytest.mark.parametrize(
    ("flag", "name"), [("--csv", "answers.parquet"), ("--jsonl", "a.CSV"), ("--parquet", "a.jsonl")]
)
def test_a_table_is_not_named_after_another_format(flag: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"use --{name.split('.')[1].lower()}"):
        load_settings(PredictSettings, ["a.jpg", flag, name])


def test_the_environment_can_name_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("train: {epochs: 3}\n")
    monkeypatch.setenv("TRASH_TRAIN_CONFIG", str(recipe))
    assert load_settings(TrainSettings, []).epochs == 3


def test_no_other_programs_variable_sets_json_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSON", "true")
    assert load_settings(EvaluateSettings, []).json_output is False
    monkeypatch.setenv("TRASH_EVALUATE_JSON_OUTPUT", "true")
    assert load_settings(EvaluateSettings, []).json_output is True
    assert load_settings(EvaluateSettings, ["--no-json"]).json_output is False


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_explains_itself(stage: type[StageSettings]) -> None:
    for field in stage.model_fields.values():
        assert re.match(r"[A-Z].* ", field.description or ""), field


@pytest.mark.parametrize(
    ("text", "found", "hint"),
    [
        ("dat: {seed: 1}", "section 'dat' is not known", "Did you mean 'data'?"),
        ("data: {sede: 1}", "data: 'sede' is not known", "Did you mean 'seed'?"),
        ("data: {xyzzy: 1}", "data: 'xyzzy' is not known", "Known: config, data_dir, name"),
        ("data: {seed: [", "is not YAML", "Correct that line"),
        ("data: {seed: many}", "data: seed = 'many': input should be a valid integer", "data --help"),
        ("data: {val_fraction: 0.9}", "data: val_fraction = 0.9: input should be less than 0.5", "--help"),
    ],
)
def test_a_wrong_recipe_is_named_with_its_place_and_a_way_out(
    tmp_path: Path, text: str, found: str, hint: str
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(DataSettings, ["--config", str(file)])
    assert str(file) in caught.value.found and found in caught.value.found
    assert hint in caught.value.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00data"])
def test_a_missing_or_binary_recipe_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "recipe.yaml"
    if content:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"recipe\.yaml (cannot be read|is not YAML)") as caught:
        read_recipe(file, DataSettings)
    assert caught.value.hint


def test_an_impossible_value_is_traced_to_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="command line: data: seed = 'many'") as caught:
        load_settings(DataSettings, ["--seed", "many"])
    assert "trash-classifier data --help" in caught.value.hint
    monkeypatch.setenv("TRASH_DATA_SEED", "-1")
    with pytest.raises(SettingsError, match="environment: data: seed = '-1'"):
        load_settings(DataSettings, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--runtime", "tf-serving"],
        ["--backend-url", "http://127.0.0.1:8501"],
        ["--runtime", "tf-serving", "--backend-url", "ftp://model"],
        ["--runtime", "tf-serving", "--backend-url", "http://model/v1/models/trash"],
        ["--runtime", "tf-serving", "--backend-url", "http://model", "--backend-model", "../other"],
    ],
)
def test_a_model_server_is_named_wholly_or_not_at_all(arguments: list[str]) -> None:
    with pytest.raises(SettingsError, match="backend"):
        load_settings(ServeSettings, arguments)


def test_one_folder_holds_all_data() -> None:
    settings = load_settings(DataSettings, ["--data-dir", "disk"])
    folders = (settings.raw_dir, settings.interim_dir, settings.processed_dir)
    assert folders == (Path("disk/raw"), Path("disk/interim"), Path("disk/processed"))


def test_there_are_at_most_140_names() -> None:
    """No name is added lightly; the 140th is `unlabelled`: photos with labels and without are given to one `adapt`."""
    names = {name for stage in STAGES for name in stage.model_fields}
    assert len(names) <= 140


def test_parts_serve_functions_that_need_no_more() -> None:
    assert AugmentationSettings().hue == TrainSettings().hue
    with pytest.raises(ValidationError):
        AugmentationSettings(hew=0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_at_most_15_settings_and_help_all_the_rest_by_subject(
    stage: type[StageSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    usual = [*stage.usual, "config"]
    assert len(usual) <= 15 and set(usual) <= set(stage.model_fields)
    with pytest.raises(SystemExit):
        load_settings(stage, ["--help"])
    short = named_in(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        load_settings(stage, ["--help-all"])
    whole = named_in(capsys.readouterr().out)
    assert short.keys() == {"Usual settings", "Help"} and len(short["Usual settings"]) == len(usual)
    assert whole["Usual settings"] == short["Usual settings"]
    assert sum(map(len, whole.values())) == len(stage.model_fields) + len(whole["Help"])


def named_in(text: str) -> dict[str, list[str]]:
    """The flags and places of a help text, by heading."""
    sections = re.findall(r"^(\S.*):\n((?:(?:  .*)?\n)*)", text, re.MULTILINE)
    return {
        heading: re.findall(r"^  (-\S+|[A-Z]+\b)(?: |$)", body, re.MULTILINE) for heading, body in sections
    }


def test_help_all_has_a_heading_for_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings(TrainSettings, ["--help-all"])
    text = capsys.readouterr().out
    assert "--hue" in named_in(text)["Augmentation"] and "--data-dir" in named_in(text)["Folders"]
    assert "Learning rate of the head at its peak (default: 0.001)" in " ".join(text.split())
    with pytest.raises(SystemExit):
        load_settings(TrainSettings, ["--help"])
    text = capsys.readouterr().out
    assert "--hue" not in text and "39 more settings: trash-classifier train --help-all" in text


def test_a_list_is_given_by_repetition_or_commas_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = [Path("a"), Path("b")]
    for words in (["--teacher", "a", "--teacher", "b"], ["--teacher=a,b"], ["--teacher", '["a", "b"]']):
        assert load_settings(TrainSettings, words).teacher == teachers
    for text in ("a,b", '["a", "b"]'):
        monkeypatch.setenv("TRASH_TRAIN_TEACHER", text)
        assert load_settings(TrainSettings, []).teacher == teachers
    monkeypatch.setenv("TRASH_TRAIN_TEACHER", "[a")
    with pytest.raises(SettingsError, match=r"TRASH_TRAIN_TEACHER = '\[a' is not a JSON list"):
        load_settings(TrainSettings, [])


def test_places_can_stand_among_flags_and_are_taken_as_typed() -> None:
    settings = load_settings(ModelsSettings, ["--json", "compare", "a", "--alias", "staging", "b"])
    assert (settings.action, settings.models, settings.alias) == ("compare", ["a", "b"], "staging")
    photos = ["glass, metal.jpg", "-", "[1].jpg"]
    assert load_settings(PredictSettings, [*photos, "--threads", "2"]).photos == photos
    assert load_settings(PredictSettings, ["--json", "--", "-a.jpg", "b.jpg"]).photos == ["-a.jpg", "b.jpg"]
    assert load_settings(ExportSettings, ["--quantize", "int8", "models/x"]).bundle == Path("models/x")


@pytest.mark.parametrize(
    ("words", "found", "hint"),
    [
        (["--epochs"], "--epochs: expected one argument", "train --help"),
        (["--xyzzy", "3"], "unrecognized arguments: --xyzzy", "train --help-all"),
        (["--epoch", "3"], "unrecognized arguments: --epoch", "'--epochs'"),
        (["mine", "yours"], "unrecognized arguments: yours", "train --help"),
        (["--no-pretraned"], "unrecognized arguments: --no-pretraned", "'--pretrained'"),
    ],
)
def test_a_wrong_command_line_says_a_way_out(words: list[str], found: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(TrainSettings, words)
    assert found in caught.value.found and hint in caught.value.hint


@pytest.mark.parametrize("verb", VERBS)
def test_no_flag_replaces_itself_silently(verb: str) -> None:
    cls = settings_of(verb)
    for name, field in cls.model_fields.items():
        if POSITIONAL in field.metadata or is_list(field):
            continue
        flag = SHORTCUTS.get(name, "--" + name.replace("_", "-"))
        word = [] if field.annotation is bool else ["1"]
        twice = [flag, *word, "--no-" + flag[2:]] if not word else [flag, "1", flag, "2"]
        with pytest.raises(SettingsError, match="is given twice") as caught:
            parse_arguments(cls, twice)
        assert flag in caught.value.found
