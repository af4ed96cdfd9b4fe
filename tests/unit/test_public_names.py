from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import intramodal
from tests.cli.test_jobs import JOBS

HEAVY = {
    "torch", "open_clip", "transformers", "sklearn", "scipy", "numba", "jinja2",
    "qdrant_client", "qdrant_edge", "sqlalchemy", "numpy",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"import sys\n{code}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_public_names_are_sorted_and_all_of_them_load() -> None:
    assert intramodal.__all__ == sorted(intramodal.__all__)
    for name in intramodal.__all__:
        assert getattr(intramodal, name) is not None
        assert name in dir(intramodal)


def test_a_reader_who_lists_the_package_sees_public_names_only() -> None:
    for name in intramodal.__all__:
        getattr(intramodal, name)  # which binds modules of the package
    assert dir(intramodal) == intramodal.__all__


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No intramodal attribute nothing"):
        _ = intramodal.nothing


def test_importing_the_package_loads_no_library() -> None:
    assert not loaded_by("import intramodal") & HEAVY


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("from intramodal import Projection, AnchorSet", {"numpy"}),
        ("from intramodal import load_encoder", {"numpy"}),
        ("from intramodal import open_store, ImageCollection", {"numpy"}),
        ("from intramodal.runs.run import Run", set()),
    ],
    ids=["projection", "encoder", "store", "runs"],
)
def test_each_job_loads_only_what_it_needs(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) & HEAVY <= allowed


def test_no_public_name_is_that_of_a_folder_or_module() -> None:
    # `from intramodal import x` would give one or the other, by what was imported before.
    folder = Path(intramodal.__file__).parent
    taken = {path.stem for path in folder.iterdir()}
    assert taken.isdisjoint(intramodal.__all__)


def test_type_checkers_see_the_same_public_names_as_python() -> None:
    stub = Path(intramodal.__file__).with_suffix(".pyi")
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    typed = {alias.asname for node in imports for alias in node.names}
    assert typed == set(intramodal.__all__)


def test_every_job_of_a_command_is_public() -> None:
    assert {job.job.partition(":")[2] for job in JOBS.values()} <= set(intramodal.__all__)
