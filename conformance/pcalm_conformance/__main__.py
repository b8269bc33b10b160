"""`pcalm-conformance`: the suite on implementations, from any directory; every option is pytest's or the suite's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def main() -> int:
    return int(pytest.main(["-p", "pcalm_conformance.plugin", str(Path(__file__).parent), *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
