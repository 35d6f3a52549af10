"""``python -m labkit``: everything that a notebook's buttons do, from a shell."""

import os
import sys

from labkit.cli import main

if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: the SDK's threads may crash an interpreter that winds down (sdk-python #300).
    os._exit(status)
