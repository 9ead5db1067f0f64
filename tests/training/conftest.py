"""Makes `killable.py`, the small training run that tests import and start as a program, importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
