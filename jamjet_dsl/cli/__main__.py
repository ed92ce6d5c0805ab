"""`python -m jamjet_dsl.cli` is `jam`."""

from jamjet_dsl.cli import main

main()
