"""The packages that the application is made of, a line each: what it serves, and what else has to know of it.

Read by `main` (routers), `migrations.tables` (models), `workers.app` (tasks), `cli` (commands), `docs` (tags)
and `accounts.ownership` (disarming).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Package:
    """`app.<name>`; `tag` and `about` are of its part of the API's documents.

    `routes`: the modules that have a `router` each. `tasks`: the module of its Celery tasks. `commands`: groups of the
    `smsfleet` command and their help; the module `commands` has a `<group>_app` for each. `disarming`: the module whose
    `disarm(session, user_id)` ends what acts for an account.
    """

    name: str
    tag: str = ""
    about: str = ""
    routes: Sequence[str] = ("routes",)
    models: bool = True
    tasks: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)
    disarming: str = ""


# In the order of the documents.
PACKAGES = (
    Package("messages", "SMS", "Send messages, track their status, read the inbox.", tasks="workers.dispatch"),
    Package(
        "campaigns",
        "Campaigns",
        "Messages to many, prepared, watched, paused and stopped.",
        routes=("routes", "recipient_routes"),
        tasks="workers.campaigns",
    ),
    Package("contacts", "Contacts", "Contacts and groups, as recipients of bulk sends."),
    Package("optouts", "Opt-outs", "Numbers that do not want your messages, and the words by which they say so."),
    Package("devices", "Devices", "Your phones: pace, limits, and which one sends by default.", disarming="ownership"),
    Package(
        "webhooks",
        "Webhooks",
        "URLs notified about messages, and every delivery.",
        tasks="workers.webhooks",
        disarming="urls",
    ),
    Package(
        "accounts",
        "Accounts",
        "Signing in, API keys, figures, settings and plan.",
        commands={
            "user": "Users: create, list, delete, set a password, add premium.",
            "promo": "Promo codes: create and list.",
        },
    ),
    Package(
        "releases",
        "App updates",
        "Where the phone app looks for new versions. No token is needed.",
        commands={"release": "Versions of the phone app: publish, list, withdraw."},
    ),
    Package(
        "core", "Health", "For process managers and load balancers.", ("health",), models=False, tasks="workers.upkeep"
    ),
    Package("mobile", "Phones", "Calls of the phone app. Programs that send messages do not need them.", models=False),
    Package("docs", models=False),
    Package("web", models=False),
)
