"""``python -m stagepose``: the command line, where no ``stagepose`` is on the path."""

import sys

from stagepose.cli import main

if __name__ == "__main__":
    sys.exit(main())
