"""`python -m argentor_asgi` is the `argentor` command."""

import sys

from argentor_asgi.cli import main

if __name__ == "__main__":
    sys.exit(main())
