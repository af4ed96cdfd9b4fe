"""One-file HTML reports, plots, tables."""
