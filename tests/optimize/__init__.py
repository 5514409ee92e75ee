"""Tests of `zl.optimize`."""
