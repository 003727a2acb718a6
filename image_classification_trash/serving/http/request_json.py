"""What a request's JSON says, without any web framework: for the gateway and for the Lambda, whose start must be short."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from image_classification_trash.serving.http.api_errors import wrong_body


@dataclass(frozen=True)
class Link:
    """A photo behind an address."""

    url: str


@dataclass(frozen=True)
class Image:
    """An encoded photo."""

    data: bytes


def parse_json(body: bytes) -> Any:
    """The value that a body holds.

    Raises:
        RefusalError: 422 if it is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise wrong_body("The body is not JSON.") from error


def decode_base64(text: str) -> bytes:
    """Bytes from base64.

    Raises:
        RefusalError: 422 if it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong_body("A photo is not valid base64.") from error


def asked_photo(value: Any) -> Link | Image:
    """The photo that `{"url": ...}` or `{"image": base64}` stands for.

    Raises:
        RefusalError: 422 if it is neither.
    """
    match value:
        case {"url": str(url), **others} if not others:
            return Link(url)
        case {"image": str(text), **others} if not others:
            return Image(decode_base64(text))
    raise wrong_body('Send {"url": "https://..."} or {"image": "base64"}.')
