"""Pytest plugins of this test suite: layers, time limits, crashes, builds and the summary."""
