"""Self-contained pages: one offline HTML file, autoescaped, light and dark."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from intramodal.evaluation.verdict import p_value
from intramodal.plots import shown

if TYPE_CHECKING:
    from markupsafe import Markup


class Page(Protocol):
    """What is shown as one page."""

    def html(self) -> str:
        """Return the page; nothing in it is fetched from anywhere."""
        ...


def render_page(template: str, *, script: str | None = None, **values: Any) -> str:
    """Return a template of this package with untrusted values, every one escaped.

    It extends ``page.html.j2``, whose policy forbids any address but ``data:``, and any script
    but `script`, a file of this package.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("intramodal.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(num=number, signed=signed, size=size, text=text, p=p_value)
    environment.filters.update(breakable=breakable, figure=figure)
    code = "" if script is None else _source(script)
    values |= {"script": Markup(code), "script_hash": _hash(code)}
    return environment.get_template(template).render(**values)


def _source(name: str) -> str:
    """Return a script of this package."""
    return (files("intramodal.reports") / "templates" / name).read_text(encoding="utf-8")


def _hash(code: str) -> str:
    """Return how a page's policy names a script."""
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table; a dash for what could not be computed."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference for a table, never minus zero; a dash for what could not be computed.

    Examples
    --------
    >>> signed(-0.0123), signed(-0.0001), signed(None)
    ('-0.012', '0.000', '–')
    """
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}"
    return text if text.strip("+-0.") else text[1:]


def figure(name: str) -> str:
    """Return the name of a figure as the field writes it: nDCG@10."""
    return name.replace("ndcg", "nDCG")


def breakable(value: str) -> Markup:
    """Return text that breaks after the separators of a file name, and not inside of words.

    Examples
    --------
    >>> breakable("a/b_c&d.jpg")
    Markup('a/<wbr>b_<wbr>c&amp;d.jpg')
    """
    from markupsafe import Markup, escape

    parts = re.split(r"(?<=[/_\\\-])(?=\w)", value)
    return Markup("<wbr>").join(escape(part) for part in parts)


def size(n_bytes: float) -> str:
    """Return bytes in the unit that fits.

    Examples
    --------
    >>> size(2_500_000)
    '2.5 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def text(value: object, limit: int = 120) -> str:
    """Return untrusted text as one printable line, shortened."""
    return shown(value, limit)
