"""Bounds the bytes of request bodies that a worker holds: what does not fit is refused, while it arrives."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_classification_trash.serving.http.api_errors import full


class HeldBytes:
    """Counts the bytes of all bodies until their requests are answered; the one that exceeds `limit` gets 503.

    Only the event loop uses it, so no lock is needed.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit, self._held = app, limit, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        own = 0

        async def counted() -> Message:
            nonlocal own
            message = await receive()
            length = len(message.get("body") or b"")
            own += length
            self._held += length
            if self._held > self._limit:
                raise full()
            return message

        try:
            await self._app(scope, counted if scope["type"] == "http" else receive, send)
        finally:
            self._held -= own
