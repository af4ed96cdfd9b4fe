"""Every error a user can meet.

Each message is one sentence: what happened, what was given, what is allowed, what to do next.

::

    IntramodalError
    ├── InputError (ValueError)       an argument, option or file content that cannot be used
    │   ├── SourceError               the image source cannot be read as a whole
    │   ├── RankError                 more components asked for than the anchors span
    │   └── MismatchError             two things that must belong together do not
    │       ├── ManifestMismatchError     another encoder, preprocessing or projection
    │       └── QueryMismatchError        two results over different queries
    ├── ImageError                    one picture cannot be decoded (listed, never fatal)
    ├── ModelError                    a model is unknown, incomplete or cannot be loaded
    ├── MissingDependencyError        an optional package is needed (names the extra)
    ├── ProjectionError               a projection file is truncated, foreign or tampered with
    ├── LedgerError                   the runs database cannot be used
    └── StoreError                    Qdrant said no
        ├── StoreUnavailable              transient; worth another try
        ├── AccessDenied                  key missing, wrong or read-only
        ├── NotFound                      no such collection, vector or point
        ├── Conflict                      it exists already, differently
        ├── Unsupported                   this backend or version cannot do it
        └── Locked                        another process holds the directory
"""

from __future__ import annotations


def reason(error: Exception) -> str:
    """Return why something failed, without the number and the path of the machine's errors.

    Examples
    --------
    >>> reason(IsADirectoryError(21, "Is a directory", "a"))
    'Is a directory'
    """
    return getattr(error, "strerror", None) or str(error)


class IntramodalError(Exception):
    """Base of all errors raised on purpose; the command line prints it as one sentence."""


class InputError(IntramodalError, ValueError):
    """An argument, option or file content that cannot be used."""


class SourceError(InputError):
    """The image source cannot be read as a whole."""


class RankError(InputError):
    """More components are asked for than the anchors span."""


class MismatchError(InputError):
    """Two things that must belong together do not."""


class ManifestMismatchError(MismatchError):
    """A named vector was made by another encoder, preprocessing or projection."""


class QueryMismatchError(MismatchError):
    """Two results that should be compared cover different queries."""


class ImageError(IntramodalError):
    """One picture cannot be decoded; it is listed in the run and skipped."""


class ModelError(IntramodalError):
    """A model is unknown, incomplete or cannot be loaded."""


class MissingDependencyError(IntramodalError):
    """An optional package is needed; the message names the extra that brings it."""


class ProjectionError(IntramodalError):
    """A projection file is truncated, foreign or tampered with."""


class LedgerError(IntramodalError):
    """The runs database cannot be used."""


class StoreError(IntramodalError):
    """The vector store refused or failed an operation."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is overloaded; the operation is worth another try."""


class AccessDenied(StoreError):
    """The API key is missing, wrong, or lacks the right for this operation."""


class NotFound(StoreError):
    """No such collection, vector or point."""


class Conflict(StoreError):
    """It exists already, with another definition."""


class Unsupported(StoreError):
    """Not possible with this backend, version or collection."""


class Locked(StoreError):
    """Another process holds the store's directory."""
