"""The Celery application as Flower runs it (`celery -A workers.flower flower`): our logging begins before its own."""

from app.core.logs import configure_logging
from workers.app import app

__all__ = ["app"]

configure_logging()
