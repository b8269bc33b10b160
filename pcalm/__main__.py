"""`python -m pcalm`, the same as `pcalm`."""

from pcalm.cli import main

main()
