"""Train SAM 2: `python train.py [recipes/NAME.yaml] [key=value ...]`. See `python train.py --help`."""

import sys

from sam2.training.run import as_program

if __name__ == "__main__":
    sys.exit(as_program())
