"""Data loading: from the files on this machine to standardised tensors, and the memory that this takes."""

from __future__ import annotations

from benchmarks import problems


class Load:
    """Data sets that are not on the machine are left out: benchmarks do not download."""

    params = (problems.DATASETS,)
    param_names = ("dataset",)
    timeout = 180.0

    def setup(self, dataset: str) -> None:
        from pcalm.experiments import data  # commits that have no data sets still have their speed measured

        if dataset != "digits":
            try:
                data.locate(dataset, download=False)
            except FileNotFoundError as error:
                raise NotImplementedError(str(error)) from error
        self.load = data.load


class Time(Load, problems.Sampling):
    def time_load(self, dataset: str) -> None:
        self.load(dataset)


class Memory(Load):
    """Peak memory of the process: subtract `peakmem_reference`."""

    def setup(self, dataset: str) -> None:
        super().setup(dataset)
        problems.fix_heap()

    def peakmem_load(self, dataset: str) -> None:
        self.load(dataset)

    def peakmem_reference(self, dataset: str) -> None:
        pass
