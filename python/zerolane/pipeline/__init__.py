"""`zl.Pipeline`: models, ops and Python functions as one session."""
