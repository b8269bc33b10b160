"""Experiments: data, training, run directories, records of finished runs, and grids of runs."""
