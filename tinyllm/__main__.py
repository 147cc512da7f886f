"""`python -m tinyllm`, the same as the command `tinyllm`: for where the command is not on the path."""

import sys

from tinyllm.cli.main import main

sys.exit(main())
