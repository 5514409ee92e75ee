# SPDX-License-Identifier: Apache-2.0
"""One benchmark a file; each has `NAME`, `TITLE` and `run(settings) -> Report`."""
