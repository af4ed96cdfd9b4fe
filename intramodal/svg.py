"""Axes and what is drawn on them, as one SVG element.

A report has dozens of small plots. A general plotting library takes more time for them than all
figures in them do, and a quarter of a megabyte for ten; here a plot is some paths and texts.
Text has the font and the color of the page; how wide it gets is estimated.
"""

from __future__ import annotations

import html
import itertools
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
"""(n, 2): x and y."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in points of 1/72 inch; y grows downwards."""

Ticks = Sequence[tuple[float, str]]
"""Places on an axis, and their labels."""
Fits = Callable[[Ticks], bool]
"""Whether ticks do not crowd."""

INK = "currentColor"
TITLE, TEXT, SMALL = 10.0, 9.0, 7.0
"""Sizes of type, in points."""
_TICK, _GAP, _EDGE = 3.5, 3.0, 4.0
_LINE = 1.25
"""Distance of lines of text, in sizes of type."""
_MARGIN = 0.05
"""Of the range, between the outermost data and the end of the axis."""
_MOST_TICKS = 9
_LEAST_POWERS = 3
_REACH = 14.0
"""Around a dot, in points, where a pointer is shown its value."""
_STEPS = 100
"""Points of a line that a legend keeps off."""
_NARROWEST = 1e-9
"""Of the values: a range that is narrower counts as none."""


def text_width(text: str, size: float) -> float:
    """Return about how wide a text gets, on the wide side: a font of the page is not known."""
    return size * sum(map(_char_width, text))


_WIDTHS = {
    c: width
    for width, chars in ((0.3, "ijlI.,:;'|!"), (0.4, '()[]{}ftr/\\"- '), (0.95, "mwMW@%—"))
    for c in chars
}


def _char_width(char: str) -> float:
    if char in _WIDTHS:
        return _WIDTHS[char]
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.0
    return 0.7 if char.isupper() else 0.62


@dataclass
class Scale:
    """One axis: from where to where, its ticks and its label.

    Parameters
    ----------
    label : str
        Lines are separated by newlines.
    ticks : sequence of (float, str), optional
        By default round numbers.
    limits : (float, float), optional
        By default all data and a margin.
    base : int, optional
        Of the logarithm, on a logarithmic axis.
    size : float
        Of the ticks' labels.
    room : float
        Factor on the upper end, for a legend over the data.
    is_based : bool
        Whether areas stand on zero: an axis that ends there has no margin.
    """

    label: str = ""
    ticks: Ticks | None = None
    limits: tuple[float, float] | None = None
    base: int | None = None
    size: float = TEXT
    room: float = 1.0
    is_based: bool = False

    def even(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return values on a scale where equal steps are equally long."""
        plain = np.asarray(values, dtype=np.float64)
        if self.base is None:
            return plain
        with np.errstate(divide="ignore", invalid="ignore"):  # what is not positive is not drawn
            return np.asarray(np.log(plain) / math.log(self.base))

    def ends(self, values: NDArray[np.float64]) -> tuple[float, float]:
        """Return both ends, `even`, for data that are `even`, too."""
        if self.limits is not None:
            low, high = self.even(self.limits)
            return float(low), float(high)
        finite = np.concatenate([values[np.isfinite(values)], self.even(self._places)])
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
        starts, stops = (self.is_based and end == 0 for end in (low, high))
        if high - low <= _NARROWEST * max(abs(low), abs(high)):
            around = _MARGIN * max(abs(low), abs(high)) or _MARGIN
            low, high = low - around * (not starts), high + around
        margin = _MARGIN * (high - low)
        low, high = low - margin * (not starts), high + margin * (not stops)
        return float(low), float(high) * self.room

    @property
    def _places(self) -> list[float]:
        return [value for value, _ in self.ticks or []]

    def marked(self, low: float, high: float, fits: Fits) -> Ticks:
        """Return places, `even`, and labels of the ticks: as many as `fits` allows."""
        if self.ticks is not None:
            labels = [text for _, text in self.ticks]
            return list(zip(self.even(self._places).tolist(), labels, strict=True))
        choices = self._round(low, high) if self.base is None else self._powers(low, high)
        return next((found for found in choices if fits(found)), [])

    def _powers(self, low: float, high: float) -> Iterator[Ticks]:
        """Yield ticks at powers of the base, ever fewer; at round numbers where these are few."""
        base = float(self.base or 1)
        found = [(float(n), f"{base**n:.0e}") for n in range(math.ceil(low), math.floor(high) + 1)]
        if len(found) < _LEAST_POWERS:
            for ticks in self._round(base**low, base**high):
                at = self.even([value for value, _ in ticks]).tolist()
                yield list(zip(at, [text for _, text in ticks], strict=True))
        for nth in range(1, len(found) + 1):
            yield found[::nth]

    @staticmethod
    def _round(low: float, high: float) -> Iterator[Ticks]:
        """Yield ticks at round numbers from low to high, ever fewer."""
        first = math.floor(math.log10((high - low) / _MOST_TICKS))
        for exponent, digit in itertools.product(range(first, first + 4), (1, 2, 2.5, 5)):
            step = digit * 10.0**exponent
            n_digits = max(0, -exponent + (digit == 2.5))
            counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
            if len(counts) <= _MOST_TICKS:
                yield [(n * step, number(n * step, n_digits)) for n in counts]


def number(value: float, n_digits: int) -> str:
    """Return a number for a tick, without an exponent and never minus zero.

    Examples
    --------
    >>> number(-0.0001, 2), number(-1234.5, 1)
    ('0.00', '−1,234.5')
    """
    text = f"{value:,.{n_digits}f}"
    is_zero = not text.strip("-0.,")
    return text.lstrip("-") if is_zero else text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Stroke:
    """How a line is drawn; lengths in points."""

    color: str
    width: float = 1.5
    dash: str = ""
    """Lengths of dashes and gaps, separated by spaces; none is a whole line."""
    opacity: float = 1.0
    has_round_ends: bool = False

    @classmethod
    def of_dots(cls, color: str, radius: float) -> Stroke:
        """Return a stroke that makes a dot of a line without a length."""
        return cls(color, 2 * radius, has_round_ends=True)

    @property
    def style(self) -> str:
        """Attributes of an SVG element."""
        found = f'stroke="{self.color}" stroke-width="{self.width:g}"'
        found += f' stroke-dasharray="{self.dash}"' if self.dash else ""
        found += f' stroke-opacity="{self.opacity:g}"' if self.opacity < 1 else ""
        return found + (' stroke-linecap="round"' if self.has_round_ends else "")


@dataclass(frozen=True)
class _Mark:
    """A line, a filled area, or dots: points in data coordinates, and how they are drawn."""

    points: Points
    style: str
    kind: Literal["line", "area", "dots", "x", "y"] = "line"
    """"x" and "y" are a line through all of the axes at that value of the one point."""
    titles: Sequence[str] = ()
    """What a pointer over each dot, or over the line or area, is shown."""


@dataclass
class Axes:
    """Axes on which lines, areas and bars are drawn in data coordinates.

    Parameters
    ----------
    name : str
        What a screen reader says.
    size : (float, float)
        Width and height in inches.

    Examples
    --------
    >>> axes = Axes("a line", (3.6, 2.6))
    >>> axes.line([1, 2], [0.5, 0.7], Stroke("#2f7de1"), label="b")
    >>> axes.legend()
    >>> axes.svg()[:28]
    '<svg role="img" aria-label="'
    """

    name: str
    size: tuple[float, float]
    title: str = ""
    x: Scale = field(default_factory=Scale)
    y: Scale = field(default_factory=Scale)
    _marks: list[_Mark] = field(default_factory=list)
    _labels: list[tuple[str, Stroke, float]] = field(default_factory=list)
    _has_legend: bool = False
    _corner: str | None = None

    def line(
        self,
        x: ArrayLike,
        y: ArrayLike,
        stroke: Stroke,
        *,
        dot: float = 0.0,
        label: str | None = None,
        titles: Sequence[str] = (),
    ) -> None:
        """Draw a line, interrupted where a value is not finite; `dot` is the radius of dots.

        `titles` (n,) are what a pointer over each dot is shown.
        """
        self._marks.append(_Mark(_points(x, y), stroke.style))
        if dot:
            self.dots(x, y, stroke.color, radius=dot, titles=titles)
        self._explain(label, stroke, dot)

    def dots(
        self,
        x: ArrayLike,
        y: ArrayLike,
        color: str,
        *,
        radius: float,
        titles: Sequence[str] = (),
    ) -> None:
        """Draw dots without a line; `titles` (n,) are what a pointer over each is shown."""
        style = Stroke.of_dots(color, radius).style
        self._marks.append(_Mark(_points(x, y), style, "dots", titles))

    def area(
        self, x: ArrayLike, y: ArrayLike, color: str, opacity: float = 1.0, *, title: str = ""
    ) -> None:
        """Fill a polygon; corners that are not finite are left out."""
        points = _points(x, y)
        style = f'fill="{color}"' + (f' fill-opacity="{opacity:g}"' if opacity < 1 else "")
        finite = points[np.isfinite(points).all(axis=1)]
        self._marks.append(_Mark(finite, style, "area", [title] if title else ()))

    def band(
        self, x: ArrayLike, between: Sequence[ArrayLike], color: str, opacity: float = 1.0
    ) -> None:
        """Fill what lies between two lines over `x` (n,)."""
        low, high = between
        corners = np.concatenate([_points(x, high), _points(x, low)[::-1]])
        self.area(corners[:, 0], corners[:, 1], color, opacity)

    def across(
        self, at: float, stroke: Stroke, *, axis: Literal["x", "y"] = "y", label: str | None = None
    ) -> None:
        """Draw a line through all of the axes at a value of y; with `axis` "x" an upright one."""
        point = _points(*([at], [np.nan]) if axis == "x" else ([np.nan], [at]))
        self._marks.append(_Mark(point, stroke.style, axis))
        self._explain(label, stroke)

    def legend(self, corner: str | None = None) -> None:
        """Add a legend: in a corner, for example "upper right"; by default where there is room."""
        self._has_legend, self._corner = True, corner

    def _explain(self, label: str | None, stroke: Stroke, dot: float = 0.0) -> None:
        if label is not None:
            self._labels.append((label, stroke, dot))

    def svg(self) -> str:
        """Return the SVG element."""
        width, height = (72 * inches for inches in self.size)
        frame = _Frame.of(self, width, height)
        parts = [frame.mark(mark) for mark in self._marks]
        parts += [*frame.axes(), self._legend(frame)]
        label, body = html.escape(self.name), "".join(parts)
        return (
            f'<svg role="img" aria-label="{label}" class="plot" width="{_n(width)}pt" '
            f'height="{_n(height)}pt" viewBox="0 0 {_n(width)} {_n(height)}" '
            f'xmlns="http://www.w3.org/2000/svg" font-size="{_n(TEXT)}" fill="{INK}" '
            f'stroke-linejoin="round">{body}</svg>'
        )

    def data(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return all x and all y that are drawn, `even`."""
        points = np.concatenate([np.empty((0, 2)), *(mark.points for mark in self._marks)])
        return self.x.even(points[:, 0]), self.y.even(points[:, 1])

    def _legend(self, frame: _Frame) -> str:
        if not self._has_legend or not self._labels:
            return ""
        step = _LINE * SMALL + 1
        wide = 26 + max(text_width(text, SMALL) for text, _, _ in self._labels)
        drawn = [frame.dense(mark) for mark in self._marks]
        left, top = frame.free(wide, step * len(self._labels) + _GAP, drawn, self._corner)
        rows = []
        for i, (text, stroke, dot) in enumerate(self._labels):
            y = top + step * (i + 0.5) + _GAP / 2
            rows.append(_path(f"M{_n(left)} {_n(y)}h20", stroke.style))
            if dot:
                dots = Stroke.of_dots(stroke.color, dot)
                rows.append(_path(f"M{_n(left + 10)} {_n(y)}h0", dots.style))
            rows.append(_text(text, left + 24, y + 0.35 * SMALL, SMALL))
        return "".join(rows)


def _points(x: ArrayLike, y: ArrayLike) -> Points:
    """Return the points (n, 2); None is not finite."""
    return np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])


def _n(value: float) -> str:
    """Return a coordinate to a hundredth of a point."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _path(commands: str, style: str, *, is_area: bool = False, title: str = "") -> str:
    hollow = "" if is_area else 'fill="none" '
    path = f'<path {hollow}{style} d="{commands}"'
    return f"{path}><title>{html.escape(title)}</title></path>" if title else f"{path}/>"


def _hints(at: Points, titles: Sequence[str]) -> str:
    """Return what a pointer near each dot (n, 2) is shown: a dot alone is too small to be hit."""
    found = [
        f'<path d="M{_n(x)} {_n(y)}h0"><title>{html.escape(title)}</title></path>'
        for (x, y), title in zip(at, titles, strict=False)
        if np.isfinite((x, y)).all()
    ]
    style = f'stroke-width="{_REACH:g}" stroke="{INK}" stroke-opacity="0" stroke-linecap="round"'
    return f"<g {style}>{''.join(found)}</g>" if found else ""


def _text(text: str, x: float, y: float, size: float, anchor: str = "", turn: str = "") -> str:
    """Return a text by the place of its base line; `anchor` is "middle" or "end"."""
    about = f' text-anchor="{anchor}"' if anchor else ""
    about += "" if size == TEXT else f' font-size="{_n(size)}"'
    return f'<text x="{_n(x)}" y="{_n(y)}"{about}{turn}>{html.escape(text)}</text>'


def _joined(points: Points) -> str:
    """Return the path through points; level and upright parts take one number each."""
    at = np.round(points, 2).tolist()
    parts, before = [], None
    for x, y in at:
        if before is None:
            parts.append(f"M{_n(x)} {_n(y)}")
        elif y == before[1]:
            parts.append(f"H{_n(x)}")
        elif x == before[0]:
            parts.append(f"V{_n(y)}")
        else:
            parts.append(f"L{_n(x)} {_n(y)}")
        before = (x, y)
    return "".join(parts)


_CORNERS = ("upper right", "upper left", "lower left", "lower right", "right", "left")


@dataclass(frozen=True)
class _Frame:
    """Where the axes lie in the element, and what they run from and to."""

    about: Axes
    width: float
    box: Box
    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Ticks
    y_ticks: Ticks

    @classmethod
    def of(cls, about: Axes, width: float, height: float) -> _Frame:
        """Lay out axes: the labels of y decide how much is left for x."""
        ends = [scale.ends(v) for scale, v in zip((about.x, about.y), about.data(), strict=True)]
        top = _LINE * TITLE + _GAP if about.title else _EDGE
        n_lines = about.x.label.count("\n") + 1 if about.x.label else 0
        lines = _LINE * (about.x.size + TEXT * n_lines)
        bottom = height - _TICK - 2 * _GAP - lines
        high = about.y.marked(*ends[1], _least_gap(ends[1], bottom - top, 2 * about.y.size))
        left = _TICK + _GAP + max([text_width(text, about.y.size) for _, text in high], default=0)
        left += _EDGE + (_LINE * TEXT + _GAP if about.y.label else 0)
        right = width - 2 * _EDGE
        wide = about.x.marked(*ends[0], _fitting(ends[0], right - left, about.x.size))
        if wide:  # half of the last label stands beyond its tick
            place, text = wide[-1]
            share = (place - ends[0][0]) / (ends[0][1] - ends[0][0])
            beyond = left + share * (right - left) + text_width(text, about.x.size) / 2 - width
            right -= max(0.0, beyond + 1)
        return cls(about, width, (left, top, right, bottom), ends[0], ends[1], wide, high)

    def right_to(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return where `even` values of x lie, never outside of the axes."""
        left, _, right, _ = self.box
        share = (np.asarray(x, dtype=np.float64) - self.x[0]) / (self.x[1] - self.x[0])
        return left + np.clip(share, 0, 1) * (right - left)

    def up_to(self, y: ArrayLike) -> NDArray[np.float64]:
        """Return where `even` values of y lie, never outside of the axes."""
        _, top, _, bottom = self.box
        share = (np.asarray(y, dtype=np.float64) - self.y[0]) / (self.y[1] - self.y[0])
        return bottom - np.clip(share, 0, 1) * (bottom - top)

    def place(self, points: Points) -> Points:
        """Return where points (n, 2) in data coordinates lie."""
        x, y = self.about.x.even(points[:, 0]), self.about.y.even(points[:, 1])
        return np.column_stack([self.right_to(x), self.up_to(y)])

    def mark(self, mark: _Mark) -> str:
        """Return a mark as SVG; nothing where it has no finite point."""
        at = self.place(mark.points)
        left, top, right, bottom = self.box
        if mark.kind == "x":
            return _path(f"M{_n(at[0, 0])} {_n(bottom)}V{_n(top)}", mark.style)
        if mark.kind == "y":
            return _path(f"M{_n(left)} {_n(at[0, 1])}H{_n(right)}", mark.style)
        parts = _unbroken(at)
        if not parts:
            return ""
        if mark.kind == "dots":
            dots = [f"M{_n(x)} {_n(y)}h0" for x, y in np.concatenate(parts)]
            return _path("".join(dots), mark.style) + _hints(at, mark.titles)
        is_area, title = mark.kind == "area", "".join(mark.titles)
        commands = "".join(map(_joined, parts)) + "z" * is_area
        return _path(commands, mark.style, is_area=is_area, title=title)

    def axes(self) -> Iterator[str]:
        """Yield the two axes with their ticks and labels, and the title."""
        left, top, right, bottom = self.box
        x = self.right_to([place for place, _ in self.x_ticks])
        y = self.up_to([place for place, _ in self.y_ticks])
        ticks = "".join(f"M{_n(at)} {_n(bottom)}v{_TICK}" for at in x)
        ticks += "".join(f"M{_n(left)} {_n(at)}h-{_TICK}" for at in y)
        frame = f"M{_n(left)} {_n(top)}V{_n(bottom)}H{_n(right)}{ticks}"
        yield _path(frame, Stroke(INK, 0.8).style)
        below = bottom + _TICK + _GAP + 0.8 * self.about.x.size
        for at, (_, text) in zip(x, self.x_ticks, strict=True):
            yield _text(text, at, below, self.about.x.size, "middle")
        beside, size = left - _TICK - _GAP, self.about.y.size
        for at, (_, text) in zip(y, self.y_ticks, strict=True):
            yield _text(text, beside, at + 0.35 * size, size, "end")
        yield from self._words(below)

    def _words(self, below: float) -> Iterator[str]:
        """Yield the labels of the axes and the title."""
        left, top, right, bottom = self.box
        for i, line in enumerate(self.about.x.label.splitlines()):
            y = below + _GAP + _LINE * TEXT * (i + 0.9)
            yield _text(line, (left + right) / 2, y, TEXT, "middle")
        if self.about.y.label:
            half = text_width(self.about.y.label, TEXT) / 2
            x, y = _EDGE + 0.8 * TEXT, max((top + bottom) / 2, half)
            turn = f' transform="rotate(-90 {_n(x)} {_n(y)})"'
            yield _text(self.about.y.label, x, y, TEXT, "middle", turn)
        if self.about.title:
            wide = text_width(self.about.title, TITLE)
            size = TITLE * min(1.0, (self.width - _EDGE) / wide)
            start = max(0.0, min(left, self.width - _EDGE - wide))
            yield _text(self.about.title, start, TITLE, size)

    def dense(self, mark: _Mark) -> Points:
        """Return where a mark lies, in steps so short that none jumps over a legend."""
        left, top, right, bottom = self.box
        at = self.place(mark.points)
        if mark.kind in ("x", "y"):
            x, y = at[0]
            at = np.array([[x, top], [x, bottom]] if mark.kind == "x" else [[left, y], [right, y]])
        at = at[np.isfinite(at).all(axis=1)]
        if not len(at):
            return at
        steps = np.linspace(0, len(at) - 1, max(len(at), _STEPS))
        return np.column_stack([np.interp(steps, np.arange(len(at)), column) for column in at.T])

    def free(
        self, wide: float, high: float, drawn: Sequence[Points], corner: str | None
    ) -> tuple[float, float]:
        """Return left and top of a box of that size in a corner, or where it covers least."""
        left, top, right, bottom = self.box
        lefts = {"right": right - wide, "left": left + 2 * _GAP}
        middle = (top + bottom - high) / 2
        tops = {"upper": top, "lower": bottom - high - _GAP}
        found: list[tuple[float, float]] = []
        for name in (corner,) if corner else _CORNERS:
            level, _, side = name.rpartition(" ")
            found.append((lefts[side], tops.get(level, middle)))
        return min(found, key=lambda at: _covered(drawn, (*at, at[0] + wide, at[1] + high)))


def _covered(drawn: Sequence[Points], box: Box) -> int:
    """Return how many points lie in a box."""
    left, top, right, bottom = box
    return sum(
        int(
            ((at[:, 0] > left) & (at[:, 0] < right) & (at[:, 1] > top) & (at[:, 1] < bottom)).sum()
        )
        for at in drawn
    )


def _unbroken(points: Points) -> list[Points]:
    """Return the parts of a line between points that are not finite."""
    finite = np.isfinite(points).all(axis=1)
    parts = np.split(points, np.flatnonzero(~finite))
    kept = [part[np.isfinite(part).all(axis=1)] for part in parts]
    return [part for part in kept if len(part)]


def _least_gap(ends: tuple[float, float], length: float, least: float) -> Fits:
    """Return whether ticks stand so many points apart at least."""

    def fits(ticks: Ticks) -> bool:
        per_point = (ends[1] - ends[0]) / length
        return all(b - a >= least * per_point for (a, _), (b, _) in itertools.pairwise(ticks))

    return fits


def _fitting(ends: tuple[float, float], length: float, size: float) -> Fits:
    """Return whether the labels of ticks fit side by side."""

    def fits(ticks: Ticks) -> bool:
        widest = max([text_width(text, size) for _, text in ticks], default=0.0)
        return bool(_least_gap(ends, length, widest + size)(ticks))

    return fits
