"""A server that speaks as much of S3 as shards need, with the errors that a real one has at times."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})
PAGE = 2


class Bucket:
    """Objects by key; `faults` gives the statuses with which the next requests for a key are answered.

    A status of 0 closes the connection without an answer; `slow` is seconds that an answer to a key takes.
    The empty key is the listing, a request for each page.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.faults: dict[str, list[int]] = {}
        self.slow: dict[str, float] = {}
        self.asked: list[str] = []


@contextmanager
def s3(bucket: Bucket) -> Iterator[dict[str, str]]:
    """Serve a bucket of any name; yield the environment with which obstore finds it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(
            self, status: int, content: bytes = b"", headers: Mapping[str, str] = NO_ENVIRONMENT
        ) -> None:
            self.send_response(status)
            length = {"Content-Length": str(len(content))}
            date = {"ETag": '"e"', "Last-Modified": "Thu, 26 Nov 2026 10:00:00 GMT"}
            for name, value in {**date, **length, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def key(self) -> str:
            return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

        def is_faulty(self) -> bool:
            key = self.key()
            bucket.asked.append(key)
            time.sleep(bucket.slow.get(key, 0))
            if not bucket.faults.get(key):
                return False
            status = bucket.faults[key][0] if len(bucket.faults[key]) == 1 else bucket.faults[key].pop(0)
            if status == 0:
                self.close_connection = True
            elif status == 200:
                return False
            else:
                self.answer(status, b"<Error><Code>Fault</Code></Error>")
            return True

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.is_faulty():
                bucket.objects[self.key()] = content
                self.answer(200)

        def do_GET(self) -> None:
            key = self.key()
            if self.is_faulty():
                return
            if not key:
                self.answer(200, self.listing())
            else:
                if key not in bucket.objects:
                    self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                    return
                content, wanted = bucket.objects[key], self.headers["Range"]
                if wanted:
                    begin, end = map(int, wanted.removeprefix("bytes=").split("-"))
                    part = content[begin : end + 1]
                    about = {"Content-Range": f"bytes {begin}-{begin + len(part) - 1}/{len(content)}"}
                    self.answer(206, part, about)
                else:
                    self.answer(200, content)

        do_HEAD = do_GET  # noqa: N815  as the library calls it

        def listing(self) -> bytes:
            query = parse_qs(urlsplit(self.path).query)
            prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
            keys = [key for key in sorted(bucket.objects) if key.startswith(prefix) and key > after]
            page = keys[:PAGE]
            more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if keys[PAGE:] else ""
            found = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(bucket.objects[key])}</Size><ETag>e</ETag>"
                "<LastModified>2026-11-26T10:00:00.000Z</LastModified></Contents>"
                for key in page
            )
            return f"<ListBucketResult>{found}{more}</ListBucketResult>".encode()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        }  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
