"""Runs the gateway under uvicorn, in one process or in several that share a socket; answers open requests before it stops."""

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import SettingsError, TrashClassifierError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.serving.http.connections import BoundedConfig, ConnectionLimits
from image_classification_trash.serving.http.gateway import create_app
from image_classification_trash.serving.http.reload import load_model
from image_classification_trash.serving.operations.access import KEYS, ApiKeys
from image_classification_trash.serving.operations.prometheus import FOLDER
from image_classification_trash.serving.operations.supervision import EndingServer, Supervisor
from image_classification_trash.serving.operations.worker_pool import photos_at_once
from image_classification_trash.show import Note, Result, Shown

logger = logging.getLogger("uvicorn.error")
BACKLOG = 512


@dataclass(frozen=True)
class Server(Result):
    """A model that was loaded, and a socket that is listening."""

    settings: ServeSettings
    classifier: TrashClassifier
    listening: socket.socket
    model: Path | None = None

    @property
    def url(self) -> str:
        """The address to reach it at, with the port that the system chose for `--port 0`."""
        host, port = self.listening.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def for_people(self) -> Iterator[Shown]:
        """Yield where it can be reached, and answer requests until it is stopped."""
        yield Note(f"serving {self.classifier.config.name} at {self.url}, until Ctrl-C")
        settings = self.settings
        if self.listening.getsockname()[0] not in ("127.0.0.1", "::1"):
            hosts = ", ".join(settings.server_hosts) or "no others; --server-hosts adds some"
            yield Note(f"it answers to its addresses, private names and these host names: {hosts}")
            if settings.api_keys_file is None and KEYS not in os.environ:
                yield Note("it asks for no API key; --api-keys-file FILE makes it")
        self.run()

    def as_json(self) -> dict[str, str]:
        """Return what is served, and where it can be reached."""
        return {"model": self.classifier.config.name, "url": self.url}

    def run(self) -> None:
        """Answer requests until a signal stops the process."""
        # A stop that was asked for is not a failure, before the first request or after the last: uvicorn raises the
        # signal again once it has stopped.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        if not self.settings.is_supervised:
            app = create_app(self.settings, self.classifier, model=self.model)
            EndingServer(self._config(app)).run(sockets=[self.listening])
            return
        with tempfile.TemporaryDirectory(prefix="trash-metrics-") as folder:
            os.environ[FOLDER] = folder  # where the workers' counts are added up
            config = self._config(partial(_app_of_worker, self.settings), factory=True)
            Supervisor(config, [self.listening], self.settings.worker_mb).run()

    def _config(self, app: Callable[..., Any], factory: bool = False) -> uvicorn.Config:
        at_once = photos_at_once(self.settings, self.classifier.is_remote)
        files = (
            2 * at_once * (self.settings.isolation + self.classifier.is_remote)
        )  # ordinary and heavy photos
        return BoundedConfig(
            app,
            ConnectionLimits(self.settings.max_connections, files),
            factory=factory,
            workers=self.settings.workers,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=self.settings.stop_seconds,
        )


def prepare(settings: ServeSettings) -> Server:
    """Load the model and listen, so that what cannot work fails now.

    Raises:
        BundleError: there is no model, or it is damaged, or its answers are no probabilities.
        MissingExtraError: its engine is not installed.
        SettingsError: the address cannot be listened on, or API keys cannot be read.
    """
    ApiKeys.of(settings)  # refuses bad ones before the model is loaded
    classifier, model = load_model(settings)
    if not classifier.is_remote:  # before anybody is told that it serves
        classifier.warm_up()
    return Server(settings, classifier, _listen(settings), model)


def _app_of_worker(settings: ServeSettings) -> FastAPI:
    """Make the gateway in a worker; one that cannot be made ends it with a line in the log instead of a traceback."""
    try:
        return create_app(settings)
    except TrashClassifierError as error:
        logger.error("This worker does not serve: %s", error)
        sys.exit(1)


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        found = f"{settings.host}, port {settings.port} cannot be listened on: {error.strerror}."
        raise SettingsError(found, "Choose another: --port 0 takes one that is free.") from error
