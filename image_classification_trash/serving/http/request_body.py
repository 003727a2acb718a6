"""Reads request bodies within a size limit and a deadline, and parses them; all in memory, nothing on disk."""

import asyncio
import re
from collections.abc import AsyncGenerator

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from image_classification_trash.serving.http.api_errors import RefusalError, wrong_body, wrong_type
from image_classification_trash.serving.http.request_json import check_charset, media_type
from image_classification_trash.serving.http.schemas import MAX_NAME
from image_classification_trash.serving.pipeline import Limits, Photo

MULTIPART, JSON = "multipart/form-data", "application/json"
_PIECE = 2**16


async def read_body(request: Request, limits: Limits, seconds: float) -> bytes:
    """Read the whole body.

    Raises:
        RefusalError: 413 if it is longer than `limits.max_bytes`, 408 if it takes longer than `seconds`.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        limits.check_length(int(length), "request")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                limits.check_length(len(body), "request")
    except TimeoutError as error:
        raise RefusalError(
            408, "upload_too_slow", f"The body did not arrive within {seconds:g} seconds."
        ) from error
    except ClientDisconnect as error:  # nobody reads this answer; it is for the counts
        raise RefusalError(
            400, "disconnected", "The connection was closed before the body was complete."
        ) from error
    return bytes(body)


def content_type(request: Request, *accepted: str) -> str:
    """Read the body's media type from its header.

    Raises:
        RefusalError: 415 if it is none of those accepted, or its text is in another charset than UTF-8.
    """
    header = request.headers.get("content-type", "")
    check_charset(header)
    given = media_type(header)
    if given not in accepted:
        raise wrong_type(given, *accepted)
    return given


async def uploads(headers: Headers, body: bytes, limits: Limits) -> list[Photo]:
    """Take the files out of a multipart body, whatever their fields are called.

    Raises:
        RefusalError: 422 if it is not multipart, or holds no file or more than `limits.max_photos`.
    """
    try:
        form = await _InMemoryParser(
            headers, _once(body), max_files=limits.max_photos, max_fields=100
        ).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "it is malformed"
        raise wrong_body(f"The form cannot be read: {reason}") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise wrong_body("The form holds no file. Send photos as files, such as: curl -F photos=@photo.jpg")
    return [Photo(_name(file, n), await file.read()) for n, file in enumerate(files, 1)]


def _name(file: UploadFile, number: int) -> str:
    """The name of a file, which the answer repeats.

    Raises:
        RefusalError: 422 if it is overlong, or no text.
    """
    name = file.filename or f"photo {number}"
    if len(name) > MAX_NAME or re.search("[\ud800-\udfff]", name):
        raise wrong_body(f"A file's name has more than {MAX_NAME} characters, or halves of surrogate pairs.")
    return name


class _InMemoryParser(MultiPartParser):
    """Keeps files in memory: the body was read whole already, and a container's disk may be read-only."""

    spool_max_size = 2**40


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
        await asyncio.sleep(0)  # a parser in Python: others have their turn between two pieces
    yield b""
