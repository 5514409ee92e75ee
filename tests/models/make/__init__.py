"""Trains and exports the test models. Run as `python -m tests.models.make OUT [name ...]`."""
