"""The paper's tables and figures as declarations, and what reproduces them.

A data set, a model, a method and a table is one file each, found by its folder.
"""
