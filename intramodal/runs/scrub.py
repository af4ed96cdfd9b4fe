"""What reaches the runs database has no secrets and is text and JSON every database accepts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from intramodal.runs.frames import plain

MASK = "***"

_SECRET_WORDS = r"api[-_ ]?key|access[-_]?key|passw(?:or)?d|passphrase|secret|token|credentials?"
_SECRET_NAME = re.compile(rf"(?:{_SECRET_WORDS})$", re.IGNORECASE)
# Every repetition is bounded: labels and file names of any length pass through here.
# Greedy up to the last @ of the word: passwords may hold colons, slashes and @ themselves.
_URL_PASSWORD = re.compile(r"(\b[a-z][\w+.-]{0,40}://[^\s:/@]{0,200}):(\S{0,400})@", re.IGNORECASE)
# https://KEY@host: a user name that is itself the key.
_URL_USER = re.compile(r"(\bhttps?://)[^\s:/@]{1,400}@", re.IGNORECASE)
_URL_OPTIONS = re.compile(
    r"(\b(?:postgres|postgresql|sqlite)(?:\+\w{1,40})?://[^\s?]{0,400}\?)(\S{1,4000})",
    re.IGNORECASE,
)
# Any other may hold a secret: drivers have many, and pass on what they do not know.
_HARMLESS_OPTIONS = {
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "gssencmode"),
    *("host", "hostaddr", "port", "user", "dbname", "application_name", "client_encoding"),
    *("connect_timeout", "keepalives", "target_session_attrs", "load_balance_hosts"),
    *("uri", "mode", "cache", "immutable", "nolock", "timeout", "check_same_thread"),
}
_ASSIGNMENT = re.compile(
    rf"((?:^|[\s?&;,{{'\"-])[\w.-]{{0,60}}(?:{_SECRET_WORDS})['\"]?\s{{0,4}}[=:]\s{{0,4}})"
    r"(?:'[^']{0,400}'|\"[^\"]{0,400}\"|[^\s&#,;}'\"]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\b(?:bearer|basic)\s{1,4})[\w.~+/=-]{8,}", re.IGNORECASE)
# Shorter values, and these, would blank out ordinary words.
_SHORTEST_SECRET = 4
_NO_SECRETS = {"true", "false", "none", "null"}


class Scrubber:
    """Removes secrets from what is about to be stored or shown.

    Masked are the given literal values wherever they occur, passwords in URLs, options in URLs of
    databases but for harmless ones, and values that follow a telling name (``--api-key X``,
    ``password=X``).

    Examples
    --------
    >>> Scrubber(["s3cret"]).text("key s3cret for postgresql://me:pw@db/runs")
    'key *** for postgresql://me:***@db/runs'
    >>> Scrubber([]).command(["backfill", "--api-key", "abc", "--to", "pca"])
    ['backfill', '--api-key', '***', '--to', 'pca']
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _spellings(secret)}
        # Longest first: one secret may begin with another.
        self._secrets = sorted(forms, key=lambda form: (-len(form), form))

    @classmethod
    def from_environment(cls, *urls: str) -> Scrubber:
        """Return one that knows the secrets of the environment and the passwords of `urls`."""
        named = [v for name, v in os.environ.items() if _SECRET_NAME.search(name)]
        in_urls = [secret for text in (*os.environ.values(), *urls) for secret in _of_url(text)]
        return cls([*named, *in_urls])

    @classmethod
    def of_url(cls, url: str) -> Scrubber:
        """Return one that knows the password and the unknown options of a database's URL."""
        return cls(_of_url(url))

    def text(self, text: str) -> str:
        """Return `text` without secrets, NUL characters and lone surrogates."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
            text = _URL_USER.sub(rf"\1{MASK}@", text)
            text = _URL_OPTIONS.sub(_masked_options, text)
        text = _BEARER.sub(rf"\1{MASK}", text)
        text = _ASSIGNMENT.sub(rf"\1{MASK}", text)
        # PostgreSQL refuses NUL; no database takes the half characters of undecodable file names.
        return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")

    def command(self, words: Sequence[str]) -> list[str]:
        """Return a command line whose secret options have no value."""
        clean: list[str] = []
        is_value_secret = False
        for word in words:
            is_option = word.startswith("-")
            clean.append(MASK if is_value_secret and not is_option else self.text(word))
            is_value_secret = is_option and "=" not in word and bool(_SECRET_NAME.search(word))
        return clean

    def json(self, value: Any, *, name: str = "") -> Any:
        """Return `value` as plain JSON values (see `plain`) without secrets."""
        if name and _SECRET_NAME.search(name) and isinstance(value, str | bytes):
            return MASK
        value = plain(value)
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.json(v, name=str(k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self.json(item) for item in value]
        return value


def _options(text: str) -> list[tuple[str, str]]:
    """Return the options of a URL in their order, as they are written."""
    return [option.partition("=")[::2] for option in re.split("[&;]", text)]


def _is_harmless(name: str) -> bool:
    return unquote(name).lower() in _HARMLESS_OPTIONS


def _masked_options(found: re.Match[str]) -> str:
    shown = (
        f"{name}={value if _is_harmless(name) else MASK}"
        for name, value in _options(found.group(2))
    )
    return found.group(1) + "&".join(shown)


def _of_url(text: str) -> list[str]:
    """Return the password of a URL, and the values of a database's options that may be secrets."""
    password, options = _URL_PASSWORD.search(text), _URL_OPTIONS.search(text)
    named = _options(options.group(2)) if options else []
    unknown = [value for name, value in named if not _is_harmless(name)]
    return [password.group(2), *unknown] if password else unknown


def _spellings(secret: str) -> list[str]:
    """Return a secret as it may appear: as it is, and with URL quoting added or removed."""
    forms = {secret, quote(secret, safe=""), quote_plus(secret), unquote(secret)}
    return [f for f in forms if len(f) >= _SHORTEST_SECRET and f.lower() not in _NO_SECRETS]
