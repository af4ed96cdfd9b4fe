"""What is declared: found by its folder, named like its file, complete."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intramodal import paper
from intramodal.evaluation.fewshot_text import METHODS
from intramodal.model_names import parse_name
from intramodal.paper import methods as methods_package
from intramodal.paper.base import DataSet, Method, Model, Table, chosen, declared
from intramodal.paper.layouts import Choice
from intramodal.projection.recipes import RECIPES
from tests.paper.test_methods import case_of, cosines, fitted, unit

FOLDER = Path(paper.__file__).parent
KINDS = {"datasets": DataSet, "models": Model, "methods": Method, "tables": Table}


@pytest.mark.parametrize("folder", KINDS)
def test_every_file_declares_one_thing_named_like_it(folder: str) -> None:
    files = {path.stem for path in (FOLDER / folder).glob("*.py")} - {"__init__"}
    assert set(declared(folder, KINDS[folder])) == files


def test_tables_name_what_is_declared_and_a_recipe_of_the_authors() -> None:
    for table in declared("tables", Table).values():
        chosen("datasets", DataSet, table.datasets)
        chosen("models", Model, table.models)
        chosen("methods", Method, table.methods)
        assert table.recipe in RECIPES


def test_models_of_the_hub_are_pinned_and_all_names_can_be_loaded() -> None:
    for model in declared("models", Model).values():
        name = parse_name(model.encoder)
        if name.source == "hf":
            assert re.search(r"@[0-9a-f]{40}$", model.encoder), model.name
        assert model.licence


def test_a_model_behind_a_licence_says_so() -> None:
    for model in declared("models", Model).values():
        assert ("accept" in model.condition) == model.name.startswith("dinov3")


def test_few_shot_methods_are_those_of_the_library() -> None:
    found = {m.classifier for m in declared("methods", Method).values() if m.classifier}
    assert found < set(METHODS)


def test_published_figures_add_up_to_the_published_averages() -> None:
    (table,) = chosen("tables", Table, ["table3"])
    choice = Choice(
        chosen("datasets", DataSet, table.datasets),
        chosen("models", Model, table.models),
        chosen("methods", Method, table.methods),
    )
    (layout,) = table.layouts(choice)
    last = len(layout.column_heads) - 1
    for row in range(len(layout.row_heads)):
        printed = [layout.entries[row, column].published for column in range(last)]
        average = layout.entries[row, last].published
        if average is not None:
            # Thirteen figures with one decimal each, and their mean with one.
            assert sum(float(p or 0) for p in printed) / last == pytest.approx(average, abs=0.11)


@pytest.fixture
def new_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Save the example of CONTRIBUTING.md as it says."""
    page = (FOLDER.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "first_64.py").write_text(example, encoding="utf-8")
    monkeypatch.setattr(methods_package, "__path__", [*methods_package.__path__, str(tmp_path)])
    yield "first_64"
    sys.modules.pop("intramodal.paper.methods.first_64", None)


def test_a_new_method_is_one_file(new_method: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10, 200)).astype(np.float32)
    case = case_of(X, ["a", "b"] * 5, fitted(rng.normal(size=(300, 200))))
    U = unit(X)[:, :64]
    expected = unit(U) @ unit(U).T
    np.testing.assert_allclose(cosines(case, new_method), expected, atol=1e-6)
