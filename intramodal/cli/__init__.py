"""The command line: each command parses, calls one workflow, prints.

Command modules import click only; workflows are imported when a command runs, so that
``intramodal --help`` loads neither torch nor scikit-learn nor qdrant_client.
"""

from intramodal.cli.group import cli, main

__all__ = ["cli", "main"]
