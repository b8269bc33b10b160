"""A conformance suite for implementations of PC-ALM, predictive coding and backpropagation: `pytest conformance`."""
