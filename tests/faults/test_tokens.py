"""A token for one collection: it may write points and vectors, not what the collection is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from intramodal.errors import AccessDenied
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill, plan_copy, plan_recompute
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from intramodal.store.server.tokens import lacking_right
from tests.faults.schedules import ORIGIN, Truth
from tests.faults.wire import Keys, WireServer

NAME, N, D = "photos", 60, 16
TRUTH = Truth.of(N, D)
FULL = "the key of all"


def token(access: Any) -> str:
    """Return a JWT, as a server would sign it."""
    claims = json.dumps({"exp": 4102444800, "access": access}).encode()
    parts = (b'{"alg":"HS256","typ":"JWT"}', claims, b"signature")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


SCOPED = token([{"collection": NAME, "access": "rw"}])


@pytest.fixture
def server() -> Iterator[WireServer]:
    keys = Keys(full=FULL, scoped=SCOPED, collection=NAME)
    with WireServer(keys=keys) as server:
        with open_store(server.url, api_key=FULL) as store:
            photos = ImageCollection.ensure(store, NAME, {"raw": (D, ORIGIN)})
            photos.write(TRUTH.ids, {"raw": TRUTH.X}, TRUTH.payloads)
        yield server


def changes(server: WireServer) -> list[tuple[str, str]]:
    """Take note of the requests that change what a collection is, from now on."""
    seen: list[tuple[str, str]] = []

    def look(method: str, path: str) -> None:
        if method in ("PATCH", "PUT", "DELETE") and "/points" not in path:
            seen.append((method, path))

    server.before = look
    return seen


def test_the_plan_says_what_the_token_may_not_do_and_the_backfill_before_it_writes(
    server: WireServer,
) -> None:
    seen = changes(server)
    with open_store(server.url, api_key=SCOPED) as store:
        photos = ImageCollection.open(store, NAME)
        notes = plan_backfill(photos, TRUTH.projection).notes
        with pytest.raises(AccessDenied, match=r"may write points.*run the same command once"):
            backfill(photos, TRUTH.projection)
    assert any("may write points of 'photos'" in note for note in notes)
    assert any("somebody whose key may run the same command once" in note for note in notes)
    assert seen == []


def test_what_somebody_has_prepared_is_filled_without_touching_the_description(
    server: WireServer,
) -> None:
    with open_store(server.url, api_key=FULL) as store:
        backfill(ImageCollection.open(store, NAME), TRUTH.projection)
    for point in list(server.storage.points(NAME).values())[:20]:
        del point.vectors["pca"]
    seen = changes(server)
    with open_store(server.url, api_key=SCOPED) as store:
        photos = ImageCollection.open(store, NAME)
        assert not any("key" in note for note in plan_backfill(photos, TRUTH.projection).notes)
        done = backfill(photos, TRUTH.projection)
    assert (done.projected, done.notes, seen) == (20, [], [])
    TRUTH.check(server.storage.points(NAME), is_projected=True)


def test_an_entry_that_the_token_cannot_complete_is_a_note(server: WireServer) -> None:
    with open_store(server.url, api_key=FULL) as store:
        photos = ImageCollection.open(store, NAME)
        backfill(photos, TRUTH.projection, only=TRUTH.ids[:1])  # the manifest says: incomplete
    with open_store(server.url, api_key=SCOPED) as store:
        photos = ImageCollection.open(store, NAME)
        planned = plan_backfill(photos, TRUTH.projection).notes
        done = backfill(photos, TRUTH.projection)
        assert not ImageCollection.open(store, NAME).origin("pca").is_complete
    assert any("cannot mark 'pca' as complete" in note for note in planned)
    assert done.projected == N - 1
    assert any("let somebody whose key may run the same command once" in n for n in done.notes)
    with open_store(server.url, api_key=FULL) as store:
        photos = ImageCollection.open(store, NAME)
        assert backfill(photos, TRUTH.projection).projected == 0
        assert photos.origin("pca").is_complete


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, ""),
        ("a key", ""),
        ("a.b.c", ""),
        (token("m"), ""),
        (token("r"), "may only read"),
        (token([{"collection": NAME, "access": "r"}]), "may only read 'photos'"),
        (token([{"collection": "other", "access": "rw"}]), "has no right on 'photos'"),
        (SCOPED, "may write points of 'photos'"),
    ],
)
def test_a_token_is_read_as_the_server_reads_it(key: str | None, words: str) -> None:
    found = lacking_right(key, NAME)
    assert words in found
    assert bool(words) == bool(found)
    assert key is None or key not in found


@pytest.mark.parametrize("odd", [["photos"], {"a": 1}, 7, None])
def test_a_right_on_no_name_is_no_right(odd: Any) -> None:
    assert "no right" in lacking_right(token([{"collection": odd, "access": "rw"}]), NAME)


def test_a_token_nested_too_deep_says_nothing() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("=")
    assert lacking_right(f"a.{deep}.c", NAME) == ""


def test_a_refused_write_names_the_right_that_is_missing(server: WireServer) -> None:
    with open_store(server.url, api_key=SCOPED) as store:
        with pytest.raises(AccessDenied, match="for single collections"):
            store.set_metadata(NAME, {"a": 1})
        with pytest.raises(AccessDenied, match="for single collections"):
            store.drop(NAME)


READING = "the key for reading"


@pytest.fixture(params=[READING, token("r"), token([{"collection": NAME, "access": "r"}])],
                ids=["plain key", "token", "token of the collection"])  # fmt: skip
def reading(server: WireServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a key that may only read; whoever writes with it is refused."""
    before, server.keys = server.keys, Keys(full=FULL, reading=request.param)
    yield request.param
    server.keys = before


def test_a_plan_with_a_key_for_reading_says_who_must_write_and_changes_nothing(
    server: WireServer, reading: str
) -> None:
    seen = changes(server)
    with open_store(server.url, api_key=reading) as store:
        photos = ImageCollection.open(store, NAME)
        notes = plan_backfill(photos, TRUTH.projection).notes
        copied = plan_copy(photos, TRUTH.projection, new_collection="photos_v2").notes
    assert any("cannot add 'pca'" in n and "may only read" in n for n in notes)
    assert any("has to be done with a key that may change the collection" in n for n in notes)
    assert not any("is enough" in note for note in notes)
    assert any("cannot make 'photos_v2'" in note for note in copied)
    assert seen == []
    with open_store(server.url, api_key=FULL) as store:
        backfill(ImageCollection.open(store, NAME), TRUTH.projection)
    with open_store(server.url, api_key=reading) as store:
        photos = ImageCollection.open(store, NAME)
        filled = plan_backfill(photos, TRUTH.projection).notes
        again = plan_recompute(photos, TRUTH.projection, where=Filter()).notes
        back = rollback_vector(photos, dry_run=True).notes
    for notes in (filled, again):
        assert any("cannot write 'pca'" in n and "a key that may write" in n for n in notes)
    assert any("takes a key for the whole server" in note for note in back)


@pytest.mark.parametrize("key", [FULL, None])
def test_a_plan_with_a_key_for_everything_has_nothing_to_say_of_it(
    server: WireServer, key: str | None
) -> None:
    if key is None:
        server.keys = Keys()
    asked: list[str] = []
    server.before = lambda method, path: asked.append(f"{method} {path}")
    with open_store(server.url, api_key=key) as store:
        photos = ImageCollection.open(store, NAME)
        assert not any("key" in note for note in plan_backfill(photos, TRUTH.projection).notes)
        assert store.lacking_right(NAME, asks=True) == ""
    assert asked.count("GET /profiler/slow_requests") == (key is not None)


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "nginx: forbidden"), (404, "Not Found"), (500, "oh"), (401, "who"), (200, "<html>")],
)
def test_what_a_proxy_makes_of_the_question_says_nothing(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    answer = server.answer

    def hidden(method: str, target: str, headers: Any, body: bytes) -> Any:
        if target.startswith("/profiler"):
            return status, words if status == 200 else {"status": {"error": words}}, {}
        return answer(method, target, headers, body)

    monkeypatch.setattr(server, "answer", hidden)
    with open_store(server.url, api_key=FULL) as store:
        assert store.lacking_right(NAME, asks=True) == ""
