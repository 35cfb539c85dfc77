"""Path parameters of campaigns."""

from typing import Annotated

from fastapi import Path

from app.campaigns.records import MODEL

CampaignId = Annotated[
    str, Path(description="The campaign's number", examples=["4"], json_schema_extra={"model": MODEL})
]
