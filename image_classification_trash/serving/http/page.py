"""Serves the gateway's web page, and what a browser needs to run the model itself where the model has a .tflite.

    GET /                  the page
    GET /model.json        labels, input size and thresholds of the model
    GET /model.tflite      the model
    GET /web/{name}        LiteRT.js and the worker that runs it, built by `make page` from web/
    GET /docs[/{name}]     the OpenAPI document in Swagger UI

Without a .tflite the page can only send photos to the server.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.exceptions import HTTPException

from image_classification_trash.files import sha256_of
from image_classification_trash.inference.bundle import read_bundle
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.serving.http.middleware import WORKER_POLICY, page_policy

PAGE = Path(__file__).parents[1] / "page.html"
WEB = Path(__file__).parents[1] / "web"
WEB_FILES = {
    "worker.js": "text/javascript",
    "litert_wasm_compat_internal.js": "text/javascript",
    "litert_wasm_compat_internal.wasm": "application/wasm",
    "NOTICE.txt": "text/plain",
}
"""Files that anybody may download, with their content types; the .wasm is stored compressed."""
SWAGGER = Path(__file__).parents[1] / "swagger"
"""Swagger UI as swagger-ui-dist has it, compressed; its licence, Apache 2.0, and those of what it contains lie beside it."""
SWAGGER_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
DOCS = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>trash-classifier</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: OPENAPI_URL, dom_id: "#swagger-ui"})</script>
</body>
</html>
"""
_OFFER = '<html lang="en" data-on-device>'


def tflite_of(model: Path | None) -> Path | None:
    """Find the .tflite of the model that is served: the file itself, or the bundle's float32 one, which the server runs too.

    Args:
        model: a bundle, an exported file, or None.

    Raises:
        BundleError: the bundle's file was changed after the export.
    """
    if model is None or model.is_file():
        return model if model is not None and model.suffix == ".tflite" else None
    there = (model / "export" / "model.tflite").is_file()
    return read_bundle(model).exported("model.tflite") if there else None


@dataclass(frozen=True)
class Offer:
    """What the page offers with one model.

    Attributes:
        text: the page.
        tflite: the model that a browser may run; None if there is none.
        about: labels, input size and thresholds, for a browser that runs it.
        digest: SHA-256 of `tflite`.
    """

    text: str
    tflite: bytes | None
    about: dict[str, object]
    digest: str

    @classmethod
    def of(cls, classifier: TrashClassifier, model: Path | None) -> "Offer":
        """Read what is needed of a model that was loaded; the file that LiteRT runs is not read again.

        Raises:
            BundleError: the bundle's .tflite was changed after the export.
        """
        path, text = tflite_of(model), PAGE.read_text(encoding="utf-8")
        if path is None:
            return cls(text, None, {}, "")
        config, tflite = classifier.config, classifier.tflite or path.read_bytes()
        about: dict[str, object] = {
            "name": config.name,
            "labels": config.labels,
            "height": config.input_height,
            "width": config.input_width,
            "fit": config.resize_mode,  # the name that web/src/worker.js reads
            "threshold": config.threshold,
            "negative_label": config.negative_label,
            "negative_threshold": config.negative_threshold,
            "conformal_threshold": config.conformal_threshold,
            "model_bytes": len(tflite),
            "engine_bytes": json.loads((WEB / "built.json").read_text(encoding="utf-8"))["engine_bytes"],
        }
        return cls(text.replace('<html lang="en">', _OFFER), tflite, about, sha256_of(tflite))


def add_routes(app: FastAPI, offer: Callable[[], Offer]) -> None:
    """Add the page and what a browser needs to run the model, where `offer`, which is asked each time, has one."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        now = offer()
        policy = page_policy(now.text, with_worker=now.tflite is not None)
        return HTMLResponse(now.text, headers={"Content-Security-Policy": policy})

    @app.get("/model.json", include_in_schema=False)
    async def model_json() -> dict[str, object]:
        return offered().about

    @app.get("/model.tflite", include_in_schema=False)
    async def model_tflite(request: Request) -> Response:
        now = offered()
        known = {"ETag": f'"{now.digest}"', "Cache-Control": "no-cache"}
        if now.digest in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=known)
        return Response(now.tflite, media_type="application/octet-stream", headers=known)

    @app.get("/web/{name}", include_in_schema=False)
    def web_file(request: Request, name: str) -> Response:
        if name not in WEB_FILES:
            raise HTTPException(404, "Not Found")
        offered()
        return _web_file(request, name)

    def offered() -> Offer:
        now = offer()
        if now.tflite is None:
            raise HTTPException(404, "Not Found")
        return now


def add_docs(app: FastAPI) -> None:
    """Add /docs, the OpenAPI document for people: Swagger UI, all of whose files come from this package."""

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        url = json.dumps(f"{request.scope.get('root_path', '')}/openapi.json").replace("<", "\\u003c")
        text = DOCS.replace("OPENAPI_URL", url)
        # Swagger UI sets styles of its own on what it draws.
        script = page_policy(text).partition("script-src ")[2].partition(";")[0]
        policy = (
            f"default-src 'none'; script-src 'self' {script}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    @app.get("/docs/{name}", include_in_schema=False)
    def docs_file(request: Request, name: str) -> Response:
        if name not in SWAGGER_FILES:
            raise HTTPException(404, "Not Found")
        return _packed_file(request, SWAGGER / f"{name}.gz", SWAGGER_FILES[name])


def _web_file(request: Request, name: str) -> Response:
    path = WEB / name
    if path.exists():
        return _file(request, path, WEB_FILES[name], {"Content-Security-Policy": WORKER_POLICY})
    return _packed_file(request, WEB / f"{name}.gz", WEB_FILES[name])


def _packed_file(request: Request, packed: Path, kind: str) -> Response:
    """Send a file that is stored compressed."""
    headers = {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return _file(request, packed, kind, headers | {"Content-Encoding": "gzip"})
    return Response(gzip.decompress(packed.read_bytes()), media_type=kind, headers=headers)


def _file(request: Request, path: Path, kind: str, headers: dict[str, str] | None = None) -> Response:
    """Send a file that a browser may keep, but must check for changes each time."""
    state = path.stat()
    etag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
    known = {
        "ETag": etag,
        "Cache-Control": "no-cache",
        "Last-Modified": formatdate(state.st_mtime, usegmt=True),
    }
    if etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=known | (headers or {}))
    return FileResponse(path, media_type=kind, headers=known | (headers or {}))
