"""`python -m dpi_core`."""

from dpi_core.cli import main

main()
