"""A conformance suite for implementations of PC-ALM, predictive coding and backpropagation."""

import os

__version__ = "0.1.0"

# Thread pools of several workers fight over the cores; read by NumPy and torch when they are imported, so set before.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
