"""Before and after a projection: the views of one target that are measured side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from intramodal.commands.target import Target
from intramodal.errors import InputError
from intramodal.evaluation.views import adjust_mean, project_texts
from intramodal.projection.projection import Projection
from intramodal.types import Floats, encoders_agree

Kind = Literal["stored", "projected", "mean adjusted"]


@dataclass(frozen=True)
class View:
    """One way to look at a vector.

    Parameters
    ----------
    kind : {"stored", "projected", "mean adjusted"}
    vector : str
        Name for tables; that of the stored vector, or what a projection makes of it.
    projection : Projection or None
        That of a stored, projected vector is applied to the texts only. None if it is not known.
    """

    kind: Kind
    vector: str
    projection: Projection | None = None

    def make(self, X: Floats, texts: Floats | None) -> tuple[Floats, Floats | None]:
        """Return images and texts as they are compared in this view.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            The stored vectors.
        texts : ndarray of shape (n_texts, dim) or None
            In the encoder's own space.
        """
        if self.projection is None:
            return X, texts
        if self.kind == "mean adjusted":
            return adjust_mean(X, self.projection), texts
        images = X if self.kind == "stored" else self.projection.apply(X)
        return images, None if texts is None else project_texts(texts, self.projection)


def views_of(
    target: Target,
    projections: Sequence[tuple[Path, Projection]],
    targets: Sequence[Target],
    *,
    has_texts: bool,
) -> list[View]:
    """Return the stored vector, and what the projections make of it.

    Parameters
    ----------
    target : Target
    projections : sequence of (Path, Projection)
        Those made for the target's encoder are applied to its own vector; not to one that is
        projected already.
    targets : sequence of Target
        All that are measured: what one of them stores is not computed a second time.
    has_texts : bool
        Whether texts will be compared, for which a projected vector's own file is needed.
    """
    if target.is_projected:
        own = target.projection_among(projections) if has_texts else None
        return [View("stored", target.vector, own)]
    found = [View("stored", target.vector)]
    for _, projection in projections:
        if not takes(projection, target):
            continue
        if not any(_stores(other, target, projection) for other in targets):
            found.append(View("projected", projection.default_vector, projection))
        found.append(View("mean adjusted", f"{projection.default_vector}_adjusted", projection))
    return found


def takes(projection: Projection, target: Target) -> bool:
    """Return whether a projection was made for the vectors of a target."""
    if target.is_projected:
        return False
    origin = target.origin
    if origin is None:
        size = target.collection.info().vectors[target.vector].size
        return size == projection.dim_in
    return encoders_agree(
        (origin.encoder, origin.encoder_fingerprint),
        (projection.encoder, projection.encoder_fingerprint),
    )


def require_used(
    projections: Sequence[tuple[Path, Projection]], targets: Sequence[Target]
) -> None:
    """Raise `InputError` for a projection that no target has any use for."""
    for path, projection in projections:
        made = {t.origin.projection for t in targets if t.origin is not None}
        if projection.fingerprint in made or any(takes(projection, t) for t in targets):
            continue
        raise InputError(
            f"{path} projects vectors of {projection.encoder}, and none of the given vectors is "
            f"its own; give the projection that was fitted for one of them"
        )


def _stores(other: Target, target: Target, projection: Projection) -> bool:
    return (
        other.collection.name == target.collection.name
        and other.origin is not None
        and other.origin.projection == projection.fingerprint
    )
