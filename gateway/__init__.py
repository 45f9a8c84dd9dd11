"""Tollgate: an LLM gateway. The package knows its version here, and nothing else."""

__version__ = "0.1.0"
