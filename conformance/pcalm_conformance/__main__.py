"""`pcalm-conformance`: the suite on implementations, from any directory; every option is pytest's or the suite's.

`pcalm-conformance compare` is another command, with options of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent


def main() -> int:
    if sys.argv[1:2] == ["compare"]:
        from pcalm_conformance.comparison import command  # not at the top: the suite needs none of it

        return command.main(sys.argv[2:])
    # The suite's own settings: pytest would look for some in every folder above the package, and where that lies in an
    # environment inside somebody's project, find that project's.
    settings = ["-c", str(PACKAGE / "suite.ini")]
    if not any("no:cacheprovider" in argument for argument in sys.argv):  # without it the option is unknown
        settings += ["-o", f"cache_dir={Path.cwd() / '.pytest_cache'}"]
    return int(pytest.main([*settings, "-p", "pcalm_conformance.plugin", str(PACKAGE), *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
