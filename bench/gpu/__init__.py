# SPDX-License-Identifier: Apache-2.0
"""Tests and benchmarks of a machine with a GPU; run with `bench/gpu/run.sh`."""

from __future__ import annotations
