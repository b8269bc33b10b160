"""What the suite and its comparison are told alike: which implementations, and what runs each of them."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pcalm_conformance.guest import CannotLoad
from pcalm_conformance.isolation import Workplace, called

NAMED = re.compile(r"([\w.]+(?::[\w.]+)?)=(.+)", re.DOTALL)  # MODULE[:NAME]=PATH
SHALLOWEST = 3  # weight matrices: the first, one between hidden layers, and the last
PYTHON_HELP = (
    "the interpreter that runs the implementations and has what they need, NumPy among it (default: this one); "
    "MODULE=PATH or MODULE:NAME=PATH for those alone; may be repeated"
)


def positive(option: str, value: float, unit: str) -> float:
    if not 0 < value < math.inf:
        raise pytest.UsageError(f"{option} must be a positive, finite number of {unit}, got {value:g}")
    return value


def program(option: str, path: str) -> str:
    found = shutil.which(path)
    if found is None:
        raise pytest.UsageError(f"{option} {path}: there is no such program that can be run")
    return os.path.abspath(found)


def interpreters(given: Sequence[str]) -> dict[str, str]:
    """What --python says, by MODULE or MODULE:NAME, "" for all others.

    Raises:
        pytest.UsageError: there is no such program, or two are given for the same.
    """
    found: dict[str, str] = {}
    for value in given:
        named = NAMED.fullmatch(value)
        key, path = named.groups() if named else ("", value)
        if key in found:
            raise pytest.UsageError(f"--python {value}: another one is given for {key or 'all'}; give one each")
        found[key] = program("--python", path)
    return {"": sys.executable} | found


@dataclass
class Chosen:
    """The implementations that --implementation and --python name.

    Attributes:
        workplace: what they run in, but for the interpreter.
        pythons: as `interpreters` has them.
        names: MODULE:NAME → what it goes by in tables; known once they were looked up.
        versions: MODULE:NAME → package → version.
        sources: MODULE:NAME → a hash of the module's own file.
    """

    workplace: Workplace
    pythons: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def place(self, spec: str) -> Workplace:
        """What a MODULE:NAME, or all of a MODULE, runs in."""
        module = spec.partition(":")[0]
        python = next(self.pythons[key] for key in (spec, module, "") if key in self.pythons)
        return dataclasses.replace(self.workplace, python=python)

    def look_up(self, wanted: Sequence[str]) -> None:
        """Finds out what the implementations are called, and what they stand on.

        Raises:
            pytest.UsageError: one cannot be loaded, two have the same name, or an interpreter is for none of them.
        """
        if not wanted:
            raise pytest.UsageError(
                "name what is to be tested: --implementation MODULE:NAME, such as my_package.adapter:impl"
            )
        modules: dict[str, list[str] | None] = {}
        for spec in wanted:
            module, separator, name = spec.partition(":")
            if not module or (separator and not name):
                raise pytest.UsageError(
                    f"--implementation must be MODULE:NAME, such as my_package.adapter:impl, got {spec!r}"
                )
            names = modules.setdefault(module, [] if name else None)
            if name and names is not None:
                names.append(name)
            elif name or names:
                raise pytest.UsageError(f"--implementation {module}: give either the module or names in it, not both")
        known = {"", *modules, *wanted}
        if strange := [key for key in self.pythons if key not in known]:
            raise pytest.UsageError(f"--python {strange[0]}=…: no --implementation is {strange[0]}")
        for module, names in modules.items():
            # Those of one module and one interpreter are asked in one process.
            together: dict[str, list[str] | None] = {}
            for name in names or [""]:
                spec = f"{module}:{name}" if name else module
                group = together.setdefault(self.place(spec).python, [] if name else None)
                if group is not None:
                    group.append(name)
            for python, group in together.items():
                self._ask(module, group, python)

    def _ask(self, module: str, names: list[str] | None, python: str) -> None:
        spec = ", ".join(f"{module}:{name}" for name in names) if names else module
        try:
            found, versions, source = called(module, names, dataclasses.replace(self.workplace, python=python))
        except CannotLoad as error:
            raise pytest.UsageError(f"--implementation {spec}: {error}") from error
        for attribute, name in found.items():
            if name in self.names.values():
                raise pytest.UsageError(
                    f"--implementation {module}:{attribute}: two implementations are named {name!r}"
                )
            self.names[f"{module}:{attribute}"] = name
            self.versions[f"{module}:{attribute}"] = versions
            self.sources[f"{module}:{attribute}"] = source
