from tests.acceptance.conftest import _own_installations

__all__ = ["_own_installations"]
