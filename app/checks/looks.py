"""Every check that any process of an installation can make."""

from app.checks import broker, database, machine
from app.checks.finding import Findings
from app.core.settings import Settings


def examine(settings: Settings) -> Findings:
    """Look at the database, the broker, the workers and the machine."""
    for look in (database.look, broker.look, machine.look):
        yield from look(settings)
