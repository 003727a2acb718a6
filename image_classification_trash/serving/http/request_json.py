"""Reads a request's JSON, without any web framework: for the gateway and for the Lambda, which must start quickly."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from image_classification_trash.serving.http.api_errors import wrong_body
from image_classification_trash.serving.pipeline import Photo


@dataclass(frozen=True)
class Link:
    """The address of a photo."""

    url: str


def media_type(header: str) -> str:
    """Take the media type out of a Content-Type header, in lower case; empty where there is none."""
    return header.partition(";")[0].strip().lower()


def parse_json(body: bytes) -> Any:
    """Parse a body as JSON.

    Raises:
        RefusalError: 422 if it is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise wrong_body("The body is not JSON.") from error


def decode_base64(text: str) -> bytes:
    """Decode a photo that was sent as base64.

    Raises:
        RefusalError: 422 if it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong_body("A photo is not valid base64.") from error


def asked_photo(value: Any) -> Link | Photo:
    """Read `{"url": ...}` or `{"image": base64}`.

    Raises:
        RefusalError: 422 if it is neither.
    """
    match value:
        case {"url": str(url), **others} if not others:
            return Link(url)
        case {"image": str(text), **others} if not others:
            return Photo("photo 1", decode_base64(text))
    raise wrong_body('Send {"url": "https://..."} or {"image": "base64"}.')
