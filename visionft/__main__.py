"""`python -m visionft VERB ...`, and so `torchrun -m visionft VERB ...`, say what `visionft VERB ...` says."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
