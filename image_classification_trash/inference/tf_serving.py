"""An engine on another machine: the REST interface of TensorFlow Serving, or a compatible server.

    runtime = TfServingRuntime(ModelServer("http://model:8501"), classes=6)
    runtime(photos)                                   # uint8 (B, H, W, 3) to float32 (B, C)

Photos are decoded and resized here, by the one pixel contract, and sent as bitmaps to the signature `serving_bytes`:
lossless, so that the answer does not change, and a tenth of the size of the same pixels as nested lists of numbers.
There is no gRPC, because its messages (tensorflow-serving-api) cannot be imported without TensorFlow.
"""

import base64
import contextlib
import io
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from image_classification_trash.errors import (
    MissingExtraError,
    ModelServerError,
    ModelServerTimeoutError,
    install_hint,
)
from image_classification_trash.inference.images import Pixels

SIGNATURE = "serving_bytes"
STATE_SECONDS = 2.0
"""Limit for a model server's answer to whether it is ready."""
_PAUSE = 0.05
_MAX_ANSWER = 2**20
_MAX_REASON = 300
_BUSY = {429, 503}
_HINT = "Look at the model server's log, and whether it serves this model."


@dataclass(frozen=True)
class ModelServer:
    """The address of a model server, and the limits of a request to it.

    Attributes:
        url: address of its REST interface, such as http://model:8501.
        model: name under which it serves the model.
        seconds: limit for one answer, including retries.
        retries: further attempts if the connection fails or breaks, or the server is busy.
        connections: most connections, and so requests, at once.
    """

    url: str
    model: str = "trash"
    seconds: float = 5.0
    retries: int = 2
    connections: int = 16

    @property
    def path(self) -> str:
        """Address of the model."""
        return f"{self.url.rstrip('/')}/v1/models/{self.model}"


class TfServingRuntime:
    """A model on a model server; may be called from several threads at once."""

    def __init__(self, server: ModelServer, classes: int) -> None:
        self._server, self._classes = server, classes
        self._httpx = _httpx()
        limits = self._httpx.Limits(max_connections=server.connections, keepalive_expiry=30)
        self._client = self._httpx.Client(limits=limits, trust_env=False, follow_redirects=False)

    def __call__(self, photos: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Send photos uint8 (B, H, W, 3); return probabilities float32 (B, C).

        Raises:
            ModelServerError: the server cannot be reached, refuses, or sends no valid answer.
            ModelServerTimeoutError: it takes too long.
        """
        instances = [{"b64": base64.b64encode(bitmap(photo)).decode("ascii")} for photo in photos]
        body = json.dumps({"signature_name": SIGNATURE, "instances": instances}).encode()
        return self._rows(self._ask(body), len(photos))

    def is_available(self) -> bool:
        """Ask the server whether it serves the model."""
        try:
            answer = self._client.get(self._server.path, timeout=STATE_SECONDS)
            states = answer.json()["model_version_status"]
            return answer.status_code == 200 and any(state["state"] == "AVAILABLE" for state in states)
        except (self._httpx.HTTPError, ValueError, KeyError, TypeError):
            return False

    def _ask(self, body: bytes) -> bytes:
        """Return the server's answer, within the attempts and the time allowed."""
        deadline = time.monotonic() + self._server.seconds
        for attempt in range(self._server.retries):
            with contextlib.suppress(_PassingError):
                return self._try(body, deadline)
            time.sleep(min(_PAUSE * 2**attempt, max(0.0, deadline - time.monotonic())))
        return self._try(body, deadline)

    def _try(self, body: bytes, deadline: float) -> bytes:
        """Return the answer of one attempt; raise `_PassingError` if another attempt may succeed."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        try:
            status, answer = self._post(body, left, deadline)
        except self._httpx.TimeoutException as error:
            raise self._too_slow() from error
        except self._httpx.TransportError as error:
            raise _PassingError(f"The model server cannot be reached: {_reason(error)}.", _HINT) from error
        if status == 200:
            return answer
        kind = _PassingError if status in _BUSY else ModelServerError
        raise kind(f"The model server answers with status {status}: {_said(answer)}", _HINT)

    def _post(self, body: bytes, seconds: float, deadline: float) -> tuple[int, bytes]:
        """Return status and body; both the time and the length of the answer are bounded."""
        headers = {"Content-Type": "application/json"}
        url, answer = f"{self._server.path}:predict", bytearray()
        with self._client.stream("POST", url, content=body, headers=headers, timeout=seconds) as response:
            for piece in response.iter_bytes():
                answer += piece
                if time.monotonic() > deadline:
                    raise self._too_slow()
                if len(answer) > _MAX_ANSWER:
                    raise ModelServerError("The model server's answer does not end.", _HINT)
            return response.status_code, bytes(answer)

    def _rows(self, answer: bytes, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Read the `predictions` of an answer, float32 (count, C)."""
        try:
            rows = np.asarray(json.loads(answer)["predictions"], np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelServerError("The model server's answer holds no predictions.", _HINT) from error
        if rows.shape != (count, self._classes):
            found = (
                f"The model server returns {rows.shape}, not {count} rows of {self._classes} probabilities."
            )
            raise ModelServerError(found, "It serves another model than the gateway's bundle describes.")
        if not (np.isfinite(rows).all() and (rows >= 0).all() and np.allclose(rows.sum(1), 1, atol=1e-2)):
            raise ModelServerError("The model server's numbers are not probabilities.", _HINT)
        return rows

    def _too_slow(self) -> ModelServerTimeoutError:
        found = f"The model server did not answer within {self._server.seconds:g} seconds."
        return ModelServerTimeoutError(found, "Try again later.")


class _PassingError(ModelServerError):
    """A failure after which another attempt may succeed."""


def bitmap(photo: Pixels) -> bytes:
    """Encode a photo, uint8 (H, W, 3), as a BMP file: lossless, and fast."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "BMP")
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    """Return the reason why a connection failed, in a few words."""
    return str(error).rstrip(".").lower() or type(error).__name__


def _said(answer: bytes) -> str:
    """Return the server's own message, shortened."""
    try:
        text = str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        text = answer.decode(errors="replace")
    text = " ".join(text.split())
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}..."


def _httpx() -> Any:
    try:
        import httpx  # noqa: PLC0415  only this engine needs it
    except ImportError as error:
        raise MissingExtraError(
            "The engine tf-serving cannot be loaded: its library is not installed.",
            install_hint("serve"),
        ) from error
    return httpx
