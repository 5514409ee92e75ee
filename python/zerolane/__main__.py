"""`python -m zerolane` is the command `zerolane`."""

from zerolane.cli.main import main

main()
