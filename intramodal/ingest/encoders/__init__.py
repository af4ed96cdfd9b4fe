"""Encoders by name; the libraries behind them are imported when a model is loaded."""
