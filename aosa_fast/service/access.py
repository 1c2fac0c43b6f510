"""Who may ask: a token, the names that the service goes by, and the pages that may send something here."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aosa_fast.errors import InputError
from aosa_fast.service.errors import RequestError

FREE = frozenset({"/health", "/ready", "/", "/page.css", "/page.js"})
"""What needs no token: whether it works, and the page, which asks for the token and is the same for everybody."""


def is_loopback(host: str) -> bool:
    """Whether a name or an address is one of this machine for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a request must bring.

    Attributes:
        host: that the service is bound to.
        token: that must be sent, None for none.
        hosts: names that it is called by. On a loopback address, its own names, too; elsewhere, none means any.
        origins: pages from elsewhere that may use it, as browsers name them: https://example.org.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    hosts: Collection[str] = ()
    origins: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.token is not None and (not self.token.isascii() or not self.token.isprintable() or " " in self.token):
            raise InputError("token must be of letters, digits and signs of ASCII, without blanks; got others")
        if self.token is not None and len(self.token) < 16:
            raise InputError(f"token must have at least 16 characters; got {len(self.token)}")
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"token must be given (--token-file FILE, or AOSA_TOKEN) where host is no loopback address; "
                f"got host={self.host}"
            )

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Lets a request pass.

        Raises:
            RequestError: it may not.
        """
        self._check_host(headers.get("host", ""))
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and origin is not None and not self._is_known(origin, headers.get("host", "")):
            raise RequestError(403, "Origin must be this service's own page, or one of --allow-origin; got another one")
        preflight = method == "OPTIONS" and origin is not None  # browsers send it without the token
        if self.token is None or path in FREE or preflight:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise RequestError(401, "Authorization must be: Bearer TOKEN, with the token of this service")

    def _check_host(self, host: str) -> None:
        """A foreign page whose name was made to lead here would pass for our own, but for the name."""
        name = _name(host)
        if name in self.hosts or host in self.hosts:
            return
        if is_loopback(self.host):
            if not is_loopback(name):
                raise RequestError(403, "Host must be a name of the loopback address, or one of --allow-host")
        elif self.hosts:
            raise RequestError(403, "Host must be one of --allow-host")

    def _is_known(self, origin: str, host: str) -> bool:
        # Without the scheme: a proxy may have ended TLS.
        return origin in self.origins or urlsplit(origin).netloc == host


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""
