"""Observability for Python LLM services."""
