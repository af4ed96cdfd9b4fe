"""One file a command: each parses, calls its job, prints.

Command modules import click only; the rest is imported when a command runs, so that
``intramodal --help`` loads neither torch nor scikit-learn nor qdrant_client.
"""
