"""``python -m labkit``: everything that a notebook's buttons do, from a shell."""

import sys

from labkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
