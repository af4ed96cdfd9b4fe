"""What is measured in one cell: each experiment's figures, by the library's own jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from intramodal.errors import InputError, ModelError
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.fewshot_text import BY_IMAGES, PAPER_METHODS, evaluate_fewshot_text
from intramodal.evaluation.labels import labels_of
from intramodal.evaluation.misalignment import measure_misalignment
from intramodal.evaluation.recovery import recovery_curve
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.rivals.class_texts import ClassTexts
from intramodal.evaluation.rivals.tuning import DEFAULT_PRESET, PAPER_PRESET, TIP_ADAPTER
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.ingest.augmentation import augmented
from intramodal.paper.base import Case, Method
from intramodal.paper.difficulties import by_difficulty
from intramodal.paper.methods.original import DECLARED as ORIGINAL
from intramodal.projection.anchors import AnchorSet
from intramodal.runs.run import Run
from intramodal.types import Floats, VectorTable

Figures = Mapping[str, float | None]

SHOTS = (1, 2, 4, 8, 16)
"""Of table 2 and figure 6."""

TEST_SHARE = 0.2
"""Of each class, tested where a data set has no test split."""

ANCHOR_SHARES = (0.5, 0.75, 1.0)
"""Numbers of text anchors that images are recovered from, as shares of the dimensions."""


@dataclass(frozen=True)
class Measured:
    """What a cell found.

    Parameters
    ----------
    figures : mapping of str to float or None
        Fractions; None where too few images were there.
    extra : mapping
        JSON values that a page draws, such as histograms.
    """

    figures: Figures
    extra: Mapping[str, Any] = field(default_factory=dict)


Experiment = Callable[[Case, Method, Run], Measured]


def seen_by(case: Case, method: Method, name: str) -> dict[str, Floats]:
    """Return the images (n, k) as a method compares them, under a name.

    With augmented views these, too, under the name that theirs have.
    """
    if method.needs_text and not case.model.has_text:
        raise ModelError(
            f"{case.model.title} has no text tower, and {method.title} needs one; leave the "
            f"method or the model out"
        )
    views = {name: case.table.unit(case.vector)}
    if case.augmented is not None:
        views[augmented(name)] = case.table.unit(case.augmented)
    if method.project is None:
        return views
    projection = method.project(case)
    return {view: projection.apply_to_unit(X) for view, X in views.items()}


def _shots_from(case: Case, *names: str) -> dict[str, str]:
    return {name: augmented(name) for name in names} if case.augmented else {}


def retrieval(case: Case, method: Method, run: Run) -> Measured:
    """Return the mAP of each field over the full ranking (paper, table 3).

    Of the revisited protocol that of medium, with easy and hard apart.
    """
    if method.retrieve is not None:
        return Measured(method.retrieve(case, run))
    images = replace(case.table, vectors=seen_by(case, method, method.name))
    if case.dataset.protocol == "revisited":
        return Measured(by_difficulty(case, images, method.name, run))
    found = evaluate_retrieval(
        images,
        vectors=[method.name],
        fields=case.dataset.fields,
        sides=case.dataset.sides,
        # A class of one image has no query, but it stays in the gallery.
        min_class_size=1,
        run=run,
    )
    return Measured({case.dataset.figure("mAP", one.field): one.map for one in found})


def few_shot(case: Case, method: Method, run: Run) -> Measured:
    """Return accuracies without text, by classifier and number of shots (paper, table 2).

    By the protocol of the authors' code; without a test split a share of the images is tested.
    """
    has_sides = case.dataset.protocol == "query-gallery"
    found = evaluate_fewshot(
        replace(case.table, vectors=seen_by(case, method, method.name)),
        vectors=[method.name],
        fields=case.dataset.fields,
        sides=case.dataset.sides if has_sides else None,
        test_share=None if has_sides else TEST_SHARE,
        protocol="paper",
        shots_from=_shots_from(case, method.name),
        shots=SHOTS,
        min_class_size=1,
        run=run,
    )
    return _by_shots(case, found)


def few_shot_text(case: Case, method: Method, run: Run) -> Measured:
    """Return accuracies of one method that knows the class names (paper, figure 6).

    What the authors' code mixes with texts half and half is not tuned; the rivals are, on
    validation images, over the ranges that they publish.
    """
    if method.classifier is None:
        raise InputError(f"{method.name} is no few-shot method with text; choose one that is")
    how = _by_images(case, method) if method.classifier in BY_IMAGES else _all(case, method)
    found = evaluate_fewshot_text(
        fields=case.dataset.fields,
        sides=case.dataset.sides,
        methods=[method.classifier],
        shots=SHOTS,
        preset=PAPER_PRESET if method.classifier in PAPER_METHODS else _preset(case),
        min_class_size=1,
        run=run,
        **how,
    )
    return _by_shots(case, found)


def _by_images(case: Case, method: Method) -> dict[str, Any]:
    """Return the vectors of a classifier that compares projected images beside whole texts."""
    projection = None if method.project is None else method.project(case)
    by = case.vector if projection is None else projection.default_vector
    # Texts are compared with the images as they are, so that these take part in any case.
    vectors = seen_by(case, ORIGINAL, case.vector) | seen_by(case, method, by)
    return {
        "source": replace(case.table, vectors=vectors),
        "texts": _class_texts(case, case.table),
        "vector": case.vector,
        "by": [by],
        "projections": () if projection is None else [projection],
        "shots_from": _shots_from(case, case.vector, by),
    }


def _all(case: Case, method: Method) -> dict[str, Any]:
    """Return the vectors of a classifier whose images and texts are both projected."""
    texts = _class_texts(case, case.table)
    if method.project is not None:
        projected = method.project(case).apply_to_texts(texts.W)
        texts = ClassTexts.from_arrays(texts.names, projected)
    return {
        "source": replace(case.table, vectors=seen_by(case, method, method.name)),
        "texts": texts,
        "vector": method.name,
        "shots_from": _shots_from(case, method.name),
    }


def _preset(case: Case) -> str:
    """Return whose published ranges are searched: those of the data set, if there are any."""
    name = case.dataset.name.replace("fgvc_aircraft", "fgvc")
    return name if name in TIP_ADAPTER else DEFAULT_PRESET


def _by_shots(case: Case, found: Any) -> Measured:
    figures = {
        case.dataset.figure(f"{one.classifier}@{shots}", one.field): _finite(one.mean[at])
        for one in found
        for at, shots in enumerate(one.shots)
    }
    return Measured(figures)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _class_texts(case: Case, table: VectorTable) -> ClassTexts:
    names = {str(name) for of in case.dataset.fields for name in labels_of(table, of).names}
    return ClassTexts.encode(case.encoder, sorted(names), templates=(case.dataset.template,))


def class_names(case: Case, method: Method, run: Run) -> Measured:
    """Return how texts of the classes find and classify the images (paper, table 1).

    "mAP": the text of each class queries all images; "zero-shot": each image goes to the class
    whose text is nearest.
    """
    found = evaluate_text_retrieval(
        case.table,
        texts=case.encoder,
        vector=case.vector,
        fields=case.dataset.fields,
        template=case.dataset.template,
        run=run,
    )
    figures: dict[str, float | None] = {
        case.dataset.figure("mAP", one.field): one.map for one in found
    }
    for of in case.dataset.fields:
        figures[case.dataset.figure("zero-shot", of)] = _zero_shot(case, of)
    return Measured(figures)


def _zero_shot(case: Case, of: str) -> float:
    codes = labels_of(case.table, of)
    prompts = AnchorSet(tuple(codes.names), case.dataset.template).prompts()
    texts = ClassTexts.from_arrays(codes.names, case.encoder.encode_texts(prompts))
    X = case.table.unit(case.vector)[codes.rows]
    return float(np.mean((X @ texts.W.T).argmax(axis=1) == codes.codes))


def misalignment(case: Case, method: Method, run: Run) -> Measured:
    """Return the indicators said to show misalignment, with their histograms (figures 2 and 5)."""
    is_projected = method.name != "original"
    found = measure_misalignment(
        case.collection,
        vectors=[case.vector],
        fields=case.dataset.fields,
        texts=case.encoder if case.model.has_text else None,
        template=case.dataset.template,
        projections=[case.projection] if is_projected else [],
        run=run,
    )
    kind = "projected" if is_projected else "stored"
    rows = {row["field"]: row for row in found if row["view"] == kind}
    figures: dict[str, float | None] = {}
    for of, row in rows.items():
        beside = row["modality"] or {}
        values = {
            "mAP": row["map"],
            **{name: row[name] for name in ("overlap", "auc", "same_mean", "other_mean")},
            "modality overlap": beside.get("overlap"),
            "modality gap": beside.get("gap"),
        }
        figures |= {case.dataset.figure(name, of): value for name, value in values.items()}
    return Measured(figures, {"rows": list(rows.values())})


def recovery(case: Case, method: Method, run: Run) -> Measured:
    """Return the error of image-image cosines recovered from image-text ones (section 3.1).

    "rms@S" is the root mean square error from S times as many text anchors as dimensions, and
    "rms@none" without anchors (appendix A), where enough images are there.
    """
    d = case.table.vectors[case.vector].shape[1]
    most = len(AnchorSet.imagenet().names)
    sizes = {share: round(share * d) for share in ANCHOR_SHARES if round(share * d) <= most}
    found = recovery_curve(
        case.table,
        texts=case.encoder,
        vector=case.vector,
        sizes=sorted(set(sizes.values())),
        run=run,
    ).to_dict()
    by_size = {row["n_anchors"]: row["rms"] for row in found["curve"]}
    figures = {f"rms@{share:g}": by_size.get(sizes.get(share)) for share in ANCHOR_SHARES}
    figures["rms@none"] = found["without_anchors"]["rms"]
    return Measured(figures, found)


EXPERIMENTS: dict[str, Experiment] = {
    "retrieval": retrieval,
    "few-shot": few_shot,
    "few-shot-text": few_shot_text,
    "class-names": class_names,
    "misalignment": misalignment,
    "recovery": recovery,
}
"""By name, as cells name them."""
