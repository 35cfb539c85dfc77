"""The packages that the application is made of, a line each: what it serves, and what else has to know of it.

Read by `main` (routers, large bodies, heavy calls), `migrations.tables` (models), `workers.app` (tasks), `cli`
(commands), `docs` (tags) and `accounts.ownership` (disarming).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Package:
    """`app.<name>`; `tag` and `about` are of its part of the API's documents.

    `routes`: the modules that have a `router` each. `tasks`: the module of its Celery tasks. `commands`: groups of the
    `smsfleet` command and their help; the module `commands` has a `<group>_app` for each. `disarming`: the module whose
    `disarm(session, user_id)` ends what acts for an account.

    As regular expressions: `large` and `files`, the paths that take large bodies, or files too (`core.edge`); `heavy`,
    with their methods, the calls that run in threads of their own (`core.heavy`).
    """

    name: str
    tag: str = ""
    about: str = ""
    routes: Sequence[str] = ("routes",)
    models: bool = True
    tasks: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)
    disarming: str = ""
    large: str = ""
    files: str = ""
    heavy: str = ""


# In the order of the documents.
PACKAGES = (
    Package(
        "messages",
        "SMS",
        "Send messages, track their status, read the inbox.",
        tasks="workers.dispatch",
        large="/api/sms/bulk",
        heavy="POST /api/sms/bulk",
    ),
    Package(
        "campaigns",
        "Campaigns",
        "Messages to many, prepared, watched, paused and stopped.",
        routes=("routes", "recipient_routes"),
        tasks="workers.campaigns",
        files="(/api)?/campaigns/[^/]+/recipients",
        # A POST may stand for the PUT.
        heavy="((PUT|POST|GET) (/api)?/campaigns/[^/]+/recipients|POST (/api)?/campaigns/[^/]+/dry-run"
        "|GET (/api)?/campaigns/[^/]+/left-out)",
    ),
    Package(
        "contacts",
        "Contacts",
        "Contacts and groups, as recipients of bulk sends.",
        files="(/api)?/contacts/import",
        heavy="(POST (/api)?/contacts/import|GET (/api)?/contacts/export)",
    ),
    Package(
        "optouts",
        "Opt-outs",
        "Numbers that do not want your messages, and the words by which they say so.",
        disarming="settings",
        files="(/api)?/opt-outs/import",
        heavy="(POST (/api)?/opt-outs/import|GET (/api)?/opt-outs/export)",
    ),
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
            "audit": "The audit log: who did what, when and from where.",
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
    Package("web", models=False, heavy="(POST /send|GET /messages/export)"),
)


def any_of(patterns: str) -> re.Pattern[str]:
    """What fits one of the packages' patterns of this name."""
    return re.compile("|".join(found for package in PACKAGES if (found := getattr(package, patterns))))
