"""What the server says instead of an answer."""

from __future__ import annotations


class WireError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
