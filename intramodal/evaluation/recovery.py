"""How well image-image similarities follow from image-text ones, by number of anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, ModelError
from intramodal.evaluation.cosines import draw_any
from intramodal.evaluation.intervals import COSINE, NONNEGATIVE, student_interval
from intramodal.evaluation.results import Results, log_source
from intramodal.evaluation.tasks import Points, read_points
from intramodal.evaluation.texts import Texts, project_texts, texts_of
from intramodal.plots import Plot, recovery_plot
from intramodal.progress import progress
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.runs.frames import data_frame, html_table, json_values
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.store.origins import projection_of
from intramodal.types import Encoder, Floats, VectorTable, require_finite, unit_rows

Array = NDArray[np.float64]

MOST_BYTES = 2**31
"""Largest system of unit-norm equations that is solved."""


@dataclass(frozen=True, eq=False, repr=False)
class Recovery:
    """Images as far as their cosines with texts fix them.

    Parameters
    ----------
    images : ndarray of shape (n, d)
        float64. With anchors in the coordinates of the texts; without, up to a rotation.
    method : {"anchors", "unit norms"}
    n_equations, n_unknowns : int
        Of the linear system: anchors and d for each image; n and d (d + 1) / 2 in all.
    rank : int
        Numerical rank of the system.
    condition : float
        Largest over smallest kept singular value of the system.
    residual : float
        Norm of what the solution leaves unexplained, over the norm of the right-hand side.
    norm_error : float
        Root mean square of ``|x|^2 - 1`` over the recovered images, whose true length is 1: an
        error that can be seen without the truth.
    """

    images: Array
    method: Literal["anchors", "unit norms"]
    n_equations: int
    n_unknowns: int
    rank: int
    condition: float
    residual: float
    norm_error: float

    @property
    def n_free(self) -> int:
        """Number of directions that the equations leave free."""
        return self.n_unknowns - self.rank

    @property
    def is_determined(self) -> bool:
        """Whether the similarities follow; else `images` is the solution of least norm."""
        return self.n_free == 0

    def similarities(self) -> Array:
        """Return the similarities of the images with each other, (n, n)."""
        return np.asarray(self.images @ self.images.T)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the images."""
        figures = {k: v for k, v in vars(self).items() if k != "images"}
        found = {**figures, "n_free": self.n_free, "is_determined": self.is_determined}
        values: dict[str, Any] = json_values(found)
        return values

    def __repr__(self) -> str:
        """Return method, whether the similarities are determined, and the condition number."""
        free = "1 direction is" if self.n_free == 1 else f"{self.n_free:,} directions are"
        state = "determined" if self.is_determined else f"not determined: {free} free"
        return (
            f"Recovery(by {self.method}, {self.n_equations:,} equations for "
            f"{self.n_unknowns:,} unknowns, {state}, condition {self.condition:.3g})"
        )


def recover_with_anchors(S: NDArray[Any], T: NDArray[Any]) -> Recovery:
    """Recover images from their cosines with known texts (section 3.1).

    With the unit texts ``X_T`` of a set J of anchors and ``S_inter = X_T X_I^T``,

        X_I^T = X_T[J]^+ S_inter[J],    S_intra = X_I X_I^T

    which is unique where ``X_T[J]`` has rank d; else the images' part in the span of the anchors
    comes back. What must be full is the rank, not the number of distinct texts; an error of the
    cosines grows by at most the condition number.

    Parameters
    ----------
    S : ndarray of shape (m, n)
        Cosines of m texts with n images.
    T : ndarray of shape (m, d)
        Embeddings of the texts; rows are normalised here.

    Raises
    ------
    InputError
        For other shapes, values that are not finite, or texts that are all zero.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, T = (A / np.linalg.norm(A, axis=1)[:, None] for A in rng.normal(size=(2, 9, 4)))
    >>> found = recover_with_anchors(T @ X.T, T)
    >>> found.is_determined, bool(np.allclose(found.similarities(), X @ X.T))
    (True, True)
    >>> recover_with_anchors(T[:3] @ X.T, T[:3]).n_free
    1
    """
    eps = _epsilon(S, T)
    S, T = _matrix(S, "S"), _unit(_matrix(T, "T"))
    if len(S) != len(T):
        raise InputError(
            f"S has {len(S)} rows and there are {len(T)} texts; give one row of cosines a text"
        )
    U, s, W = np.linalg.svd(T, full_matrices=False)
    rank = _rank(s, T.shape, eps)
    X = (S.T @ U[:, :rank] / s[:rank]) @ W[:rank]
    return Recovery(
        images=X,
        method="anchors",
        n_equations=T.shape[0],
        n_unknowns=T.shape[1],
        rank=rank,
        condition=float(s[0] / s[rank - 1]),
        residual=_ratio(np.linalg.norm(T @ X.T - S), np.linalg.norm(S)),
        norm_error=_norm_error(X),
    )


def recover_without_anchors(S: NDArray[Any], *, dim: int | None = None) -> Recovery:
    """Recover images, up to a rotation, from cosines with unknown texts (appendix A).

    With the thin singular value decomposition ``S_inter = U D V^T`` of rank d, ``X_I = V C`` for
    some C. Of ``Q = C C^T``, symmetric, every image of unit length gives one linear equation,

        v_i^T Q v_i = 1,    S_intra = V Q V^T

    so n >= d (d + 1) / 2 images in general position fix Q.

    Parameters
    ----------
    S : ndarray of shape (m, n)
        Cosines of m texts with n images.
    dim : int, optional
        The embedding's dimensions d; by default the numerical rank of `S`, which is right if the
        texts and the images span the space. Where `S` has a lower rank, nothing of the missing
        dimensions is known, and the similarities are not determined.

    Raises
    ------
    InputError
        For values that are not finite, a rank above `dim`, or a system beyond `MOST_BYTES`.

    Notes
    -----
    A system of n >= d (d + 1) / 2 equations is solved as it is. A smaller one is solved by its
    Gram matrix, the squares of ``v_i^T v_j``: n x n instead of n x d (d + 1) / 2.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, T = (A / np.linalg.norm(A, axis=1)[:, None] for A in rng.normal(size=(2, 30, 4)))
    >>> found = recover_without_anchors(T @ X.T)
    >>> found.is_determined, bool(np.allclose(found.similarities(), X @ X.T))
    (True, True)
    >>> recover_without_anchors(T @ X[:9].T).n_free  # 9 images, 10 unknowns
    1
    """
    eps = _epsilon(S)
    S = _matrix(S, "S")
    _, s, W = np.linalg.svd(S, full_matrices=False)
    n_seen = _rank(s, S.shape, eps)
    d = n_seen if dim is None else dim
    if n_seen > d:
        raise InputError(
            f"S has rank {n_seen}, more than the {d} dimensions given; give the dimensions of "
            f"the embedding, or leave them out"
        )
    # Rows of length about sqrt(d): the equations then are of the order of one.
    V = W[:n_seen].T * np.sqrt(S.shape[1])
    n_unknowns = n_norms_needed(d)
    solve = _solved if len(V) >= n_norms_needed(n_seen) else _solved_by_gram
    Q, rank, condition = solve(V, eps)
    X = V @ _root(Q)
    return Recovery(
        images=X,
        method="unit norms",
        n_equations=len(V),
        n_unknowns=n_unknowns,
        rank=rank,
        condition=condition,
        residual=_ratio(np.linalg.norm(np.einsum("ij,ij->i", V @ Q, V) - 1), np.sqrt(len(V))),
        norm_error=_norm_error(X),
    )


def n_norms_needed(d: int) -> int:
    """Return how many unit images fix a d-dimensional space without anchors: d (d + 1) / 2."""
    return d * (d + 1) // 2


def _solved(V: Array, eps: float) -> tuple[Array, int, float]:
    """Solve the equations v^T Q v = 1 as they are; return Q, their rank and condition."""
    from scipy.linalg import lstsq

    _require_room(len(V), V.shape[1] * (V.shape[1] + 1) // 2)
    rows, columns = np.triu_indices(V.shape[1])
    # sqrt(2): the unknowns' norm is then that of Q, in which each of these stands twice.
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
    M = V[:, rows] * V[:, columns] * scale
    cond = max(M.shape) * eps
    q, _, rank, s = lstsq(M, np.ones(len(M)), cond=cond, overwrite_a=True, check_finite=False)
    Q = np.zeros((V.shape[1], V.shape[1]))
    Q[rows, columns] = q / scale
    return Q + np.triu(Q, 1).T, int(rank), float(s[0] / s[rank - 1])


def _solved_by_gram(V: Array, eps: float) -> tuple[Array, int, float]:
    """Return the Q of least norm, and rank and condition of fewer equations than unknowns."""
    _require_room(len(V), len(V))
    values, vectors = np.linalg.eigh((V @ V.T) ** 2)
    kept = values > len(V) * eps * values[-1]
    y = (vectors[:, kept] / values[kept]) @ vectors[:, kept].sum(axis=0)
    condition = float(np.sqrt(values[-1] / values[kept][0]))
    return np.asarray((V.T * y) @ V), int(kept.sum()), condition


def _require_room(n_rows: int, n_columns: int) -> None:
    needed = 8 * n_rows * n_columns
    if needed > MOST_BYTES:
        raise InputError(
            f"the unit-norm equations of {n_rows:,} images take {needed / 2**30:,.1f} GiB and "
            f"{MOST_BYTES / 2**30:.0f} are allowed; give fewer images, or recover with anchors"
        )


def _root(Q: Array) -> Array:
    """Return C with C C^T = Q, without the negative part that an undetermined Q may have."""
    values, vectors = np.linalg.eigh(Q)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _rank(s: Array, shape: tuple[int, ...], eps: float) -> int:
    rank = int((s > max(shape) * eps * s[0]).sum())
    if rank == 0:
        raise InputError("all cosines or texts are zero; nothing can be recovered from them")
    return rank


def _epsilon(*arrays: NDArray[Any]) -> float:
    """Return the rounding of the coarsest of some arrays; whole numbers are exact."""
    types = [np.asarray(A).dtype for A in arrays]
    return max(float(np.finfo(t if t.kind == "f" else np.float64).eps) for t in types)


def _matrix(M: NDArray[Any], name: str) -> Array:
    M = np.asarray(M, dtype=np.float64)
    require_finite(M, name)
    if M.ndim != 2 or not M.size:
        raise InputError(
            f"{name} must be a finite matrix with at least one row and column, got shape {M.shape}"
        )
    return M


def _unit(X: Array) -> Array:
    """Return unit rows in float64: `unit_rows` would round them to float32."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms == 0, 1.0, norms))


def _norm_error(X: Array) -> float:
    lengths = np.einsum("ij,ij->i", X, X)
    return float(np.sqrt(np.mean((lengths - 1.0) ** 2)))


def _ratio(a: Any, b: Any) -> float:
    return float(a / b) if b else 0.0


MOST_UNKNOWNS = 3000
"""Largest system that is solved, about 75 dimensions: time grows with its square, n p^2."""
MOST_IMAGES = 2000
"""Largest n for which the rank of too few equations is computed: time grows with n^3."""


@dataclass(frozen=True)
class NormsCheck:
    """Unit-norm equations of a collection against the unknowns of its space."""

    n_images: int
    """Pictures, and so equations."""
    n_needed: int
    """d (d + 1) / 2 unknowns."""
    n_free: int | None
    """Directions left free; at least the missing equations. None if the rank is not known."""
    is_determined: bool | None
    """None if it was not computed."""
    rank: int | None
    """Of the equations, where it was computed."""
    rms: float | None
    """Root mean square of recovered minus true similarity, over all pairs, where determined."""
    n_used: int
    """Pictures whose equations were solved; 0 where the system is too large."""

    @property
    def sentence(self) -> str:
        """What the unit lengths alone fix."""
        counts = f"{self.n_images:,} images for {self.n_needed:,} unknowns"
        head = f"Without anchors (appendix A): {counts}"
        if self.is_determined is None:
            return f"{head}: enough in number; the system is too large to be solved here."
        if self.is_determined:
            return f"{head}: determined, recovered to {self.rms:.1g} (RMS)."
        least = "at least " if self.rank is None else ""
        free = "1 direction is" if self.n_free == 1 else f"{self.n_free:,} directions are"
        return f"{head}: not determined, {least}{free} free."

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values: dict[str, Any] = json_values({**asdict(self), "sentence": self.sentence})
        return values


def check_norms(X: NDArray[Any], T: NDArray[Any], *, seed: int = 0) -> NormsCheck:
    """Check the number of images against d (d + 1) / 2, and recover them where that is feasible.

    Rows of images `X` (n, d) and of texts `T` (n_texts, d) of the same model are normalised here.
    Of more than twice the images needed, a random sample of so many is taken.
    """
    X, T = (unit_rows(M).astype(np.float64) for M in (X, T))
    if X.shape[1] != T.shape[1]:
        raise InputError(
            f"images have {X.shape[1]} dimensions and texts {T.shape[1]}; give the texts of the "
            f"images' model, projected as the images are"
        )
    n, d = X.shape
    needed = n_norms_needed(d)
    if n >= needed and needed > MOST_UNKNOWNS:
        return NormsCheck(n, needed, None, None, None, None, 0)
    if n < needed and n > MOST_IMAGES:
        return NormsCheck(n, needed, needed - n, False, None, None, 0)
    if n > 2 * needed:
        X = X[np.sort(np.random.default_rng(seed).choice(n, 2 * needed, replace=False))]
    return _solved_without_anchors(n, X, T)


def _solved_without_anchors(
    n_images: int, X: NDArray[np.float64], T: NDArray[np.float64]
) -> NormsCheck:
    # Rounding to float32 has left lengths off by 1e-7: the equations speak of length one.
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = recover_without_anchors(T @ X.T, dim=X.shape[1])
    rms = None
    if found.is_determined:
        rms = float(np.sqrt(np.mean((found.similarities() - X @ X.T) ** 2)))
    return NormsCheck(
        n_images=n_images,
        n_needed=n_norms_needed(X.shape[1]),
        n_free=found.n_free,
        is_determined=found.is_determined,
        rank=found.rank,
        rms=rms,
        n_used=len(X),
    )


MAX_IMAGES = 2000
"""Images that the pairs are drawn from, at most: their cosines with all texts are held at once."""

_FIGURES = ("rms", "pearson", "spearman", "length", "condition")


@dataclass(frozen=True, eq=False, repr=False)
class RecoveryCurve:
    """Recovered against true image-image similarities, by number of anchors (section 3.1).

    Every figure has one value a number of anchors and subset; subset s is the beginning of the
    s-th random order of the texts, so subsets are nested along a curve.

    Parameters
    ----------
    sizes : ndarray of shape (n_sizes,), int64
        Numbers of anchors m, ascending.
    rms : ndarray of shape (n_sizes, n_subsets)
        Root mean square of the recovered minus the true similarity over the pairs.
    pearson, spearman : ndarray of shape (n_sizes, n_subsets)
        Correlation of the two over the pairs; NaN where one of them does not vary.
    length : ndarray of shape (n_sizes, n_subsets)
        Mean squared length of the recovered images, whose true length is 1: the part of the
        images that the anchors see.
    condition : ndarray of shape (n_sizes, n_subsets)
        Of the anchors' embeddings.
    rank : ndarray of shape (n_sizes, n_subsets), int64
        Of the anchors' embeddings; `dim` where the similarities are determined.
    dim : int
    spread : float
        Standard deviation of the true similarities over the pairs: what `rms` is to be read
        against.
    n_texts, n_images, n_pairs, seed : int
        Texts in all, images that the pairs were drawn from, pairs, seed of all draws.
    """

    sizes: NDArray[np.int64]
    rms: Array
    pearson: Array
    spearman: Array
    length: Array
    condition: Array
    rank: NDArray[np.int64]
    dim: int
    spread: float
    n_texts: int
    n_images: int
    n_pairs: int
    seed: int

    @property
    def n_free(self) -> NDArray[np.int64]:
        """Most directions that the anchors of a subset leave free, of shape (n_sizes,)."""
        return np.asarray(self.dim - self.rank.min(axis=1))

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary a number of anchors: means, and their errors over the subsets.

        Standard errors are over the draw of the anchors, on the same pairs; None for a single
        subset, and where all texts are taken.
        """
        found = []
        for i, m in enumerate(self.sizes.tolist()):
            row: dict[str, Any] = {"n_anchors": m}
            for name in _FIGURES:
                row[name] = getattr(self, name)[i].mean()
                row[f"{name}_error"] = self._error(name, i)
            n_free = int(self.n_free[i])
            row |= {"rank": int(self.rank[i].min()), "n_free": n_free, "is_determined": not n_free}
            found.append(json_values(row))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        names = ("dim", "spread", "n_texts", "n_images", "n_pairs", "seed")
        values: dict[str, Any] = json_values({name: getattr(self, name) for name in names})
        return {**values, "n_subsets": self.rms.shape[1], "curve": self.rows()}

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a subset and size; needs the extra ``notebook``."""
        n_sizes, n_subsets = self.rms.shape
        figures = {name: getattr(self, name).ravel() for name in (*_FIGURES, "rank")}
        sizes, subsets = (
            np.repeat(self.sizes, n_subsets),
            np.tile(np.arange(n_subsets), n_sizes),
        )
        return data_frame({"n_anchors": sizes, "subset": subsets, **figures})

    def plot(self) -> Plot:
        """Return the error of the recovered similarities by number of anchors."""
        return Plot.of([recovery_plot(self.to_dict())])

    def _error(self, name: str, i: int) -> float | None:
        values = getattr(self, name)[i]
        if len(values) < 2 or self.sizes[i] == self.n_texts:
            return None
        return float(values.std(ddof=1) / np.sqrt(len(values)))

    def _repr_html_(self) -> str:
        rows = [{k: v for k, v in row.items() if v is not None} for row in self.rows()]
        names = ("n_anchors", "rms", "pearson", "spearman", "rank", "n_free")
        return html_table(names, [[row.get(name, "–") for name in names] for row in rows])

    def __repr__(self) -> str:
        """Return counts, and the fewest anchors that determine the similarities."""
        full = self.sizes[self.n_free == 0]
        state = f"determined from {full[0]:,} anchors on" if len(full) else "not determined"
        return (
            f"RecoveryCurve({self.n_images:,} images, {self.n_texts:,} texts of {self.dim} "
            f"dimensions, {state})"
        )


CURVE = "recovery curve"
"""Name of the run's artefact."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RecoveryResults(Results):
    """How well a vector's image-image similarities follow from image-text ones.

    Parameters
    ----------
    vector, texts : str
        The vector, and where the anchors' embeddings come from.
    n_points, n_zero : int
        Points whose vector points somewhere; and those whose vector is zero.
    curve : RecoveryCurve
    without_anchors : NormsCheck
    """

    vector: str
    texts: str
    n_points: int
    n_zero: int
    curve: RecoveryCurve
    without_anchors: NormsCheck

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "collection": self.points.collection,
            "where": self.points.where,
            "labels_from": self.points.labels_from,
            "vector": self.vector,
            "texts": self.texts,
            "n_points": self.n_points,
            "n_zero": self.n_zero,
            **self.curve.to_dict(),
            "without_anchors": self.without_anchors.to_dict(),
            "run_id": self.run_id,
        }

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a subset and size; needs the extra ``notebook``."""
        return self.curve.to_frame()

    def record(self, run: Run) -> None:
        """Record the figures by number of anchors, and the curve."""
        result = self.to_dict()
        for row in result["curve"]:
            for name in ("rms", "pearson", "spearman"):
                run.log_metric(
                    f"recovery {name}, {row['n_anchors']} anchors",
                    row[name],
                    vector=self.vector,
                    interval=_interval(row, name, result["n_subsets"]),
                    n=result["n_pairs"],
                )
        run.save_artefact(CURVE, result)

    def plot(self) -> Plot:
        """Return the error of the recovered similarities by number of anchors."""
        return self.curve.plot()

    def _repr_html_(self) -> str:
        return self.curve._repr_html_()

    def __repr__(self) -> str:
        """Return the vector, where the texts come from, and the curve."""
        return f"RecoveryResults({self.vector!r} from {self.texts!r}, {self.curve!r})"


def _interval(row: Mapping[str, Any], name: str, n_subsets: int) -> tuple[float, float] | None:
    """Return the 95% interval over the draw of the anchors, by Student's t."""
    mean, error = row[name], row[f"{name}_error"]
    if error is None or mean is None:
        return None
    return student_interval(mean, error, n_subsets, NONNEGATIVE if name == "rms" else COSINE)


def recovery_curve(  # noqa: PLR0913  a job has as many knobs as it has
    source: ImageCollection | VectorTable,
    *,
    texts: Texts | Encoder | Floats,
    vector: str | None = None,
    where: Filter | None = None,
    anchors: AnchorSet | None = None,
    projection: Projection | None = None,
    sizes: Sequence[int] = (),
    subsets: int = 5,
    pairs: int = 20_000,
    seed: int = 0,
    run: Run | None = None,
) -> RecoveryResults:
    """Return how well image-image similarities follow from image-text ones, by number of anchors.

    Parameters
    ----------
    source : ImageCollection or VectorTable
    texts : Texts, Encoder or ndarray of shape (n_anchors, d)
        Of the anchors, in the encoder's own space.
    vector : str, optional
        The encoder's own by default.
    where : Filter, optional
        Only points that match take part; see `parse_filter`.
    anchors : AnchorSet, optional
        What an encoder embeds; by default the class names of ImageNet.
    projection : Projection, optional
        The one that made a projected vector.
    sizes : sequence of int
        Numbers of anchors; by default shares of the dimensions, and all.
    subsets : int
        Random orders of the anchors; each gives nested subsets.
    pairs : int
        Of images, drawn.
    seed : int
        Random seed of images, pairs and anchors.
    run : Run, optional
        Records the results.

    Raises
    ------
    ModelError
        If the encoder has no text tower.
    InputError
        If the projection of a projected vector is missing, no point matches, or fewer than two
        points have a vector that is not zero.
    """
    run, place, vector = run or Run(), texts_of(texts), own_vector(source, vector)
    T = _in_space(source, vector, place, anchors or AnchorSet.imagenet(), projection)
    table = read_points(source, [vector], where=where)
    X = _with_length(source, vector, table.vectors[vector])
    found = RecoveryResults(
        points=Points.of(source, table, seed, where),
        run_id=run.id,
        vector=vector,
        texts=place.name,
        n_points=len(X),
        n_zero=len(table) - len(X),
        curve=curve_of(X, T, sizes=sizes or None, n_subsets=subsets, n_pairs=pairs, seed=seed),
        without_anchors=check_norms(X, T, seed=seed),
    )
    log_source(run, source, found.points)
    run.keep(found)
    return found


def _in_space(
    source: ImageCollection | VectorTable,
    vector: str,
    texts: Texts,
    anchors: AnchorSet,
    projection: Projection | None,
) -> Floats:
    """Return the anchors' embeddings in the space of the vector."""
    found = texts.embed(anchors.prompts())
    if found is None:
        raise ModelError(
            f"{texts.name} has no text tower, so there are no image-text similarities; choose a "
            f"collection of a model with one"
        )
    origin = None if isinstance(source, VectorTable) else source.manifest.vectors.get(vector)
    if isinstance(source, VectorTable) or origin is None or not origin.projection:
        return found
    made = projection_of(source, vector, [projection] if projection else [])
    projected = project_texts(found, made)
    if projected is None:
        raise InputError(
            f"vector {vector!r} was made with the images' mean taken off, in which texts "
            f"have no part; measure {source.name}:{origin.source}"
        )
    return projected


def _with_length(source: ImageCollection | VectorTable, vector: str, X: Floats) -> Floats:
    """Return the vectors that point somewhere; a failed encoder may have left zeros."""
    X = X[np.any(X, axis=1)]
    if len(X) < 2:
        name = "the table" if isinstance(source, VectorTable) else f"collection {source.name!r}"
        raise InputError(
            f"{name} has {len(X)} points with a vector "
            f"{vector!r} that is not zero; pairs need at least 2"
        )
    return X


def curve_of(
    X: NDArray[Any],
    T: NDArray[Any],
    *,
    sizes: Sequence[int] | None = None,
    n_subsets: int = 5,
    n_pairs: int = 20_000,
    seed: int = 0,
) -> RecoveryCurve:
    """Measure how well similarities of images `X` (n, d) follow from those with texts `T` (m, d).

    The cosines ``S_inter = X_T X_I^T`` of normalised rows are computed in float64. For every
    number of anchors m, the images are recovered from the rows J of m random texts, ``X_I^T =
    X_T[J]^+ S_inter[J]`` (section 3.1 of arXiv 2603.16100), and ``x_i^T x_j`` of the recovered
    images is compared with that of the true ones, over the same random pairs i != j. Below d
    anchors the recovered image is the part of the true one that lies in the span of the anchors;
    from rank d on it is the image itself. Of more than `MAX_IMAGES` images a random sample is
    taken.
    """
    X, T = _checked(X, "images"), _checked(T, "texts")
    _check_counts(X, T, n_subsets, n_pairs)
    wanted = _sizes(sizes, len(T), T.shape[1])
    rng = np.random.default_rng(seed)
    if len(X) > MAX_IMAGES:
        X = X[np.sort(rng.choice(len(X), MAX_IMAGES, replace=False))]
    pairs = draw_any(n_pairs, len(X), rng)
    truth = np.einsum("ij,ij->i", X[pairs[0]], X[pairs[1]])
    S = T @ X.T
    shape = (len(wanted), n_subsets)
    figures: dict[str, Array] = {name: np.empty(shape) for name in (*_FIGURES, "rank")}
    with progress(len(wanted) * n_subsets, "recover images from texts", unit="subsets") as bar:
        for subset in range(n_subsets):
            order = rng.permutation(len(T))
            for i, m in enumerate(wanted):
                rows = order[:m]
                found = _figures(recover_with_anchors(S[rows], T[rows]), pairs, truth)
                for name, value in found.items():
                    figures[name][i, subset] = value
                bar.update(1)
    rank = figures.pop("rank").astype(np.int64)
    return RecoveryCurve(
        sizes=np.array(wanted, dtype=np.int64),
        **figures,
        rank=rank,
        dim=T.shape[1],
        spread=float(truth.std()),
        n_texts=len(T),
        n_images=len(X),
        n_pairs=n_pairs,
        seed=seed,
    )


def _figures(
    found: Recovery, pairs: tuple[NDArray[np.int64], NDArray[np.int64]], truth: Array
) -> dict[str, float]:
    from scipy.stats import rankdata

    X = found.images
    similarities = np.einsum("ij,ij->i", X[pairs[0]], X[pairs[1]])
    return {
        "rms": float(np.sqrt(np.mean((similarities - truth) ** 2))),
        "pearson": _correlation(similarities, truth),
        "spearman": _correlation(rankdata(similarities), rankdata(truth)),
        "length": float(np.einsum("ij,ij->i", X, X).mean()),
        "condition": found.condition,
        "rank": found.rank,
    }


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _sizes(sizes: Sequence[int] | None, n_texts: int, d: int) -> list[int]:
    """Return the numbers of anchors, ascending; by default shares of d, and all texts."""
    if sizes is None:
        sizes = [
            max(1, round(d * s)) for s in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2)
        ]
        sizes = [m for m in sizes if m < n_texts] + [n_texts]
    wanted = sorted({int(m) for m in sizes})
    if not wanted or wanted[0] < 1 or wanted[-1] > n_texts:
        raise InputError(
            f"numbers of anchors lie between 1 and the {n_texts:,} texts, got "
            f"{', '.join(map(str, wanted)) or 'none'}"
        )
    return wanted


def _checked(X: NDArray[Any], what: str) -> Array:
    X = np.asarray(X, dtype=np.float64)
    require_finite(X, f"the {what}")
    if X.ndim != 2 or not X.size:
        raise InputError(f"{what} must be a finite matrix, one row each, got shape {X.shape}")
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"row {int(np.argmin(norms))} of the {what} is zero; leave it out")
    return np.asarray(X / norms)


def _check_counts(X: Array, T: Array, n_subsets: int, n_pairs: int) -> None:
    if X.shape[1] != T.shape[1]:
        raise InputError(
            f"images have {X.shape[1]} dimensions and texts {T.shape[1]}; give the texts of the "
            f"images' model, projected as the images are"
        )
    if len(X) < 2 or n_subsets < 1 or n_pairs < 2:
        raise InputError(
            f"at least 2 images, 1 subset and 2 pairs are needed, got {len(X)}, {n_subsets} and "
            f"{n_pairs}"
        )
