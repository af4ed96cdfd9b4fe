"""Exact metrics, few-shot accuracy, misalignment and the verdict."""
