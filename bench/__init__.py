# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of zerolane against the floor and its peers; run with `python -m bench`."""
