"""What the server says instead of an answer."""

from __future__ import annotations


class WireError(Exception):
    """An answer that is not 200.

    Parameters
    ----------
    status : int
    text : str
    retry_after_s : int, optional
        Told in the header of that name, as the rate limits do.
    """

    def __init__(self, status: int, text: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s
