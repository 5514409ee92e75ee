"""Measuring and comparing loaded models."""
