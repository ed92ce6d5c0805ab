"""`python -m tests.crash`: see `campaign`."""

import sys

from tests.crash.campaign import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
