"""Figure 6: few-shot classification with text."""

from __future__ import annotations

from collections.abc import Sequence

from intramodal.paper.base import Choice, Layout, Method, Table
from intramodal.paper.experiments import SHOTS
from intramodal.paper.layouts import by_dataset, by_shots
from intramodal.paper.tables.table2 import DATASETS

PUBLISHED = {
    1: {
        ("clip_rn50", "prototype_text"): {"caltech101": 79.45, "food101": 52.86},
        ("clip_rn50", "prototype_text_pca"): {"caltech101": 81.56, "food101": 56.39},
    }
}
"""What the authors' notebooks print, by shots, model and method."""


def _layouts(choice: Choice) -> Sequence[Layout]:
    means = by_shots(
        choice,
        title="Few-shot classification with text",
        experiment="few-shot-text",
        shots=SHOTS,
        classifiers=_classifiers,
        published={},
        has_own=True,
    )
    return [means, *(_details(choice, shots) for shots in (SHOTS[0], SHOTS[-1]))]


def _details(choice: Choice, shots: int) -> Layout:
    """Return the accuracies at one number of shots by data set: what the authors print."""
    return by_dataset(
        choice,
        title=f"{shots} shot{'s' if shots > 1 else ''}, by data set",
        experiment="few-shot-text",
        metric=lambda method: f"{method.classifier}@{shots}",
        published=PUBLISHED.get(shots, {}),
        caption="Accuracy in percent.",
    )


def _classifiers(method: Method) -> dict[str, str]:
    return {str(method.classifier): method.title} if method.classifier else {}


DECLARED = Table(
    name="figure6",
    title="Figure 6: few-shot classification with text",
    about="Methods that avoid comparing images, and simple ones that do not; CLIP RN50.",
    datasets=DATASETS,
    models=("clip_rn50",),
    methods=(
        *("zero_shot", "tip_adapter", "tip_x", "coder", "ape", "lda_text"),
        *("prototype_text", "prototype_text_pca", "lda_text_pca"),
    ),
    recipe="paper-fewshot",
    layouts=_layouts,
)
