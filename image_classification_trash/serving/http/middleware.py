"""Wraps every request: sets security headers, counts, and refuses requests beyond what a worker may hold."""

import base64
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_classification_trash.serving.http.api_errors import RefusalError, full
from image_classification_trash.serving.operations.prometheus import Metrics

Answer = Callable[[Request, RefusalError], ASGIApp]

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
WORKER_POLICY = (  # only the page's worker compiles WebAssembly, never the page
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; frame-ancestors 'none'"
)


def page_policy(page: str, with_worker: bool = False) -> str:
    """Write the Content-Security-Policy of a page that may run its own inline script and style and nothing else.

    Args:
        page: the HTML as it is sent; its script and style are allowed by their hashes.
        with_worker: whether it may start a worker from this server.
    """
    hashes = []
    for tag in ("script", "style"):
        blocks: list[str] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks)
        hashes.append(" ".join(f"'sha256-{digest}'" for digest in digests))
    script, style = hashes
    worker = "worker-src 'self'; " if with_worker else ""
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src 'self' blob: data:; media-src blob:; "
        f"connect-src 'self'; {worker}base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def route_path(scope: Scope) -> str:
    """Take the path of a route out of a request, whether or not a proxy left `root_path` before it."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


class HeadAsGet:
    """Answers HEAD as GET, without the body; what lies inside sees a GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)


class SecurityHeaders:
    """Adds security headers to every response, which keeps its own; a redirect names a path, never the Host that was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", API_POLICY)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if "Location" in headers:
                    headers["Location"] = _own_path(headers["Location"], scope)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _own_path(location: str, scope: Scope) -> str:
    """The path and query of a redirect, below `root_path`; two slashes in front would name another host."""
    parts, root = urlsplit(location), scope.get("root_path", "")
    path = root + "/" + parts.path.removeprefix(root).lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path


class Counted:
    """Counts requests by status and by route pattern, not by path, so that a stranger cannot create new time series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            if scope["method"] == "POST":
                self._metrics.steps.labels("total").observe(time.perf_counter() - start)


class Guarded:
    """Refuses requests for which `check` has a refusal, before their bodies are read."""

    def __init__(
        self,
        app: ASGIApp,
        check: Callable[[Request], RefusalError | None],
        answer: Callable[[Request, RefusalError], Awaitable[ASGIApp]],
    ) -> None:
        self._app, self._check, self._answer = app, check, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._check(Request(scope)) if scope["type"] == "http" else None
        app = self._app if refusal is None else await self._answer(Request(scope), refusal)
        await app(scope, receive, send)


class Bounded:
    """Holds at most `limit` POST requests at once, and refuses others before their bodies are read."""

    def __init__(
        self,
        app: ASGIApp,
        limit: int,
        is_full: Callable[[], bool],
        answer: Callable[[Request, RefusalError], Awaitable[ASGIApp]],
        metrics: Metrics,
    ) -> None:
        self._app, self._limit, self._is_full, self._answer = app, limit, is_full, answer
        self._metrics, self._held = metrics, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self._held >= self._limit or self._is_full():
            await (await self._answer(Request(scope), full()))(scope, receive, send)
        else:
            self._held += 1
            self._metrics.held.inc()
            try:
                await self._app(scope, receive, send)
            finally:
                self._held -= 1
                self._metrics.held.dec()
