"""python -m tinyconv: the command line."""

from __future__ import annotations

import sys

from tinyconv.cli import main

if __name__ == "__main__":
    sys.exit(main())
