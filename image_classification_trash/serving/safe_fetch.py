"""Fetches the photo behind a user's address, without letting the user reach what only the server can reach.

    data = await fetch("https://example.org/bottle.jpg", FetchRules(max_bytes=32 * 2**20, seconds=10))

A host name is resolved once, all its addresses must be public, and the connection goes to an address that was checked,
so a name that resolves differently a moment later gains nothing. Each redirect passes the same checks. One deadline covers
resolving, connecting, redirects and the whole body. No proxy, cookie or credential is used.

The library requests-hardened does not serve: it lets through `[::127.0.0.1]`, `[::ffff:0:127.0.0.1]` and `[fec0::1]`
(seen in 1.3.0) and any port, and has neither a size limit nor a total deadline.
"""

import asyncio
import contextlib
import itertools
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import h11

from image_classification_trash.errors import FetchError, FetchTooLargeError, UrlRefusedError

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]

MAX_REDIRECTS = 3
MAX_URL = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}
_PIECE = 64 * 1024
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC = (
    IPv4Network("168.63.129.16/32"),  # Azure's host, reached from inside its machines only
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv6Network("2001::/23"),  # Teredo and other tunnels, which carry an IPv4 address
    IPv6Network("2002::/16"),  # 6to4, likewise
    IPv6Network("3fff::/20"),  # documentation, which Python 3.11 calls global
)
_default_tls = cache(ssl.create_default_context)
_SAVE_IT = "Check the address, or save the photo and send the file."


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the open internet.

    Loopback, private, link-local, metadata, multicast and reserved addresses do not, nor do IPv6 addresses that embed
    an IPv4 address (mapped, translated, NAT64, 6to4, Teredo).
    """
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    odd = address.is_multicast or address.is_reserved or any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not odd


class Resolver:
    """Looks names up in threads of its own, which nothing else waits for; a slow domain cannot take all of them.

    The system's resolver cannot be interrupted: a name whose server is silent holds its thread for half a minute, longer
    than anybody waits for the photo. Once half of the threads are taken, each domain gets a few.

    Args:
        threads: names that are looked up at once.
        per_domain: of one domain, such as example.org, once half of `threads` are taken.
        look_up: `socket.getaddrinfo`, or what stands for it in a test.
    """

    def __init__(
        self, threads: int = 64, per_domain: int = 8, look_up: Callable[..., list[Any]] | None = None
    ) -> None:
        self._threads, self._per_domain, self._look_up = threads, per_domain, look_up
        self._taken: Counter[str] = Counter()

    async def resolve(self, host: str, port: int) -> list[Any]:
        """Look a name up, as `socket.getaddrinfo` does.

        Raises:
            FetchError: too many names are being looked up.
            OSError: the host is unknown.
        """
        domain, taken = ".".join(host.split(".")[-2:]), self._taken.total()
        if taken >= self._threads or (2 * taken >= self._threads and self._taken[domain] >= self._per_domain):
            raise FetchError(
                "Too many names are being looked up.", "Try again in a moment, or send the file."
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def finish(found: list[Any] | OSError) -> None:
            self._taken -= Counter([domain])
            if answer.done():  # nobody waits any more
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found: list[Any] | OSError
            try:
                found = (self._look_up or socket.getaddrinfo)(host, port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                found = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, found)

        self._taken[domain] += 1
        threading.Thread(target=work, daemon=True, name="resolve").start()  # daemon: a stop does not wait
        return await answer


_RESOLVER = Resolver()


async def resolve(host: str, port: int) -> list[Address]:
    """Resolve a host to all its addresses, as the system does.

    Raises:
        OSError: the host is unknown.
    """
    found = await _RESOLVER.resolve(host, port)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


@dataclass(frozen=True)
class FetchRules:
    """What may be fetched.

    Attributes:
        max_bytes: of the body.
        seconds: for resolving, connecting, redirects and the body together.
        allowed_hosts: `example.org` for itself, `*.example.org` for what is below it; empty: every public host.
        allowed_ports: ports that may be connected to.
        may_connect: tells whether an address may be connected to; only tests use another.
        resolve: turns host and port into addresses; only tests use another.
        hold: is told how many bytes each piece of a body has; what it raises ends the fetch.
    """

    max_bytes: int
    seconds: float
    allowed_hosts: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)
    may_connect: Callable[[Address], bool] = is_public
    resolve: Resolve = resolve
    hold: Callable[[int], None] = lambda _: None


@dataclass(frozen=True)
class Target:
    """A URL that passed the checks: where to connect to, and what to request there."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """The value of the Host header: IPv6 in brackets, the port unless it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


async def fetch(url: str, rules: FetchRules) -> bytes:
    """Fetch the bytes behind a URL.

    Raises:
        UrlRefusedError: the address is malformed, or `rules` do not allow it.
        FetchTooLargeError: the body is longer than `rules.max_bytes`.
        FetchError: the host is unknown or silent, answers with an error or not in HTTP, or takes too long.
    """
    try:
        async with asyncio.timeout(rules.seconds):
            return await _follow(url, rules)
    except TimeoutError as error:
        found = f"The address did not give its photo within {rules.seconds:g} seconds."
        raise FetchError(found, _SAVE_IT) from error
    except (OSError, h11.RemoteProtocolError) as error:
        reason = "it breaks the rules of HTTP" if isinstance(error, h11.ProtocolError) else _reason(error)
        raise FetchError(f"The address could not be fetched: {reason}.", _SAVE_IT) from error


def parse_url(url: str, rules: FetchRules) -> Target:
    """Parse a URL, and refuse all but plain http and https addresses that `rules` allow.

    Raises:
        UrlRefusedError: it is malformed or not allowed; says why.
    """
    if len(url) > MAX_URL or re.search(r"[\x00-\x20\x7f\\\ud800-\udfff]", url):
        raise _refused(
            f"it is longer than {MAX_URL} characters, or holds spaces, backslashes, control characters or halves of "
            "surrogate pairs"
        )
    try:
        parts = urlsplit(url)
        scheme, name, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        raise _refused("it is malformed") from error
    if scheme not in _DEFAULT_PORTS:
        raise _refused("it begins neither with http:// nor with https://")
    if "@" in parts.netloc:
        raise _refused("it holds a user name or password")
    host = _checked_host(name)
    allowed = [name.lower() for name in rules.allowed_hosts]  # *.example.org stands for what is below it
    if allowed and not any(host.endswith(a[1:]) if a.startswith("*.") else host == a for a in allowed):
        raise _refused("its host is not on this server's list")
    port = _DEFAULT_PORTS[scheme] if port is None else port
    if port not in rules.allowed_ports:
        raise _refused(f"port {port} is not allowed")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    return Target(scheme, host, port, f"{path}?{query}" if query else path)


def _checked_host(name: str) -> str:
    """Normalise a host: a name in ASCII, or an IP address in its canonical form."""
    if "%" in name:  # the zone of an IPv6 address has a meaning on one machine only
        raise _refused("its host is malformed")
    try:
        return str(ip_address(name))
    except ValueError:
        return _checked_name(name)


def _checked_name(name: str) -> str:
    try:
        host = name.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError as error:
        raise _refused("its host is malformed") from error
    # 0x7f.1, 0177.0.0.1 and 2130706433 are addresses to the system's resolver; nobody writes them in good faith.
    if len(host) > 253 or not _HOST.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise _refused("its host is malformed")
    return host


async def _follow(url: str, rules: FetchRules) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        answer = await _ask(parse_url(url, rules), rules)
        if isinstance(answer, bytes):
            return answer
        try:
            url = urljoin(url, answer)
        except ValueError as error:
            raise _refused("it leads on to a malformed one") from error
    raise FetchError(f"The address leads on more than {MAX_REDIRECTS} times.", _SAVE_IT)


async def _ask(target: Target, rules: FetchRules) -> bytes | str:
    """Request a target once; returns the body, or the address that it redirects to."""
    addresses = await rules.resolve(target.host, target.port)
    if not addresses or not all(map(rules.may_connect, addresses)):
        raise _refused("its host is not on the open internet")
    reader, writer = await _connect(target, addresses)
    try:
        connection = h11.Connection(h11.CLIENT)
        writer.write(_request(connection, target))
        return await _answer(_events(connection, reader), rules)
    finally:
        writer.transport.abort()  # a graceful close could wait for a server that never closes


async def _connect(
    target: Target, addresses: list[Address]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that accepts; with https, the certificate must match the host name."""
    secure = target.scheme == "https"
    failure = OSError("no address")
    for address in addresses:
        try:
            return await asyncio.open_connection(
                str(address),
                target.port,
                ssl=_default_tls() if secure else None,
                server_hostname=target.host if secure else None,
            )
        except OSError as error:
            failure = error
    raise failure


def _request(connection: h11.Connection, target: Target) -> bytes:
    headers = [
        ("Host", target.host_header),
        ("User-Agent", "trash-classifier"),
        ("Accept", "image/*"),
        ("Accept-Encoding", "identity"),  # nothing is decompressed, so there are no zip bombs
        ("Connection", "close"),
    ]
    head = connection.send(h11.Request(method="GET", target=target.path, headers=headers))
    return (head or b"") + (connection.send(h11.EndOfMessage()) or b"")


async def _events(connection: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[h11.Event]:
    """Yield the server's events until its response ends."""
    for number in itertools.count(1):
        if number % 64 == 0:  # what was received at once may hold thousands of events: others have their turn
            await asyncio.sleep(0)
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_PIECE))
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            return
        elif isinstance(event, h11.Event):
            yield event


async def _answer(events: AsyncIterator[h11.Event], rules: FetchRules) -> bytes | str:
    body, pieces = bytearray(), 0
    async for event in events:
        if isinstance(event, h11.Response):
            location = _read_head(event, rules.max_bytes)
            if location is not None:
                return location
        elif isinstance(event, h11.Data):
            body += event.data
            _check_length(len(body), rules.max_bytes)
            rules.hold(len(event.data))
            pieces += 1
            if pieces > 1000 + len(body) // 32:
                raise FetchError("The address sends its photo in pieces that are too small.", _SAVE_IT)
    return bytes(body)


def _read_head(response: h11.Response, max_bytes: int) -> str | None:
    """Check a response's head; returns where it redirects to, or None if its body is the photo."""
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in response.headers}
    if response.status_code in _REDIRECTS and "location" in headers:
        return headers["location"]
    if response.status_code != 200:
        raise FetchError(f"The address answers with status {response.status_code}.", _SAVE_IT)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchError("The address answers with a compressed body that was not asked for.", _SAVE_IT)
    _check_length(int(headers.get("content-length", 0)), max_bytes)
    return None


def _check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        found = f"The address holds more than {max_bytes / 2**20:g} MiB."
        raise FetchTooLargeError(found, "Scale the photo down; a few hundred pixels a side are enough.")


def _refused(reason: str) -> UrlRefusedError:
    return UrlRefusedError(f"The address is refused: {reason}.", _SAVE_IT)


def _reason(error: OSError) -> str:
    """Name the cause briefly, without revealing anything of the server's own network."""
    if isinstance(error, socket.gaierror):
        return "its host is not known"
    return "its certificate is not good" if isinstance(error, ssl.SSLError) else "its host does not answer"
