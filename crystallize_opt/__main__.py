"""`python -m crystallize_opt`: the command line."""

import sys

from crystallize_opt.cli import main

if __name__ == "__main__":
    sys.exit(main())
