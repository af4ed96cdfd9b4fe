"""Requests that were recorded with a real server, sent again, and answers held against the old."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

FOLDER = Path(__file__).parent / "recordings"

_CUT = re.compile(r"\.\.\. (\d+) (items|numbers)")
_RAW = re.compile(r"\((\d+) bytes\) (.*)", re.DOTALL)

_VARY = {
    "operation_id": "counts writes and changes of the description alike",
    "version": "is the operation that wrote the point",
    "uuid": "is drawn",
    "peer_id": "is drawn",
    "peers": "are named by what is drawn",
    "leader": "is drawn",
    "term": "of the consensus",
    "commit": "of the consensus",
    "last_update": "is a time",
    "started_at": "is a time",
    "finished_at": "is a time",
    "duration_sec": "is a time",
    "segments_count": "depends on the cores of the machine",
    "length": "of the update queue: depends on the moment",
}
"""Keys whose values differ from run to run; their types do not."""

ATOL = 2e-7
"""Of scores and stored coordinates: products of a few float32 below 2, summed in other orders."""


@dataclass(frozen=True)
class Answer:
    """One answer, recorded or given now."""

    status: int
    content: Any
    type: str | None = "application/json"
    retry_after: str | None = None


@dataclass(frozen=True)
class Exchange:
    """One recorded request with its answer."""

    topic: str
    method: str
    path: str
    request: Any
    answer: Answer
    key: str | None = "full"
    node: int = 0

    @property
    def body(self) -> bytes:
        """Return what was sent, whole."""
        raw = _RAW.fullmatch(self.request) if isinstance(self.request, str) else None
        if raw is not None:  # what is no JSON, or too large to record
            return raw[2].encode().ljust(int(raw[1]))
        return b"" if self.request is None else json.dumps(whole(self.request)).encode()


def recorded(name: str, version: str) -> Iterator[Exchange]:
    """Yield the exchanges of a file with a server of some version, in order."""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for versions, answer in row.get("answers", {version: row}).items():
            if version in versions.split():
                yield Exchange(
                    row["topic"],
                    row["method"],
                    row["path"],
                    row.get("request"),
                    Answer(
                        answer["status"],
                        answer["response"],
                        answer.get("type", "application/json"),
                        answer.get("retry_after"),
                    ),
                    row.get("key", "full"),
                    row.get("node", 0),
                )


def point_vector(n: int) -> list[float]:
    """Return the vector that the recorded points have (period 11)."""
    return [(7 * n + 3 * j) % 11 / 5 - 0.99 for j in range(4)]


def whole(request: Any) -> Any:
    """Return a request with what was cut off its lists: they go on as they begin."""
    if isinstance(request, dict):
        return {key: whole(value) for key, value in request.items()}
    if not isinstance(request, list):
        return request
    cut = _CUT.fullmatch(request[-1]) if request and isinstance(request[-1], str) else None
    if cut is None:
        return [whole(value) for value in request]
    start = request[:-1]
    return start + [_following(start, n) for n in range(len(start), int(cut[1]))]


def _following(start: list[Any], n: int) -> Any:
    """Return item `n` of a list that begins so."""
    first, second = start[0], start[1]
    if isinstance(first, int):
        return first + n
    if isinstance(first, list):
        return point_vector(n)
    if "id" not in first:
        return _payload(n) if "a.b" in first else first
    item = {"id": first["id"] + n, "vector": {}}
    if "raw" in first["vector"]:
        item["vector"]["raw"] = point_vector(_number(first["vector"]["raw"]) + n)
    if "pca" in first["vector"]:
        grows = second["vector"]["pca"][1] - first["vector"]["pca"][1]
        item["vector"]["pca"] = [1, 1 + n * grows]
    if "payload" in first:
        item["payload"] = {**first["payload"], "n": n}
    return item


def _number(vector: list[float]) -> int:
    return next(n for n in range(11) if np.allclose(point_vector(n), vector))


def _payload(n: int) -> dict[str, Any]:
    return {"label": "ab"[n % 2], "year": 2000 + n % 3, "a.b": n}


def send(exchange: Exchange, url: str, keys: Mapping[str, str]) -> Answer:
    """Send a request again; a connection that is closed has status 0, as in the recordings."""
    headers = {"content-type": "application/json"}
    if exchange.key is not None and keys:
        headers["api-key"] = keys.get(exchange.key, exchange.key)
    try:
        got = httpx.request(
            exchange.method, url + exchange.path, content=exchange.body, headers=headers
        )
    except httpx.TransportError as error:
        return Answer(0, {"client": str(error)})
    content_type = got.headers.get("content-type")
    content = _content(got)
    return Answer(got.status_code, content, content_type, got.headers.get("retry-after"))


def _content(got: httpx.Response) -> Any:
    try:
        return got.json()
    except ValueError:
        return got.text or None


# Comparison


def differences(was: Answer, now: Answer) -> list[str]:
    """Return what differs, in words."""
    if was.status == 0 or now.status == 0:
        return [] if was.status == now.status else [f"status {now.status}, was {was.status}"]
    found = []
    if was.status != now.status:
        found.append(f"status {now.status}, was {was.status}")
    if was.retry_after != now.retry_after:
        found.append(f"retry-after {now.retry_after}, was {was.retry_after}")
    if was.type != now.type:
        found.append(f"content-type {now.type}, was {was.type}")
    return found + list(_compared(was.content, _without_time(now.content), "$"))


def _without_time(content: Any) -> Any:
    return (
        {k: v for k, v in content.items() if k not in ("time", "usage")}
        if isinstance(content, dict)
        else content
    )


def _compared(was: Any, now: Any, at: str) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        yield from _compared_keys(was, now, at)
    elif isinstance(was, list) and isinstance(now, list):
        yield from _compared_lists(was, now, at)
    elif not _is_equal(was, now):
        yield f"{at} is {now!r}, was {was!r}"


def _compared_keys(was: dict[str, Any], now: dict[str, Any], at: str) -> Iterator[str]:
    for key in sorted(was.keys() ^ now.keys()):
        yield f"{at}.{key} {'is missing' if key in was else 'is new'}"
    for key in sorted(was.keys() & now.keys()):
        if key not in _VARY or type(was[key]) is not type(now[key]):
            yield from _compared(was[key], now[key], f"{at}.{key}")


def _compared_lists(was: list[Any], now: list[Any], at: str) -> Iterator[str]:
    cut = _CUT.fullmatch(was[-1]) if was and isinstance(was[-1], str) else None
    n = int(cut[1]) if cut else len(was)
    if n != len(now):
        yield f"{at} has {len(now)} items, had {n}"
    start = was[:-1] if cut else was
    tied = _tied(start)
    for place, (a, b) in enumerate(zip(start, now, strict=False)):
        if place in tied:
            a, b = ({k: v for k, v in one.items() if k == "score"} for one in (a, b))
        yield from _compared(a, b, f"{at}[{place}]")


def _tied(found: list[Any]) -> set[int]:
    """Return the places of hits with equal scores, which no engine orders, and the last."""
    if not found or not all(isinstance(one, dict) and "score" in one for one in found):
        return set()
    scores = [one["score"] for one in found]
    places = {n for n, score in enumerate(scores) if scores.count(score) > 1}
    return places | {len(found) - 1}


def _is_equal(was: Any, now: Any) -> bool:
    if isinstance(was, str) and isinstance(now, str):
        return _text(was) == _text(now)
    if isinstance(was, float) and isinstance(now, float):
        return math.isclose(was, now, rel_tol=0, abs_tol=ATOL)
    return type(was) is type(now) and was == now


def _text(said: str) -> str:
    """Return a text without what no two say alike: parsers, and which of several missing ids."""
    if "valid point ID" not in said:
        said = re.sub(r"(?s)(Format error in JSON body: ).*", r"\1...", said)
    said = re.sub(r"(service is currently unavailable', message: ).*", r"\1...", said)
    said = re.sub(r" on peer \d+ ", " on peer N ", said)
    return re.sub(r"No point with id \S+ found", "No point with id N found", said)
