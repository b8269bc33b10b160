"""Results that several tests read."""

from __future__ import annotations

import pytest

from pcalm.report import results
from pcalm.report.results import Results
from tests.report.report_cases import write_everything


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of three implementations."""
    directory = tmp_path_factory.mktemp("three")
    write_everything(directory)
    return results.load(directory)
