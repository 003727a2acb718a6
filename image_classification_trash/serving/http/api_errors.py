"""Says why a request gets no answer: a status, a code for programs, a sentence for people."""

from collections.abc import Mapping

from image_classification_trash.errors import (
    FetchError,
    FetchTooLargeError,
    ModelServerError,
    ModelServerTimeoutError,
    PhotoError,
    PhotoTooLargeError,
    UrlRefusedError,
)

RETRY_SECONDS = 1


class RefusalError(Exception):
    """A request, or one photo of it, that cannot be answered.

    Attributes:
        status: of HTTP.
        code: stable, for programs.
        message: what was found and what to do, for people.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self._headers = dict(headers or {})

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the response has because of it."""
        return {"Retry-After": str(RETRY_SECONDS)} if self.status == 503 else self._headers

    def as_json(self) -> dict[str, str]:
        """Return what an answer has under `error`."""
        return {"code": self.code, "message": self.message}


def refusal_of(error: PhotoError | ModelServerError) -> RefusalError:
    """Turn a bad photo, or a model server's failure, into the refusal of the request that needed it."""
    message = str(error)
    match error:
        case ModelServerTimeoutError():
            return RefusalError(504, "too_slow", message)
        case ModelServerError():
            return RefusalError(502, "model_server", message)
        case PhotoTooLargeError() | FetchTooLargeError():
            return RefusalError(413, error.code, message)
        case UrlRefusedError():
            return RefusalError(422, error.code, message)
        case FetchError():
            return RefusalError(400, error.code, message)
    return RefusalError(400, error.code, message)


def full() -> RefusalError:
    """Refuse a request because too many are waiting."""
    return RefusalError(503, "full", "Too many requests are waiting. Try again in a moment.")


def wrong_body(message: str) -> RefusalError:
    """Refuse a body that is of the right type but does not hold what it should."""
    return RefusalError(422, "wrong_body", message)


def wrong_type(given: str, *accepted: str) -> RefusalError:
    """Refuse a body whose media type is `given`, empty where the request has none."""
    message = f"The content type is {given or 'missing'}; send {' or '.join(accepted)}."
    return RefusalError(415, "wrong_content_type", message)
