"""`python -m chatscope COMMAND`."""

import sys

from chatscope.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
