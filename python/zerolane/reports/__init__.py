"""`zl.report`: what was done to a model and what came of it, on one page for a person."""
