"""Checks the pinned packages and components for known vulnerabilities, for `make audit`."""
