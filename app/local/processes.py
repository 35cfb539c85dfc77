"""What `smsfleet doctor` says of an installation that runs here: who can reach it, and its processes."""

from app.checks.finding import Finding, Findings, broken, note, ok
from app.core import exposure
from app.core.links import why_no_phone_reaches
from app.core.settings import Settings
from app.local.exposure import address_for_phones
from app.local.folder import Recorded, Runtime, process_state
from app.local.installation import answers


def reach(settings: Settings) -> Findings:
    say = note if settings.registration == "open" and not settings.is_local else ok
    yield say("registration", exposure.registration(settings))
    say = note if exposure.reaches_loopback(settings) and not settings.is_local else ok
    yield say("webhooks", exposure.webhook_reach(settings))
    url = address_for_phones(settings)
    trouble = why_no_phone_reaches(url)
    yield note("address for phones", trouble) if trouble else ok("address for phones", url)


def processes(runtime: Runtime) -> Findings:
    """Of an installation that runs here."""
    if answers(runtime.url + "/health/live"):
        yield ok("gateway", runtime.url)
    else:
        yield broken("gateway", f"{runtime.url} does not answer", "see the log of api-1, or restart smsfleet")
    for process in runtime.processes:
        yield _process(process)


def _process(process: Recorded) -> Finding:
    state = process_state(process.pid)
    if not process.runs:
        return broken(process.name, "is not running", "the log says why it ended; it is started again and again")
    if state == "T":
        advice = f"it is ended and started again within seconds; `kill -CONT {process.pid}` lets it go on"
        return broken(process.name, f"process {process.pid} is stopped", advice)
    return ok(process.name, f"process {process.pid}")
