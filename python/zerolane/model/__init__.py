"""Loading models and calling them."""
