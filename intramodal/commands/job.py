"""A command whose options have the defaults of its job: each is written once, in the job."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import click


class JobCommand(click.Command):
    """A command that calls one job.

    Parameters
    ----------
    job : str
        Module below ``intramodal`` and function: ``"evaluation.retrieval:evaluate_retrieval"``. It
        is imported when the command runs or shows its help, not before.
    settings : str, optional
        A value that the job takes, some of whose fields are options, too: module and class.
    renamed : mapping of str to str, optional
        Parameters of the job whose options have another name: ``{"timed": "n_timed"}``.
    """

    def __init__(
        self,
        *arguments: Any,
        job: str,
        settings: str | None = None,
        renamed: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.job = job
        self.settings = settings
        self.renamed = renamed or {}
        self._is_filled = False

    @property
    def knobs(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the job and of its settings."""
        of_settings = _parameters(self.settings) if self.settings else {}
        return {**of_settings, **_parameters(self.job)}

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters; options without a default of their own have that of the job."""
        if not self._is_filled:
            self._is_filled = True
            knobs = self.knobs
            for option in self.params:
                name = self.renamed.get(str(option.name), str(option.name))
                if isinstance(option, click.Option) and name in knobs:
                    _fill(option, knobs[name].default)
        return super().get_params(ctx)


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(f"intramodal.{module}"), function)
    return inspect.signature(found).parameters


def _fill(option: click.Option, default: Any) -> None:
    is_unset = default is None or default is False or default is inspect.Parameter.empty
    if is_unset or default == () or option.multiple:
        return
    is_list = isinstance(default, tuple | list)
    option.default = ",".join(map(str, default)) if is_list else default
    option.show_default = True
