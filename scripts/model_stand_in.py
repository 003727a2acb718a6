"""A model server that speaks TensorFlow Serving's REST interface, for where TensorFlow Serving's binary cannot be had.

    .venv-stand-in/bin/python scripts/model_stand_in.py models/trashnet/export/model.tflite --port 8501

It is KServe's server with a subclass of a few lines, in an environment of its own (`make tools`):
`POST /v1/models/trash:predict` takes instances of `{"b64": ...}` and `GET /v1/models/trash` tells the model's state.
It stands in for trials and tests; it is not made for production.
"""

import argparse
import base64
import socket
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import HTTPException
from kserve import Model, ModelServer
from kserve.errors import InvalidInput
from kserve.model_server import app
from kserve.protocol.rest.server import RESTServer

from image_classification_trash.errors import PhotoError
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.runtimes import open_file

SIGNATURE = "serving_bytes"


class TrashModel(Model):
    """An exported file behind the signature that takes encoded photos, as the SavedModel has it."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self._config, self._runtime = open_file(path)
        self.ready = True

    def predict(self, payload: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        """`{"signature_name": "serving_bytes", "instances": [{"b64": ...}]}` to `{"predictions": [[...]]}`."""
        if payload.get("signature_name") != SIGNATURE:
            raise InvalidInput(
                f'the signature served is "{SIGNATURE}", not {payload.get("signature_name")!r}'
            )
        try:
            photos = np.stack([self._decode(instance["b64"]) for instance in payload["instances"]])
        except (KeyError, TypeError, ValueError, PhotoError) as error:
            raise InvalidInput(f"each instance must be {{'b64': a photo}}: {error}") from error
        return {"predictions": self._runtime(photos).tolist()}

    def _decode(self, text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return read_photo(
            base64.b64decode(text, validate=True), self._config.input_size, self._config.resize_mode
        )


def serve(model: TrashModel, listener: socket.socket) -> None:
    """Answer requests on an open socket until a signal comes; KServe's own start would bind every address."""
    server = ModelServer(enable_grpc=False)
    server.register_model(model)

    @app.get("/v1/models/{name}")  # before KServe's own route, which answers in another shape
    def state(name: str) -> dict[str, Any]:
        if name != model.name:
            raise HTTPException(404, f"Servable not found for request: Latest({name})")
        ok = {"error_code": "OK", "error_message": ""}
        return {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ok}]}

    port = listener.getsockname()[1]
    RESTServer("", server.dataplane, server.model_repository_extension, port).create_application()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="an exported .tflite or .onnx file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501, help="0 takes a free one")
    parser.add_argument("--name", default="trash", help="under which the model is served")
    given = parser.parse_args()
    model = TrashModel(given.name, given.model)
    with socket.create_server((given.host, given.port)) as listener:
        print(f"Model stand-in: http://{given.host}:{listener.getsockname()[1]}", flush=True)
        serve(model, listener)


if __name__ == "__main__":
    main()
