"""Finding the vendor libraries and saying what is there."""
