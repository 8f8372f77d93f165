"""`python -m shmmap`: see cli.py."""

import sys

from .tools.cli import main

sys.exit(main())
