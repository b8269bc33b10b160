"""Where compiled engines and downloaded data are kept: the user's cache."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/pcalm, by default ~/.cache/pcalm."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pcalm"
