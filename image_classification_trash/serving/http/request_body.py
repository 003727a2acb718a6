"""Reads request bodies within a size limit and a deadline, and parses them; all in memory, nothing on disk."""

import asyncio
import re
from collections.abc import AsyncGenerator
from io import BytesIO
from tempfile import SpooledTemporaryFile

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from image_classification_trash.inference.photo_cost import photo_kind
from image_classification_trash.serving.http.api_errors import RefusalError, wrong_body, wrong_type
from image_classification_trash.serving.http.request_json import check_charset, media_type
from image_classification_trash.serving.http.schemas import MAX_NAME
from image_classification_trash.serving.pipeline import Limits, Photo

MULTIPART, JSON, IMAGES = "multipart/form-data", "application/json", "image/"
_PIECE = 2**13


async def read_body(request: Request, limits: Limits, seconds: float) -> bytes:
    """Read the whole body, as it was sent.

    Raises:
        RefusalError: 413 if it is longer than `limits.max_bytes`, 408 if it takes longer than `seconds`.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        limits.check_length(int(length), "request")
    # It gives what it holds away without a copy, for which a large body would stop the event loop.
    body = BytesIO()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body.write(piece)
                limits.check_length(body.tell(), "request")
    except TimeoutError as error:
        raise RefusalError(
            408, "upload_too_slow", f"The body did not arrive within {seconds:g} seconds."
        ) from error
    except ClientDisconnect as error:  # nobody reads this answer; it is for the counts
        raise RefusalError(
            400, "disconnected", "The connection was closed before the body was complete."
        ) from error
    return body.getvalue()


def content_type(request: Request) -> str:
    """Read the body's media type, a form's, JSON's or a photo's, from its header.

    Raises:
        RefusalError: 415 if it is none of those, or its text is in another charset than UTF-8.
    """
    header = request.headers.get("content-type", "")
    check_charset(header)
    given = media_type(header)
    if given not in (MULTIPART, JSON) and not given.startswith(IMAGES):
        raise wrong_type(given, MULTIPART, JSON, "image/*")
    return given


async def uploads(headers: Headers, body: bytes, limits: Limits) -> list[Photo]:
    """Take the files out of a multipart body, whatever their fields are called, and photos that have no file name.

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
    parts = [(part, await part.read()) for _, part in form.multi_items() if isinstance(part, UploadFile)]
    files = [(part, data) for part, data in parts if part.filename is not None or _is_photo(part, data)]
    if not files:
        raise wrong_body("The form holds no file. Send photos as files, such as: curl -F photos=@photo.jpg")
    limits.check_count(len(files))
    return [Photo(_name(part, n), data) for n, (part, data) in enumerate(files, 1)]


def _is_photo(part: UploadFile, data: bytes) -> bool:
    """Whether a part without a file name is a photo and no text: by its type, or by its first bytes."""
    kind = media_type(part.content_type or "")
    return kind.startswith(IMAGES) or kind == "application/octet-stream" or photo_kind(data) is not None


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

    def on_headers_finished(self) -> None:
        """Keep the bytes of a part that has no file name, which would be decoded as text."""
        super().on_headers_finished()
        part = self._current_part
        if part.file is None:
            memory = SpooledTemporaryFile(self.spool_max_size)  # noqa: SIM115  read later, and never on disk
            part.file = UploadFile(memory, size=0, headers=Headers(raw=part.item_headers))  # type: ignore[arg-type]


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
        await asyncio.sleep(0)  # a parser in Python: others have their turn between two pieces
    yield b""
