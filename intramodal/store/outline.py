"""What a store holds, by name, for a look that makes nothing.

The catalogue of an embedded store says most of it, also while another process has the store open.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

from intramodal.errors import NotFound
from intramodal.store.directories import check_directory
from intramodal.store.edge.catalogue import FILE_NAME, Catalogue, Contents
from intramodal.store.fields import fields_of
from intramodal.store.manifest import AUGMENTED, Manifest
from intramodal.store.open import is_directory, open_store
from intramodal.types import VectorMap, encoders_agree

_N_LOOKED_AT = 100
"""Points whose payload says which fields there are."""


def collection_names(location: str, **access: Any) -> list[str]:
    """Return the collections of a store and the aliases of them; `access` as for `open_store`."""
    if is_directory(location):
        contents = _contents(location)
        return sorted({*contents.collections, *contents.aliases})
    with open_store(location, **access) as store:
        return sorted({*store.collections(), *store.aliases()})


def vector_names(location: str, collection: str, **access: Any) -> list[str]:
    """Return the named vectors of a collection."""
    if is_directory(location):
        contents = _contents(location)
        return sorted(contents.collections[contents.resolve(collection)].vectors)
    with open_store(location, **access) as store:
        return sorted(store.info(collection).vectors)


def field_names(location: str, collection: str, **access: Any) -> list[str]:
    """Return payload fields that the first points of a collection have, the most frequent first.

    Raises
    ------
    Locked
        If another process has the collection open in an embedded store.
    """
    if is_directory(location):
        _contents(location)  # nothing is made where there is no store
    with open_store(location, **access) as store:
        pages = store.scroll(collection, payload=True, batch_size=_N_LOOKED_AT)
        payloads = [payload for page in itertools.islice(pages, 1) for payload in page.payloads]
    found = Counter(name for payload in payloads for name in fields_of(payload))
    return [name for name, _ in found.most_common()]


def collections_for(location: str, projection: VectorMap) -> list[str]:
    """Return collections of an embedded store that a projection is for and has not filled."""
    made_by = (projection.encoder, projection.encoder_fingerprint)
    if not is_directory(location) or not (Path(location) / FILE_NAME).is_file():
        return []
    found = []
    for name, entry in sorted(_contents(location).collections.items()):
        origins = Manifest.from_metadata(entry.metadata).vectors.values()
        own = [one for one in origins if not one.projection and one.method != AUGMENTED]
        is_for = any(
            encoders_agree(made_by, (one.encoder, one.encoder_fingerprint)) for one in own
        )
        if is_for and all(one.projection != projection.fingerprint for one in origins):
            found.append(name)
    return found


def _contents(location: str) -> Contents:
    """Read the catalogue of an embedded store that is there."""
    check_directory(location)
    if not (Path(location) / FILE_NAME).is_file():
        raise NotFound(f"there is no store at {location}")
    return Catalogue(Path(location)).read()
