"""The dashboard: all of its pages."""

from fastapi import APIRouter

from app.web import (
    audit,
    campaigns,
    contacts,
    conversations,
    entrance,
    flower,
    keys,
    messages,
    operators,
    optouts,
    overview,
    phones,
    settings,
    static,
    texts,
    webhooks,
)

router = APIRouter(include_in_schema=False)
for _area in (
    entrance,
    overview,
    phones,
    campaigns,
    messages,
    conversations,
    contacts,
    texts,
    optouts,
    webhooks,
    keys,
    settings,
    audit,
    operators,
    flower,
    static,
):
    router.include_router(_area.router)
