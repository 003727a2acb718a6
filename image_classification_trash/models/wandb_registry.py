"""The same promotions in the registry of Weights & Biases: its versions are the artifacts that tracked trainings made.

trash-classifier models promote trashnet --registry wandb
"""

import os
from typing import Any

from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.errors import PromotionError
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.tracking.wandb_tracker import (
    artifact_name,
    content_alias,
    has_key,
    import_wandb,
    server_address,
)


class WandbRegistry:
    """A registry of W&B, through its API.

    Raises:
        MissingExtraError: wandb is not installed.
        PromotionError: there is no key.
    """

    def __init__(self, settings: ModelsSettings) -> None:
        self._settings, self._wandb = settings, import_wandb("--registry wandb")
        if not has_key(server_address()):
            hint = "Log in with: wandb login; or leave out --registry wandb."
            raise PromotionError(f"There is no key for {server_address()} here.", hint)
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        self._api = self._wandb.Api()

    def promote(self, bundle: Bundle) -> None:
        """Link the artifact of a tracked bundle into the registry's collection, under the alias that is moved.

        Raises:
            PromotionError: the bundle was not tracked, or W&B refuses; nothing was changed.
        """
        settings, name = self._settings, artifact_name(bundle.config.name)
        entity = settings.tracker_entity or self._api.default_entity
        path = f"{entity}/{settings.tracker_project}/{name}:{content_alias(bundle)}"
        try:
            artifact = self._api.artifact(path, type="model")
            artifact.link(self._collection(name), aliases=[settings.alias])
            artifact.aliases.append(settings.alias)
            artifact.save()
        except self._errors() as error:
            hint = "Train or evaluate it with --tracker wandb, send offline runs with wandb sync, and promote again."
            raise PromotionError(f"W&B does not link {path}: {error}.", hint) from error

    def rows(self, names: list[str]) -> list[list[str]]:
        """Versions of collections, newest first: collection and version, aliases, data set, validation accuracy.

        Raises:
            PromotionError: W&B refuses.
        """
        rows = []
        try:
            for name in names:
                path = self._collection(artifact_name(name))
                if not self._api.artifact_collection_exists(path, "model"):
                    continue
                for artifact in self._api.artifacts("model", path):
                    rows.append(_row(name, artifact))
        except self._errors() as error:
            hint = "Look at --wandb-registry and --tracker-entity."
            raise PromotionError(
                f"W&B does not list the registry {self._settings.wandb_registry}: {error}.", hint
            ) from error
        return rows

    def _collection(self, name: str) -> str:
        return f"wandb-registry-{self._settings.wandb_registry}/{name}"

    def _errors(self) -> tuple[type[Exception], ...]:
        import requests  # noqa: PLC0415 - wandb brings it

        errors = self._wandb.errors
        return errors.Error, ValueError, requests.RequestException


def _row(name: str, artifact: Any) -> list[str]:
    about = artifact.metadata
    accuracy = about.get("validation", {}).get("accuracy")
    aliases = [alias for alias in artifact.aliases if not alias.startswith("weights-")]
    return [
        f"{name}:{artifact.version}",
        ", ".join(aliases),
        f"{about.get('data', '')} {about.get('fingerprint', '')[:12]}".strip(),
        "" if accuracy is None else f"{accuracy:.1%}",
    ]
