"""Replaces the model of a running gateway: the new one is loaded beside the old, checked, and answers from then on.

    kill -HUP PID                               the process that `trash-classifier serve` is; all its workers follow
    POST /v1/models/trash:reload                with --reload-route

A model that cannot be loaded, or whose answer to a black photo is no row of probabilities, is refused; the old one stays.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import TrashClassifierError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.inference.tf_serving import ModelServer
from image_classification_trash.serving.http.api_errors import RefusalError

logger = logging.getLogger("uvicorn.error")
DIGEST = "Model-Digest"
_ONE_AT_A_TIME = threading.Lock()


class Reloadable(Protocol):
    """A gateway, as far as its model goes."""

    settings: ServeSettings

    def use(self, classifier: TrashClassifier, model: Path) -> None:
        """Let another model answer from now on."""
        ...


def load_model(settings: ServeSettings) -> tuple[TrashClassifier, Path]:
    """Load the settings' model, or the newest bundle; returns where it was found too.

    Raises:
        BundleError: there is no model, or it is damaged.
        MissingExtraError: its engine is not installed.
    """
    model = chosen_model(settings.model, settings.models_dir)
    if settings.backend_url is None:
        return TrashClassifier.load(model, settings.runtime, settings.threads), model
    server = ModelServer(
        settings.backend_url,
        settings.backend_model,
        settings.backend_seconds,
        settings.backend_retries,
        settings.backend_connections,
    )
    return TrashClassifier.connect(model, server), model


def reload(gateway: Reloadable) -> TrashClassifier:
    """Load the model that the settings name now, and let it answer; takes seconds, so not on the event loop.

    Raises:
        TrashClassifierError: the new model cannot be used; the old one keeps answering.
    """
    with _ONE_AT_A_TIME:
        classifier, model = load_model(gateway.settings)
        if not classifier.is_remote:
            classifier.warm_up()
        gateway.use(classifier, model)
    logger.warning("The model is now %s, %s.", classifier.config.name, classifier.digest)
    return classifier


def digest_header(classifier: TrashClassifier) -> dict[str, str]:
    """Return the header that says which model answered; none where a model server did."""
    return {DIGEST: f"sha256:{classifier.digest}"} if classifier.digest else {}


@contextmanager
def reload_on_hangup(gateway: Reloadable) -> Iterator[None]:
    """Reload the model at each SIGHUP, on systems that have it, without blocking the event loop."""

    def work() -> None:
        try:
            reload(gateway)
        except TrashClassifierError as error:
            logger.error("The model was not replaced: %s", error)

    loop = asyncio.get_running_loop()
    with suppress(
        AttributeError, NotImplementedError, RuntimeError, ValueError
    ):  # Windows, or a thread of a test
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, work))
    yield
    with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        loop.remove_signal_handler(signal.SIGHUP)


def add_reload_route(app: FastAPI, gateway: Reloadable) -> None:
    """Add the route that replaces the model; of several workers, the others follow this one within seconds."""

    @app.post("/v1/models/trash:reload", tags=["TensorFlow Serving"], summary="Load the model again")
    def reload_model() -> Response:
        try:
            classifier = reload(gateway)
        except TrashClassifierError as error:
            raise RefusalError(409, "model_refused", f"The old model keeps answering. {error}") from error
        parent = multiprocessing.parent_process() if gateway.settings.is_supervised else None
        if parent is not None and parent.pid is not None:
            os.kill(parent.pid, signal.SIGHUP)  # which has every worker replaced
        about = {"model": classifier.config.name, "digest": classifier.digest}
        return JSONResponse(about, 200 if parent is None else 202, digest_header(classifier))
