"""What it means for registration and webhooks who can reach this gateway; in words for its operator."""

from ipaddress import ip_network

from app.core.settings import Settings

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def registration(settings: Settings) -> str:
    """Who may make an account."""
    if settings.registration == "closed":
        return "closed; create accounts with `smsfleet user create`"
    if settings.registration == "open":
        return "open to everyone who can reach this gateway (SMSFLEET_REGISTRATION)"
    if settings.is_local:
        return "open, because only programs on this machine can reach the gateway"
    return "open until the first account exists, then closed; SMSFLEET_REGISTRATION=open keeps it open"


def webhook_reach(settings: Settings) -> str:
    """Whether users' webhooks reach programs of this machine."""
    if not reaches_loopback(settings):
        return "to public addresses only; SMSFLEET_WEBHOOK_ALLOWED_NETWORKS allows others"
    if settings.is_local:
        return "to this machine as well, because only its own programs can reach the gateway"
    return "to this machine as well (SMSFLEET_WEBHOOK_ALLOWED_NETWORKS): every account can reach what listens here"


def reaches_loopback(settings: Settings) -> bool:
    return any(
        ours.version == named.version and ours.overlaps(named)
        for ours in _LOOPBACK
        for named in settings.webhook_allowed_networks
    )
