"""Options that make no sense get a sentence before the run begins, and any name is shown as what it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pcalm_conformance import plugin, records
from pcalm_conformance.checking import QUICK
from pcalm_conformance.implementations import numpy_loop
from pcalm_conformance.records import Record
from pcalm_conformance.text import code, printable

PACKAGE = Path(plugin.__file__).parent
OPTIONS: dict[str, Any] = {
    "--quick": True,
    "--full": False,
    "--dtype": "float64",
    "--device": "cpu",
    "--python": None,
    "--max-depth": None,
    "--time-limit": 60.0,
    "--memory-limit": 8.0,
    "--requirement": None,
    "--skip-requirement": None,
    "--xfails": None,
    "--report": None,
    "--markdown": None,
}


def config(**changed: Any) -> Any:
    options = OPTIONS | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return SimpleNamespace(getoption=options.__getitem__)


def test_sensible_options_are_taken() -> None:
    run = plugin.Run(config())
    assert (run.level, run.time_limit, run.chosen.workplace.memory_limit) == (QUICK, 60, 8 << 30)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        *(("time_limit", value, "must be a positive, finite number of seconds, got") for value in (0, -1)),
        *(("time_limit", float(value), f"number of seconds, got {value}") for value in ("nan", "inf", "-inf")),
        *(("memory_limit", value, "must be a positive, finite number of GiB, got") for value in (0, -1)),
        *(("memory_limit", float(value), f"number of GiB, got {value}") for value in ("nan", "inf")),
        ("full", True, "--quick and --full exclude each other"),
        *(("max_depth", value, "--max-depth must be 3 or more, as networks have 3") for value in (2, 0, -1)),
        ("python", ["no-such-python"], "--python no-such-python: there is no such program"),
        ("python", [os.sep], "there is no such program"),
        ("python", ["adapter:impl=no-such-python"], "--python no-such-python: there is no such program"),
        ("python", [sys.executable] * 2, "another one is given for all; give one each"),
        ("python", [f"adapter={sys.executable}"] * 2, "another one is given for adapter; give one each"),
    ],
)
def test_options_that_make_no_sense(option: str, value: Any, words: str) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        plugin.Run(config(**{option: value}))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("DYN-9\n".encode("utf-16"), "cannot be read as UTF-8 text"),
        (bytes(range(256)), "cannot be read as UTF-8 text"),
        ("DYN-9\n".encode("utf-16-le"), r"no such requirements: \x00, D\x00Y\x00N\x00-\x009\x00"),
        (b"dyn-9\n", "no such requirements: dyn-9 (ids are written in capitals)"),
        (b"DYN-99 MOD-1\n", "no such requirements: DYN-99 MOD-1;"),
        (b"x" * 10**6, "characters] …"),
    ],
)
def test_xfails_that_are_no_list_of_ids(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes(content)
    with pytest.raises(pytest.UsageError) as caught:
        plugin.Run(config(xfails=str(tmp_path / "known")))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_xfails_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes("DYN-9 # not yet\r\n\r\nMOD-1".encode("utf-8-sig"))
    assert plugin.Run(config(xfails=str(tmp_path / "known"))).xfails == {"DYN-9", "MOD-1"}
    with pytest.raises(pytest.UsageError, match="cannot be read"):
        plugin.Run(config(xfails=str(tmp_path)))


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    for option in ("report", "markdown"):
        for path, words in (
            (tmp_path, "is a directory"),
            (tmp_path / "none" / "file", "the directory does not exist or cannot be written to"),
        ):
            with pytest.raises(pytest.UsageError, match=f"--{option} .*{words}"):
                plugin.check_outputs(config(**{option: str(path)}))
    with pytest.raises(pytest.UsageError, match="name the same file"):
        plugin.check_outputs(config(report=str(tmp_path / "a"), markdown=str(tmp_path / "a")))
    plugin.check_outputs(config(report=str(tmp_path / "a"), markdown=str(tmp_path / "b")))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ([], "name what is to be tested: --implementation MODULE:NAME"),
        ([":impl"], "must be MODULE:NAME"),
        (["adapter:"], "must be MODULE:NAME"),
        (["adapter", "adapter:impl"], "give either the module or names in it"),
    ],
)
def test_what_is_to_be_tested_must_be_named(wanted: list[str], words: str) -> None:
    with pytest.raises(pytest.UsageError, match=words):
        plugin.Run(config()).look_up(wanted)


def test_an_interpreter_for_one_implementation(tmp_path: Path) -> None:
    link = tmp_path / "python=3"
    link.symlink_to(sys.executable)
    chosen = plugin.Run(config(python=[f"some.adapter:impl={link}", f"other={sys.executable}"])).chosen
    found = [chosen.place(spec).python for spec in ("some.adapter:impl", "some.adapter:more", "other:impl", "other")]
    assert found == [str(link), *[os.path.abspath(sys.executable)] * 3]
    assert plugin.Run(config(python=[str(link)])).chosen.place("some.adapter:impl").python == str(link)
    with pytest.raises(pytest.UsageError, match=r"impl=…: no --implementation is some\.adapter"):
        chosen.look_up(["other:impl"])


@pytest.mark.parametrize(
    ("text", "span", "cell"),
    [
        ("numpy_loop", "`numpy_loop`", "`numpy_loop`"),
        ("a|b", "`a|b`", r"`a\|b`"),
        ("a\\|b", r"`a\|b`", r"`a\\\|b`"),
        ("`tick`", "`` `tick` ``", "`` `tick` ``"),
        ("<b>@you [x](http://y)", "`<b>@you [x](http://y)`", "`<b>@you [x](http://y)`"),
        ("two\nlines \x1b[31m", r"`two lines \x1b[31m`", r"`two lines \x1b[31m`"),
    ],
)
def test_code_spans(text: str, span: str, cell: str) -> None:
    assert (code(text), code(text, cell=True)) == (span, cell)


def test_printable_keeps_letters_and_lines() -> None:
    assert printable("größer ‖q‖\n\tλ") == "größer ‖q‖\n\tλ"
    assert printable("\r\u202e\u2028\ud800\x07") == r"\r\u202e\u2028\ud800\x07"


def test_a_table_of_any_names_is_a_table() -> None:
    names = ["a|b", "<!--", "[x](http://y)", "`", "*", "\\", "@you", "\\|"]
    found = [Record("DYN-9", name, "failed", what="arrays written to (a|b)", message="a|b") for name in names]
    text = records.markdown([*found, Record("MOD-1", names[0], "passed")])
    rows = [line.replace("\\\\", "").replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {2 + len(names), 8}
    assert "<!--" not in text.replace("`<!--`", "")


def run(
    folder: Path, *arguments: str, form: tuple[str, ...] = ("pcalm_conformance",), **variables: str
) -> subprocess.CompletedProcess[str]:
    """The suite in a folder, as the console script or in another form of `python -m`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", *form, "-q", *arguments],
        cwd=folder,
        env=environment | {"COLUMNS": "200"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_somebodys_settings_of_pytest_change_nothing(tmp_path: Path) -> None:
    """The package in an environment inside a project whose settings would break any run of ours."""
    place = tmp_path / "environment"
    shutil.copytree(PACKAGE, place / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\nfilterwarnings = error\n")
    (tmp_path / "conftest.py").write_text("raise SystemError('not the suite’s')\n", encoding="utf-8")
    shutil.copy(numpy_loop.__file__, tmp_path / "adapter.py")
    arguments = ["--implementation", "adapter:impl", "--quick", "--requirement", "MOD-1", "-p", "no:cacheprovider"]
    done = run(tmp_path, *arguments, PYTHONPATH=str(place), PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("form", [("pcalm_conformance",), ("pytest", str(PACKAGE.parent))], ids=["console", "pytest"])
def test_an_adapter_in_a_package_that_is_called_as_ours(form: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "pcalm").mkdir()
    (tmp_path / "pcalm" / "__init__.py").touch()
    shutil.copy(numpy_loop.__file__, tmp_path / "pcalm" / "adapter.py")
    arguments = [
        "--implementation",
        "pcalm.adapter:impl",
        "--quick",
        "--requirement",
        "MOD-1",
        "-p",
        "no:cacheprovider",
    ]
    done = run(tmp_path, *arguments, form=form)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_help_needs_no_implementation(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "--memory-limit=GIB" in done.stdout
    done = run(tmp_path, "-p", "no:cacheprovider")
    assert done.returncode == 4
    assert "name what is to be tested: --implementation MODULE:NAME" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_what_it_printed_stands_by_the_failure_and_nothing_passed_is_no_success(tmp_path: Path) -> None:
    shutil.copy(numpy_loop.__file__, tmp_path / "numpy_loop.py")
    (tmp_path / "adapter.py").write_text(
        "from numpy_loop import NumpyLoop\n"
        "class Wrong(NumpyLoop):\n"
        "    name = 'a|b'\n"
        "    def solve(self, problem):\n"
        "        print('\\x1b[2Jcannot do', problem.method)\n"
        "        raise SystemExit(3)\n"
        "impl = Wrong()\n"
    )
    (tmp_path / "known").write_text("MOD-1\nMOD-2\n")
    arguments = ["--implementation", "adapter:impl", "--quick", "-p", "no:cacheprovider", "--report", "report.json"]
    done = run(tmp_path, *arguments, "--requirement", "MOD-1", "--requirement", "MOD-2")
    assert done.returncode == 1
    assert r"\x1b[2Jcannot do bp" in done.stdout
    assert "\x1b[2J" not in done.stdout
    assert "solve() raised SystemExit: 3" in done.stdout
    assert "adapter.py" in done.stdout
    first = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert first["records"][0]["output"] == "\\x1b[2Jcannot do bp\n"
    assert first["versions"]["python"]
    done = run(tmp_path, *arguments, "--requirement", "MOD-1", "--requirement", "MOD-2", "--xfails", "known")
    assert done.returncode == 1
    assert "nothing passed" in done.stdout
