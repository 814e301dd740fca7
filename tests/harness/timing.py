"""The end of the report: the time of each layer and the slowest tests."""

from collections import defaultdict

import pytest

from tests.harness.layers import layer_of

SLOWEST = 20


class Timing:
    """Sums the times of the test reports."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        self._seconds[test] += report.duration
        # A crashed worker reports no times.
        if start := getattr(report, "start", 0.0):
            layer = layer_of(test).name
            self._first[layer] = min(start, self._first.get(layer, start))
            self._last[layer] = max(report.stop, self._last.get(layer, 0.0))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        layers: dict[str, list[float]] = defaultdict(list)
        for test, seconds in self._seconds.items():
            layers[layer_of(test).name].append(seconds)
        terminalreporter.section("time of each layer")
        terminalreporter.write_line(
            f"{'layer':12}{'tests':>7}{'from first to last':>22}{'sum':>12}"
        )
        for layer, times in layers.items():
            wall = self._last.get(layer, 0.0) - self._first.get(layer, 0.0)
            terminalreporter.write_line(
                f"{layer:12}{len(times):7}{wall:20.1f} s{sum(times):10.1f} s"
            )
        terminalreporter.section(f"{SLOWEST} slowest tests")
        slowest = sorted(self._seconds.items(), key=lambda pair: -pair[1])[:SLOWEST]
        for test, seconds in slowest:
            terminalreporter.write_line(f"{seconds:8.2f} s  {test}")


def pytest_configure(config: pytest.Config) -> None:
    # Not for a few tests in one process.
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Timing())
