"""Run the command line with ``python -m makellos``."""

from __future__ import annotations

import sys

from makellos.cli import main

sys.exit(main())
