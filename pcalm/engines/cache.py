"""Where compiled engines and downloaded data are kept: the user's cache."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/pcalm, by default ~/.cache/pcalm.

    Raises:
        RuntimeError: there is no such place, for want of a home.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(named or Path.home() / ".cache") / "pcalm"
    except RuntimeError as error:
        raise RuntimeError("no place for a cache: this user has no home; set HOME or XDG_CACHE_HOME") from error
