"""Figure 6: few-shot classification with text."""

from __future__ import annotations

from collections.abc import Sequence

from intramodal.paper.base import Choice, Layout, Method, Table
from intramodal.paper.experiments import SHOTS
from intramodal.paper.layouts import by_dataset, by_shots
from intramodal.paper.tables.table2 import DATASETS

PUBLISHED = {
    (1, "prototype_text"): {"caltech101": 79.45, "food101": 52.86},
    (1, "prototype_text_pca"): {"caltech101": 81.56, "food101": 56.39},
}
"""What the authors' notebooks print for CLIP RN50, by shots and method."""


def _layouts(choice: Choice) -> Sequence[Layout]:
    means = by_shots(
        choice,
        title="Few-shot classification with text",
        experiment="few-shot-text",
        shots=SHOTS,
        classifiers=_classifiers,
        published={},
        caption=f"Accuracy in percent, mean over {len(choice.datasets)} data sets.",
    )
    return [means, *(_details(choice, method, n) for method in choice.methods for n in (1, 16))]


def _details(choice: Choice, method: Method, shots: int) -> Layout:
    """Return one method at one number of shots, by data set: what the authors print."""
    printed = PUBLISHED.get((shots, method.name), {})
    return by_dataset(
        Choice(choice.datasets, choice.models, (method,)),
        title=f"{method.title}, {shots} shot{'s' if shots > 1 else ''}, by data set",
        experiment="few-shot-text",
        metric=f"{method.classifier}@{shots}",
        published={("clip_rn50", method.name): printed},
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
