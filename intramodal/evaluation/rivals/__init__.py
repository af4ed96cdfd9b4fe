"""Rival methods, one form each."""
