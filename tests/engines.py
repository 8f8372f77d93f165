"""Where the tests of the bench look for it; see support/engines.py."""

from .support.engines import once  # noqa: F401
