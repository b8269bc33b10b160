"""`pytest conformance` in a checkout: the suite as it stands here, whatever is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
pytest_plugins = ["pcalm_conformance.plugin"]
