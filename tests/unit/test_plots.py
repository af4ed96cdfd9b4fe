"""What is drawn lies where its figure can lie."""

from __future__ import annotations

from intramodal.plots import _interval_bars, sweep_plot


def test_bars_of_an_accuracy_end_at_one() -> None:
    """A of 0.9 and a difference of up to 0.25: B's accuracy is at most 1 (issue 17)."""
    rows = [{"a": 0.9, "interval": [0.05, 0.25]}, {"a": 0.1, "interval": [-0.3, 0.2]}]
    assert _interval_bars(list(enumerate(rows))) == [(0, 0.9 + 0.05, 1.0), (1, 0.0, 0.1 + 0.2)]


def test_ticks_of_a_narrow_range_are_written_in_full() -> None:
    """No offset stands over the axis, as some libraries write it."""
    sweep = {"field": "kind", "dims": [1, 2], "map": [0.646001, 0.646002], "raw_map": 0.646001}
    svg = sweep_plot({**sweep, "knee": None})
    assert ">0.646001" in svg
    assert "+6.46" not in svg
