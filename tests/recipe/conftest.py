"""Hypothesis on machines that are busy with other tests: no deadline per example."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("busy", deadline=None, max_examples=60)
settings.load_profile("busy")
