"""`pytest conformance` in a checkout: the suite as it stands here, whatever is installed, by default on our engines."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest_plugins = ["pcalm_conformance.plugin"]


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.implementation:
        config.option.implementation = ["pcalm.engines.adapter", "pcalm.engines.adapter_interpreted"]
