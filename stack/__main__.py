"""`python -m stack up|down|status|logs|chat|build`."""

import sys

from stack.cli import main

sys.exit(main())
