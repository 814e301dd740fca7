"""References to the datasources, by the UIDs of grafana-provisioning/datasources."""

from typing import Final

from grafana_foundation_sdk.models.common import DataSourceRef

PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI: Final = DataSourceRef(type_val="loki", uid="loki")
TEMPO: Final = DataSourceRef(type_val="tempo", uid="tempo")
ALERTMANAGER: Final = DataSourceRef(type_val="alertmanager", uid="alertmanager")

UIDS: Final = frozenset(str(ref.uid) for ref in (PROMETHEUS, LOKI, TEMPO, ALERTMANAGER))
