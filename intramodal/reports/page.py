"""Self-contained pages: one offline HTML file, autoescaped, light and dark."""

from __future__ import annotations

from typing import Any, Protocol

from intramodal.evaluation.verdict import p_value
from intramodal.plots import shown


class Page(Protocol):
    """What is shown as one page."""

    def html(self) -> str:
        """Return the page; nothing in it is fetched from anywhere."""
        ...


def render_page(template: str, **values: Any) -> str:
    """Return a template of this package with untrusted values, every one escaped.

    It extends ``page.html.j2``, whose policy forbids scripts and any address but ``data:``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("intramodal.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(num=number, signed=signed, size=size, text=text, p=p_value)
    return environment.get_template(template).render(**values)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for a table; a dash for what could not be computed."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a difference for a table; a dash for what could not be computed."""
    return "–" if value is None else f"{value:+.{digits}f}"


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
