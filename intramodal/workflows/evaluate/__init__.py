"""Evaluate the vectors of a collection: retrieval, few-shot, misalignment, recovery."""
