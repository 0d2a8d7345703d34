"""Batches as their consumer sees them."""

from tests.serve_app.batches.consumer import batches, batches_with, rich  # noqa: F401 - fixtures
