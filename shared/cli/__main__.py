"""`python -m shared.cli`."""

from . import main

main()
