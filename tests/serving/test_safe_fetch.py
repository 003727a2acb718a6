"""What a user's address may lead to, and what it may not: hostile addresses, redirects, names, lengths and delays."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import pytest
from helpers.patient import PATIENCE

from image_classification_trash.errors import FetchError, FetchTooLargeError, UrlRefusedError
from image_classification_trash.serving.safe_fetch import Address, FetchRules, Resolver, fetch, is_public

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Served = tuple[bytes, list[bytes]]
BODY = b"photo" * 100

HOSTILE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://2130706433/",
    "http://127.0.0.1./",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://localhost/",
    "http://localhost./",
    "http://LOCALHOST/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25lo]/",
    "http://[fec0::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[5f00::1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://example.org@127.0.0.1/",
    "http://user:word@example.org/",
    "http://127.0.0.1#@example.org/",
    "http://127.0.0.1\\@example.org/",
    "http://example.org\\@127.0.0.1/",
    "http://example.org:22/",
    "http://example.org:6379/",
    "http://example.org:99999/",
    "http://example.org/\r\nHost: 127.0.0.1",
    "http://example.org\t/",
    " http://127.0.0.1/",
    "http://",
    "http:///etc/passwd",
    "http://[::1",
    "http://a..b/",
    "http://-a.example/",
    f"http://{'a' * 64}.example/",
    "http://example.org/" + "a" * 3000,
    "//127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "ftp://127.0.0.1/",
    "data:image/png;base64,AAAA",
    "dict://127.0.0.1:11211/stats",
    "javascript:alert(1)",
    "jar:http://127.0.0.1!/",
    "/etc/passwd",
    "",
]


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*arguments: object, **options: object) -> None:
        raise AssertionError(f"connected to {arguments}")

    monkeypatch.setattr(asyncio, "open_connection", connect)


def names(*addresses: str) -> Callable[[str, int], Awaitable[list[Address]]]:
    """A resolver for which every name has the same addresses."""

    async def resolve(host: str, port: int) -> list[Address]:
        return [ip_address(address) for address in addresses]

    return resolve


def replies(*answers: bytes, pause: float = 0.0) -> Handler:
    """A server that says `answers` one after another, and then closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for answer in answers:
            writer.write(answer)
            await asyncio.sleep(pause)
        writer.close()

    return handle


def good(body: bytes = BODY, more: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def served(handler: Handler, url: str = "http://photos.example:{port}/a.jpg", **rules: object) -> bytes:
    """What `fetch` makes of a server on loopback, which the tests' rules alone permit."""

    async def run() -> bytes:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        chosen = {
            "max_bytes": 10_000,
            "seconds": PATIENCE,
            "allowed_ports": (port,),
            "resolve": names("127.0.0.1"),
            "may_connect": lambda address: address == ip_address("127.0.0.1"),
        }
        try:
            return await fetch(url.format(port=port), FetchRules(**{**chosen, **rules}))  # type: ignore[arg-type]
        finally:
            server.close()

    return asyncio.run(run())


def test_what_counts_the_bytes_may_end_the_fetch() -> None:
    counts: list[int] = []

    def hold(count: int) -> None:
        counts.append(count)
        if sum(counts) > 5000:
            raise MemoryError

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    assert served(replies(answer % 5000 + bytes(5000)), hold=hold) == bytes(5000)
    assert sum(counts) == 5000
    with pytest.raises(MemoryError):
        served(replies(answer % 1 + b"x"), hold=hold)


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_addresses_are_refused_before_any_connection(url: str) -> None:
    with pytest.raises(UrlRefusedError) as caught:
        asyncio.run(fetch(url, FetchRules(max_bytes=1000, seconds=5)))
    assert caught.value.found and caught.value.hint


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("10.1.2.3",), ("::1",), ("93.184.216.34", "192.168.0.1"), ("::ffff:10.0.0.1",), ()],
)
def test_names_that_lead_inside_are_refused(addresses: tuple[str, ...]) -> None:
    rules = FetchRules(max_bytes=1000, seconds=5, resolve=names(*addresses))
    with pytest.raises(UrlRefusedError, match="not on the open internet"):
        asyncio.run(fetch("http://photos.example/", rules))


def test_a_name_is_resolved_once_and_its_address_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the name is public when checked and loopback when asked again."""
    asked, connected = [], []

    async def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        return [ip_address("93.184.216.34" if len(asked) == 1 else "127.0.0.1")]

    async def connect(host: str, port: int, **options: object) -> None:
        connected.append((host, port))
        raise OSError

    monkeypatch.setattr(asyncio, "open_connection", connect)
    with pytest.raises(FetchError, match="does not answer"):
        asyncio.run(fetch("http://rebind.example/", FetchRules(1000, 5, resolve=resolve)))
    assert (asked, connected) == (["rebind.example"], [("93.184.216.34", 80)])


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "http://[::1]:{port}/",
        "http://169.254.169.254:{port}/latest",
        "//10.0.0.1:{port}/",
        "file:///etc/passwd",
        "http://photos.example:22/",
        "http://[::1",
        "http://2130706433:{port}/",
        "http://user@photos.example:{port}/",
    ],
)
def test_redirects_pass_the_same_checks(location: str) -> None:
    asked = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        port = writer.get_extra_info("sockname")[1]
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location.format(port=port)}\r\n\r\n".encode())
        writer.close()

    async def resolve(host: str, port: int) -> list[Address]:
        return [ip_address("127.0.0.1" if host == "photos.example" else host)]

    with pytest.raises(UrlRefusedError):
        served(handle, resolve=resolve)
    assert len(asked) == 1


def test_redirects_are_followed_three_times() -> None:
    def turning(times: int) -> Handler:
        left = iter(range(times))

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            again = next(left, None) is not None
            writer.write(b"HTTP/1.1 307 Go\r\nLocation: ../b.jpg\r\n\r\n" if again else good())
            writer.close()

        return handle

    assert served(turning(3)) == BODY
    with pytest.raises(FetchError, match="more than 3 times"):
        served(turning(4))


def test_good_fetches() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert served(replies(good())) == BODY
    assert served(replies(chunked)) == b"abcde"
    assert served(replies(b"HTTP/1.0 200 OK\r\n\r\n", b"to the end")) == b"to the end"
    assert served(replies(b"HTTP/1.1 100 Continue\r\n\r\n", good())) == BODY


def test_what_is_asked() -> None:
    heads = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(good())
        writer.close()

    served(handle, "http://Photos.Example.:{port}/dose é.jpg?größe=1#top".replace(" ", "%20"))
    line, host, *_ = heads[0].split(b"\r\n")
    assert line == b"GET /dose%20%C3%A9.jpg?gr%C3%B6%C3%9Fe=1 HTTP/1.1"
    assert host.lower().startswith(b"host: photos.example:")


def test_byte_cap_by_header_and_by_count() -> None:
    with pytest.raises(FetchTooLargeError):
        served(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n", pause=PATIENCE))
    with pytest.raises(FetchTooLargeError):
        served(replies(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 5000] * 1000, pause=0.001))
    assert len(served(replies(good(b"x" * 10_000)))) == 10_000


@pytest.mark.parametrize(
    "handler",
    [
        replies(good()[:-10], pause=PATIENCE),
        replies(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 1000, pause=0.1),
        replies(*[b"%c" % byte for byte in good(more="X: y\r\n" * 500)], pause=0.1),
        replies(b"", pause=PATIENCE),
    ],
    ids=["stalls in the body", "drips the body", "drips the head", "says nothing"],
)
def test_the_deadline_covers_the_whole_transfer(handler: Handler) -> None:
    with pytest.raises(FetchError, match=r"within 0\.3 seconds"):
        served(handler, seconds=0.3)


def test_the_deadline_covers_resolving() -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        await asyncio.sleep(PATIENCE)
        return []

    with pytest.raises(FetchError, match="within"):
        asyncio.run(fetch("http://slow.example/", FetchRules(1000, 0.2, resolve=resolve)))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nxx", "compressed"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "status 302"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "rules of HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "rules of HTTP"),
        (good()[:-10], "rules of HTTP"),
        (b"", "rules of HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", "rules of HTTP"),
    ],
)
def test_bad_answers_are_named(answer: bytes, said: str) -> None:
    with pytest.raises(FetchError, match=said):
        served(replies(answer))


def test_unknown_and_silent_hosts_and_bad_certificates_are_named() -> None:
    with pytest.raises(FetchError, match="not known"):
        asyncio.run(fetch("http://no-such-host.invalid/", FetchRules(1000, 5)))

    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no TLS here")
        writer.close()

    with pytest.raises(FetchError, match=r"certificate is not good|does not answer"):
        served(no_tls, "https://photos.example:{port}/")


def test_slow_names_do_not_starve_others() -> None:
    """More slow names than the resolver has threads for one domain; another domain's is looked up at once."""
    go, asked = threading.Event(), []

    def look_up(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        if host.endswith("slow.example"):
            assert go.wait(PATIENCE)
        return [host]

    async def run() -> list[BaseException | list[object]]:
        resolver = Resolver(8, 2, look_up)
        slow = [asyncio.create_task(resolver.resolve(f"{n}.slow.example", 80)) for n in range(40)]
        await asyncio.sleep(0)
        assert await resolver.resolve("photos.example.org", 80) == ["photos.example.org"]
        slow[0].cancel()
        go.set()
        answers = await asyncio.gather(*slow, return_exceptions=True)
        assert await resolver.resolve("9.slow.example", 80) == ["9.slow.example"]
        return answers

    answers = asyncio.run(run())
    assert sum(isinstance(answer, list) for answer in answers) == 3
    assert sum(isinstance(answer, FetchError) for answer in answers) == 36


def test_a_name_that_is_not_known_is_an_error_of_the_system() -> None:
    def look_up(host: str, port: int, **_: object) -> list[object]:
        raise UnicodeError("label too long")

    with pytest.raises(OSError, match="label too long"):
        asyncio.run(Resolver(look_up=look_up).resolve("a.example", 80))


def test_pieces_that_are_too_small_are_refused_and_others_have_their_turn() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000)
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    with pytest.raises(FetchError, match="too small"):
        served(drip)


def test_allow_list() -> None:
    rules = {"allowed_hosts": ("photos.example", "*.shop.example")}
    assert served(replies(good()), **rules) == BODY
    assert served(replies(good()), "http://a.b.shop.example:{port}/", **rules) == BODY
    for host in ("shop.example", "photos.example.org", "evilphotos.example", "127.0.0.1", "x.photos.example"):
        with pytest.raises(UrlRefusedError, match="not on this server's list"):
            served(replies(good()), f"http://{host}:{{port}}/", **rules)


def test_public_addresses_are_public() -> None:
    assert all(is_public(ip_address(address)) for address in ("8.8.8.8", "93.184.216.34", "2606:4700::1111"))
