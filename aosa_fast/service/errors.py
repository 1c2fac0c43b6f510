"""Why a request is not answered."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is refused, or cannot be answered.

    Attributes:
        status: of HTTP.
        reason: one line.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class OverloadedError(RequestError):
    """There is more to do than can be done: whoever asks may try again soon."""

    def __init__(self, reason: str) -> None:
        super().__init__(503, reason)
