"""Request bodies: read with a cap and a deadline, then taken apart. All of it stays in memory, none on disk."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from image_classification_trash.serving.http.api_errors import RefusalError, wrong_body

MULTIPART, JSON = "multipart/form-data", "application/json"


@dataclass(frozen=True)
class Upload:
    """An encoded photo that was sent, under the name it was sent with."""

    name: str
    data: bytes


async def read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        RefusalError: 413 if it is longer than `max_bytes`, 408 if it takes longer than `seconds`.
    """
    too_large = RefusalError(413, "too_large", f"The request is longer than {max_bytes / 2**20:g} MiB.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > max_bytes:
                    raise too_large
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
    """The body's media type.

    Raises:
        RefusalError: 415 if it is none of those accepted.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in accepted:
        message = f"The content type is {given or 'missing'}; send {' or '.join(accepted)}."
        raise RefusalError(415, "wrong_content_type", message)
    return given


async def uploads(headers: Headers, body: bytes, max_photos: int) -> list[Upload]:
    """The files of a multipart body, whatever their fields are called.

    Raises:
        RefusalError: 422 if it is not multipart, or holds no file or more than `max_photos`.
    """
    try:
        form = await _InMemoryParser(headers, _once(body), max_files=max_photos, max_fields=100).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "it is malformed"
        raise wrong_body(f"The form cannot be read: {reason}") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise wrong_body("The form holds no file. Send photos as files, such as: curl -F photos=@photo.jpg")
    return [Upload(file.filename or f"photo {n}", await file.read()) for n, file in enumerate(files, 1)]


class _InMemoryParser(MultiPartParser):
    """Keeps files in memory: the body was read whole already, and a container's disk may be read-only."""

    spool_max_size = 2**40


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    yield b""
