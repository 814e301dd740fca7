"""Secrets planted wherever a person, a provider or a developer can put text, and their search."""
