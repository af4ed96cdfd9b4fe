"""A command whose options have the defaults of its job: each is written once, in the job."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
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
        What makes a value that the job takes: module and class or function; its parameters are
        options, too.
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
    def function(self) -> Callable[..., Any]:
        """The job."""
        return _function(self.job)

    @property
    def knobs(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the job, and what makes one of its values where that says more."""
        of_settings = _parameters(self.settings) if self.settings else {}
        of_job = _parameters(self.job)
        unset = {name for name in of_job if of_job[name].default is None}
        return {
            **of_job,
            **{n: p for n, p in of_settings.items() if n not in of_job or n in unset},
        }

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


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"intramodal.{module}"), function)
    return found


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_function(name)).parameters


def _fill(option: click.Option, default: Any) -> None:
    is_unset = default is None or default is False or default is inspect.Parameter.empty
    if is_unset or default == () or option.multiple:
        return
    is_list = isinstance(default, tuple | list)
    option.default = ",".join(map(str, default)) if is_list else default
    option.show_default = True
