"""Decides who may ask: by a key, and by the host that a request names."""

import hashlib
import hmac
import math
import os
import re
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import SettingsError
from image_classification_trash.serving.http.api_errors import RefusalError

KEYS = "TRASH_API_KEYS"
"""Environment variable with keys, separated by commas, beside those of --api-keys-file."""
SHORTEST_KEY = 16
PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".test", ".home.arpa", ".svc", ".cluster.local")
"""Domains below which nobody can register a name."""
_IN_HEADER = re.compile(r"[\x21-\x7e]+")


class ApiKeys:
    """The keys that are accepted, of which only digests are kept, and how many requests each has left.

    Args:
        keys: at least one.
        per_minute: requests of one key in a minute, all of which may come at once; None: as many as come.
    """

    def __init__(self, keys: Sequence[str], per_minute: int | None = None) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in dict.fromkeys(keys)]
        self._per_minute = per_minute
        self._left = [float(per_minute or 0)] * len(self._digests)
        self._seen = [time.monotonic()] * len(self._digests)

    @classmethod
    def of(cls, settings: ServeSettings) -> "ApiKeys | None":
        """Read the keys of the settings' file and of the environment; None if there are none.

        Raises:
            SettingsError: the file cannot be read, or holds no keys; a key is too short or cannot be sent.
        """
        keys = [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
        if settings.api_keys_file is not None:
            keys += keys_of_file(settings.api_keys_file)
        for key in keys:
            if len(key) < SHORTEST_KEY or not _IN_HEADER.fullmatch(key):
                found = f"An API key has fewer than {SHORTEST_KEY} characters, or other ones than ASCII without spaces."
                raise SettingsError(found, "Make one with: openssl rand -hex 32")
        limit = settings.requests_per_minute
        share = None if limit is None else math.ceil(limit / settings.workers)
        return cls(keys, share) if keys else None

    def check(self, authorization: str, api_key: str) -> RefusalError | None:
        """Check a request's headers `Authorization: Bearer KEY` and `X-API-Key: KEY`; returns why it is refused, if it is."""
        scheme, _, bearer = authorization.partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else api_key
        digest = hashlib.sha256(given.encode("latin-1", "replace")).digest()
        matches = [
            hmac.compare_digest(digest, known) for known in self._digests
        ]  # all: no key's place is told
        if not any(matches):
            message = "Send an API key: Authorization: Bearer KEY, or X-API-Key: KEY."
            return RefusalError(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})
        return self._count(matches.index(True))

    def _count(self, key: int) -> RefusalError | None:
        if self._per_minute is None:
            return None
        now, rate = time.monotonic(), self._per_minute / 60
        self._left[key] = min(self._per_minute, self._left[key] + rate * (now - self._seen[key]))
        self._seen[key] = now
        if self._left[key] < 1:
            wait = str(math.ceil((1 - self._left[key]) / rate))
            message = f"This key has {self._per_minute} requests a minute in each worker."
            return RefusalError(429, "too_many_requests", message, {"Retry-After": wait})
        self._left[key] -= 1
        return None


def host_is_allowed(header: str, allowed: Sequence[str]) -> bool:
    """Tell whether a request's Host header names this server.

    Args:
        header: with a port or without.
        allowed: names; `*.example.org`: those below it; `*`: every name. Besides, any address and any private name is
            allowed, since no stranger can have such a name lead a browser here (DNS rebinding).
    """
    name = re.sub(r":\d*$", "", header.strip()).rstrip(".").lower()
    if any(name.endswith(a[1:].lower()) if a.startswith("*") else name == a.lower() for a in allowed):
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return "." not in name or name.endswith(PRIVATE_DOMAINS)
    return True


def keys_of_file(path: Path) -> list[str]:
    """Read keys, one a line; lines that begin with # are comments.

    Raises:
        SettingsError: the file cannot be read, or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} cannot be read: {error}.", "Give a text file with an API key a line."
        ) from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise SettingsError(f"{path} holds no API key.", "Write one a line: openssl rand -hex 32")
    return keys
