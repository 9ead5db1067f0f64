"""Where downloads and computed vectors are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vlpart.files import local_path


def cache_folder() -> Path:
    """The environment variable VLPART_CACHE, else "vlpart" in the platform's cache folder; not created here."""
    chosen = os.environ.get("VLPART_CACHE")
    if chosen:
        return local_path(chosen).absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vlpart"
