"""Runs the gateway under uvicorn: one process, or several that share a socket; stops when its requests are answered."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import SettingsError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.serving.http.gateway import create_app, load_model
from image_classification_trash.serving.operations.prometheus import FOLDER
from image_classification_trash.show import Note, Result, Shown

BACKLOG = 512


@dataclass(frozen=True)
class Server(Result):
    """A model that loads, and a socket that listens."""

    settings: ServeSettings
    classifier: TrashClassifier
    listening: socket.socket

    @property
    def url(self) -> str:
        """Where it can be reached; with `--port 0` only this tells."""
        host, port = self.listening.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def for_people(self) -> Iterator[Shown]:
        """Yield where it can be reached, and answer requests until it is stopped."""
        yield Note(f"serving {self.classifier.config.name} at {self.url}, until Ctrl-C")
        self.run()

    def as_json(self) -> dict[str, str]:
        """Return what is served, and where it can be reached."""
        return {"model": self.classifier.config.name, "url": self.url}

    def run(self) -> None:
        """Answer requests until a signal stops the process."""
        # uvicorn raises the signal again once it has stopped; a stop that was asked for is no failure.
        signal.signal(signal.SIGTERM, lambda *_: None)
        if self.settings.workers == 1:
            app = create_app(self.settings, self.classifier)
            uvicorn.Server(self._config(app)).run(sockets=[self.listening])
            return
        with tempfile.TemporaryDirectory(prefix="trash-metrics-") as folder:
            os.environ[FOLDER] = folder  # the workers' counts are added up there
            config = self._config(partial(create_app, self.settings), factory=True)
            Multiprocess(config, [self.listening]).run()

    def _config(self, app: Callable[..., Any], factory: bool = False) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            factory=factory,
            workers=self.settings.workers,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=self.settings.stop_seconds,
        )


def prepare(settings: ServeSettings) -> Server:
    """Load the model, which shows that it can be, and listen.

    Raises:
        BundleError: there is no model, or it is damaged.
        MissingExtraError: its engine is not installed.
        SettingsError: the address cannot be listened on.
    """
    settings = settings.model_copy(update={"model": chosen_model(settings.model, settings.models_dir)})
    return Server(settings, load_model(settings), _listen(settings))


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        found = f"{settings.host}, port {settings.port} cannot be listened on: {error.strerror}."
        raise SettingsError(found, "Choose another: --port 0 takes one that is free.") from error
