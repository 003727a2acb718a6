"""Bounds the bytes of request bodies that a worker holds: what does not fit is refused, while it arrives."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_classification_trash.serving.http.api_errors import full

_HOLD = "hold_bytes"


def hold(scope: Scope, count: int) -> None:
    """Count further bytes that a request holds until it is answered, those of an inflated body or behind a link.

    Raises:
        RefusalError: 503, all requests together hold too many.
    """
    scope[_HOLD](count)


class HeldBytes:
    """Counts the bytes of all bodies until their requests are answered; the one that exceeds `limit` gets 503.

    Only the event loop uses it, so no lock is needed. What lies inside counts more by `hold`.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit, self._held = app, limit, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = 0

        def hold_more(count: int) -> None:
            nonlocal own
            own += count
            self._held += count
            if self._held > self._limit:
                raise full()

        async def counted() -> Message:
            message = await receive()
            hold_more(len(message.get("body") or b""))
            return message

        scope[_HOLD] = hold_more
        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= own
