"""Axes are laid out so that data lie where the ticks say, and nothing is cut off or crowded."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intramodal.svg import Axes, Scale, Stroke, text_width

SVG = "{http://www.w3.org/2000/svg}"
BLUE = Stroke("#0000ff")


def drawn(axes: Axes) -> ET.Element:
    return ET.fromstring(axes.svg())


def paths(axes: Axes, color: str = "#0000ff") -> list[str]:
    return [p.attrib["d"] for p in drawn(axes).iter(f"{SVG}path") if p.get("stroke") == color]


def ends(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def texts(axes: Axes) -> dict[str, ET.Element]:
    return {each.text or "": each for each in drawn(axes).iter(f"{SVG}text")}


def test_values_lie_at_their_ticks() -> None:
    axes = Axes("a", (3.6, 2.6), x=Scale(limits=(0, 40)), y=Scale(limits=(0, 1)))
    axes.line([10, 30], [0.2, 0.8], BLUE)
    (path,) = paths(axes)
    x0, y0, x1, y1 = ends(path)
    words = texts(axes)
    assert [x0, x1] == [float(words[n].attrib["x"]) for n in ("10", "30")]
    # The base line of a label is a third of its size below the tick.
    below = [float(words[n].attrib["y"]) - y for n, y in (("0.2", y0), ("0.8", y1))]
    assert below == pytest.approx([0.35 * 9] * 2, abs=0.011)  # rounded to hundredths


def test_steps_of_a_logarithmic_axis_are_factors() -> None:
    axes = Axes("a", (3.6, 2.6), x=Scale(base=2, ticks=[(1, "1"), (2, "2"), (8, "8")]))
    axes.line([1, 2, 8], [0, 0, 0], BLUE)
    x = {n: float(texts(axes)[n].attrib["x"]) for n in "128"}
    assert x["8"] - x["2"] == pytest.approx(2 * (x["2"] - x["1"]), abs=0.03)


def test_a_logarithmic_axis_has_ticks_at_powers_of_ten() -> None:
    axes = Axes("a", (3.6, 2.6), y=Scale(base=10))
    axes.line([0, 1], [2e-6, 0.3], BLUE)
    assert {"1e-05", "1e-04", "1e-03", "1e-02", "1e-01"} <= set(texts(axes))


@pytest.mark.parametrize(("low", "high"), [(0.31, 0.42), (0.3, 4.0), (1e-16, 1.0)])
def test_a_logarithmic_axis_has_some_ticks_and_not_too_many(low: float, high: float) -> None:
    axes = Axes("a", (3.6, 2.6), y=Scale(base=10), x=Scale(ticks=[]))
    axes.line([0, 1], [low, high], BLUE)
    labels = [t for t in drawn(axes).iter(f"{SVG}text") if t.get("text-anchor") == "end"]
    at = [float(t.attrib["y"]) for t in labels]
    assert len(at) >= 2
    assert all(abs(a - b) >= 9 for a, b in itertools.pairwise(at))


def test_named_ticks_are_on_the_axis_whatever_is_drawn() -> None:
    axes = Axes("a", (3.6, 2.6), x=Scale(base=2, ticks=[(1, "1"), (16, "16")]))
    axes.line([1], [0.5], BLUE, dot=2)
    x = [float(texts(axes)[n].attrib["x"]) for n in ("1", "16")]
    assert 0 < x[0] < x[1] - 72
    assert x[1] < 72 * 3.6


values = st.lists(
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 6)), min_size=2, max_size=9
)


@given(values)
def test_ticks_are_round_numbers_in_the_range_and_do_not_crowd(y: list[float]) -> None:
    axes = Axes("a", (3.6, 2.6))
    axes.line(y, y, BLUE)
    labels = [t for t in drawn(axes).iter(f"{SVG}text") if t.get("text-anchor") == "middle"]
    at = [float(t.attrib["x"]) for t in labels]
    read = [float((t.text or "").replace(",", "").replace("−", "-")) for t in labels]
    assert len(set(read)) == len(read) <= 9
    assert read == sorted(read)
    wide = max((text_width(t.text or "", 9) for t in labels), default=0)
    assert all(b - a >= wide for a, b in itertools.pairwise(at))
    if len(at) > 2:
        steps = np.diff(at)
        assert steps == pytest.approx(steps.mean(), abs=0.02)  # evenly spaced, as read


@given(values)
def test_nothing_is_drawn_beyond_the_edges(y: list[float]) -> None:
    axes = Axes("a", (3.6, 2.6), title="t" * 50, x=Scale("x"), y=Scale("y"))
    axes.line(np.arange(len(y)), y, BLUE)
    (path,) = paths(axes)
    at = np.array(ends(path))
    assert at.min() >= 0
    assert at.max() <= 72 * 3.6
    for label in drawn(axes).iter(f"{SVG}text"):
        size = float(label.get("font-size", 9))
        wide = text_width(label.text or "", size)
        share = {"middle": 0.5, "end": 1.0}.get(label.get("text-anchor", ""), 0.0)
        if "transform" not in label.attrib:
            start = float(label.attrib["x"]) - share * wide
            assert start >= -1
            assert start + wide <= 72 * 3.6 + 1


def test_a_value_that_is_not_there_interrupts_the_line() -> None:
    axes = Axes("a", (3.6, 2.6))
    axes.line([0, 1, 2, 3, 4], [0, 1, None, 0, 1], BLUE, dot=2)
    line, dots = paths(axes)
    assert line.count("M") == 2
    assert dots.count("M") == 4


def test_without_any_value_there_are_axes() -> None:
    axes = Axes("a", (3.6, 2.6))
    axes.line([], [], BLUE, label="none")
    axes.area([np.nan], [1], "#0000ff")
    axes.legend()
    assert paths(axes, "currentColor")
    assert "none" in texts(axes)


def test_one_value_is_in_the_middle() -> None:
    axes = Axes("a", (3.6, 2.6))
    axes.dots([5.0], [0.0], "#0000ff", radius=2)
    x, y, _ = ends(paths(axes)[0])
    frame = ends(paths(axes, "currentColor")[0])
    left, top, bottom, right = frame[:4]
    assert (x, y) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.011)


def test_a_legend_keeps_out_of_the_way() -> None:
    """Whatever lies in the upper corners: also a line through all of the axes."""
    axes = Axes("a", (3.6, 2.6), x=Scale(limits=(0, 1)), y=Scale(limits=(0, 1)))
    axes.line([0, 1], [0.95, 0.95], BLUE, label="b")
    axes.line([0.1, 0.1], [0, 0.3], BLUE)
    axes.legend()
    label = texts(axes)["b"]
    assert float(label.attrib["x"]) > 72 * 1.8
    assert float(label.attrib["y"]) > 72 * 1.3
    axes = Axes("a", (3.6, 2.6), y=Scale(limits=(0, 1)))
    axes.line([0, 1], [0, 0], BLUE)
    axes.across(0.95, BLUE, label="b")
    axes.legend()
    assert float(texts(axes)["b"].attrib["y"]) > 72 * 0.4


def test_text_is_text() -> None:
    hostile = '</svg><script>alert(1)</script>&"'
    axes = Axes(hostile, (3.6, 2.6), title=hostile, x=Scale(hostile), y=Scale(hostile))
    axes.line([0, 1], [0, 1], BLUE, label=hostile)
    axes.legend()
    assert "<script" not in axes.svg()
    assert drawn(axes).attrib["aria-label"] == hostile
    assert sum(t.text == hostile for t in drawn(axes).iter(f"{SVG}text")) == 4


def test_wide_scripts_get_the_room_that_they_need() -> None:
    narrow, wide = (
        Axes("a", (3.6, 2.6), y=Scale(ticks=[(0, name)])) for name in ("kimono", "着物の帯と袖")
    )
    starts = []
    for axes in (narrow, wide):
        axes.line([0, 1], [0, 1], BLUE)
        starts.append(ends(paths(axes)[0])[0])
    assert starts[1] > starts[0]
