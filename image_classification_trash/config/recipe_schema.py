"""The JSON schema of recipes: an editor that reads it completes and checks a recipe while it is typed.

trash-classifier --schema > recipe.schema.json
"""

from typing import Any

from image_classification_trash.config.verbs import VERBS, settings_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe: a section per command, with the settings that `--help-all` shows.

    A section may leave everything out, since the environment and flags can give it. A command that begins with another's
    section, as `tune` does with `train`, states only what differs, and its own schema has all of it.
    """
    sections: dict[str, Any] = {}
    for name, verb in VERBS.items():
        section = settings_of(name).model_json_schema()
        section.pop("required", None)
        sections[name] = {
            "description": verb.help,
            "anyOf": [{"type": "null"}, {**section, "title": f"Settings of {name}"}],
        }
    return {
        "$schema": DIALECT,
        "title": "Recipe of trash-classifier",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }
