"""Why a request gets no answer: a status, a code for programs, a sentence for people."""

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

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    @property
    def headers(self) -> dict[str, str]:
        """Further headers of the response."""
        return {"Retry-After": str(RETRY_SECONDS)} if self.status == 503 else {}


def refusal_of(error: PhotoError) -> RefusalError:
    """What a bad photo means for its request."""
    message = str(error)
    if isinstance(error, PhotoTooLargeError | FetchTooLargeError):
        return RefusalError(413, "too_large", message)
    if isinstance(error, UrlRefusedError):
        return RefusalError(422, "url_refused", message)
    return RefusalError(400, "url_failed" if isinstance(error, FetchError) else "not_a_photo", message)


def refusal_of_server(error: ModelServerError) -> RefusalError:
    """What a model server's failure means for the request that needed it."""
    if isinstance(error, ModelServerTimeoutError):
        return RefusalError(504, "too_slow", str(error))
    return RefusalError(502, "model_server", str(error))


def full() -> RefusalError:
    """There is no room for another request."""
    return RefusalError(503, "full", "Too many requests are waiting. Try again in a moment.")


def wrong_body(message: str) -> RefusalError:
    """The body is of the right type, but does not hold what it should."""
    return RefusalError(422, "wrong_body", message)
