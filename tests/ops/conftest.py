"""Installations of these tests' own; see tests/e2e/conftest.py."""

from tests.e2e.conftest import new_installation  # noqa: F401
