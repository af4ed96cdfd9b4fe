"""A comparison as JUnit XML, which CI servers show as test results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from intramodal.files import write_text

# XML 1.0, section 2.2: what it cannot hold, and the control characters that it discourages.
_NO_XML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(result: Mapping[str, Any], *, started: datetime, seconds: float) -> str:
    """Return one test suite with one test case per label field; see `write_junit`.

    Names and sentences are untrusted: characters that XML cannot hold are dropped.
    """
    failed = result.get("gate", {}).get("failed", {})
    a, b = result["vectors"]
    counts = {"tests": len(result["fields"]), "failures": len(failed), "errors": 0, "skipped": 0}
    whole: dict[str, Any] = {**counts, "time": f"{seconds:.3f}"}
    suites = _element(None, "testsuites", name="intramodal compare", **whole)
    name = f"{b} in place of {a} in {result['collection']}"
    moment = started.isoformat(timespec="seconds")
    suite = _element(suites, "testsuite", name=name, **whole, timestamp=moment)
    _properties(suite, _about(result))
    shared: dict[str, Any] = {
        "classname": f"{result['collection']}.{b}",
        "time": f"{seconds / counts['tests']:.3f}",
    }
    for field, row in result["fields"].items():
        _case(_element(suite, "testcase", name=field, **shared), row, failed.get(field))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode")


def write_junit(
    result: Mapping[str, Any], path: Path, *, started: datetime, seconds: float
) -> None:
    """Write a comparison as JUnit XML: one test suite, one test case per label field.

    Parameters
    ----------
    result : dict
        What `gated` gives. Fields named in its "gate" are failures, with the outcome as type and
        the sentence as message; without a gate none is. The sentence of any other field is its
        output.
    path : Path
        Written under a temporary name, then renamed.
    started : datetime
    seconds : float
        Of the whole comparison. Every test case gets an equal share, as the fields share one
        reading of the vectors, so that the cases sum to the suite.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_text(path, junit_xml(result, started=started, seconds=seconds))


def _about(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the suite says of the comparison."""
    rule, earlier = result.get("gate", {}), result.get("baseline", {})
    about = {"run": result["run_id"], "fail-on": rule.get("fail_on")}
    return {**about, "baseline": earlier.get("run_id"), "changes": earlier.get("sentence")}


def _case(case: ET.Element, row: Mapping[str, Any], reason: str | None) -> None:
    """Fill in a test case; it failed if there is a reason."""
    sentence, outcome = row["sentence"], row["verdict"]
    _properties(case, {"outcome": outcome})
    if reason is None:
        _element(case, "system-out", sentence)
    else:
        _element(case, "failure", f"{reason}: {sentence}", message=sentence, type=outcome)


def _properties(parent: ET.Element, values: Mapping[str, Any]) -> None:
    found = _element(parent, "properties")
    for name, value in values.items():
        if value is not None:
            _element(found, "property", name=name, value=value)


def _element(parent: ET.Element | None, tag: str, text: str = "", **attributes: Any) -> ET.Element:
    """Return a new element, the last of its parent; text and attributes are untrusted."""
    clean = {name: _clean(value) for name, value in attributes.items()}
    element = ET.Element(tag, clean) if parent is None else ET.SubElement(parent, tag, clean)
    element.text = _clean(text) or None
    return element


def _clean(value: object) -> str:
    return _NO_XML.sub("", str(value))
