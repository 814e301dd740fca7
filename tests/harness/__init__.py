"""Pytest plugins of this test suite: layers, limits, distribution, failures and timing."""
