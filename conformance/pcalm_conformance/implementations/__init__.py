"""Implementations in several styles, as adapters to the protocol: this project's engines, and examples for other
people's."""
