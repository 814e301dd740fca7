"""The boards' library warns, as it is imported, of a newer schema of boards. Grafana 12.3 takes
that one from no file, so the warning is heard here, where it fails no test.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Prefer using dashboardv2", DeprecationWarning)
    import dashboards.board  # noqa: F401
