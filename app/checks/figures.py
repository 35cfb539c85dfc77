"""What the checks find, as a figure for Prometheus: so that an alert can be had for each of them."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from app.checks import looks
from app.checks.finding import Severity
from app.core.settings import get_settings


def measure() -> Iterator[Metric]:
    """The worst that each check found: 0 is good, 1 a note, 2 a warning, 3 broken."""
    worst: dict[str, Severity] = {}
    for finding in looks.recent(get_settings()):
        worst[finding.what] = max(finding.severity, worst.get(finding.what, Severity.OK))
    family = GaugeMetricFamily(
        "smsfleet_check_severity", "What the doctor finds: 0 good, 1 a note, 2 a warning, 3 broken", labels=["check"]
    )
    for check, severity in sorted(worst.items()):
        family.add_metric([check], float(severity))
    yield family
