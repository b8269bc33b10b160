"""The gate as a process, on small repositories: what it judges, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import compare, repository
from benchmarks.verdict import Outcome

SUITE = """
import package
def track_it():
    return package.work()
track_it.unit, track_it.timeout = "cosine", 600
"""
# Says who it is, and goes on until somebody ends it.
ENDLESS = """
def work():
    import os, pathlib, time
    pathlib.Path(os.environ["SAYS"]).write_text(str(os.getpid()))
    time.sleep(600)
"""
CONF = {"version": 1, "project": "package", "repo": ".", "environment_type": "virtualenv"}
AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def in_git(place: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(place), *AUTHOR, *arguments], check=True, capture_output=True)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit: a package and its suite of one benchmark."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    place = tmp_path / "scratch"
    (place / "benchmarks").mkdir(parents=True)
    (place / "benchmarks" / "__init__.py").touch()
    (place / "benchmarks" / "bench_it.py").write_text(SUITE)
    (place / "package.py").write_text("def work():\n    return 1.0\n")
    (place / "asv.conf.json").write_text(json.dumps(CONF))
    in_git(place, "init", "--quiet")
    commit(place)
    return place


def commit(place: Path) -> None:
    in_git(place, "add", "--all")
    in_git(place, "commit", "--quiet", "-m", "a change")


def command(place: Path, *arguments: str) -> list[str]:
    own = ["--repository", str(place), "--results", str(place.parent / "results"), "--environment", "existing"]
    return [sys.executable, "-m", "benchmarks.compare", *own, "--rounds", "1", *arguments]


def judged(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(place, *arguments), cwd=compare.ROOT, capture_output=True, text=True, check=False)


def test_a_working_tree_is_judged_as_it_is_and_said_to_be(scratch: Path) -> None:
    (scratch / "package.py").write_text("import no_such_module\n")
    done = judged(scratch, "HEAD")
    assert done.returncode == Outcome.FAILED.value, done.stderr
    assert "benchmarks of head cannot be imported: ModuleNotFoundError: No module named 'no_such_module'" in done.stdout
    assert "Head is the working tree: " in done.stdout
    assert "changes in `package.py`." in done.stdout

    in_git(scratch, "checkout", "--quiet", "package.py")
    (scratch / "new.py").touch()
    done = judged(scratch, "HEAD")
    assert done.returncode == Outcome.NO_REGRESSION.value, done.stdout + done.stderr
    assert "changes in `new.py`." in done.stdout
    # Only base's samples are a commit's.
    assert len(list((scratch.parent / "results").glob("*/*-*.json"))) == 1
    # A commit that is named is judged, whatever the working tree holds.
    assert compare.Head.of(scratch, "HEAD").note == ""


def test_a_base_that_cannot_be_imported_is_no_base(scratch: Path) -> None:
    (scratch / "package.py").write_text("import no_such_module\n")
    commit(scratch)
    (scratch / "package.py").write_text("def work():\n    return 1.0\n")
    commit(scratch)
    done = judged(scratch, "HEAD~1")
    assert done.returncode == Outcome.NOTHING.value, done.stdout + done.stderr
    assert "nothing was measured: the benchmarks of base cannot be imported: ModuleNotFoundError" in done.stdout


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_nothing_is_left_when_somebody_ends_it(scratch: Path, number: signal.Signals) -> None:
    (scratch / "package.py").write_text(ENDLESS)
    commit(scratch)
    says = scratch.parent / "says"
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    # Not below pytest's folder: the names of sockets must be short.
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary, "SAYS": str(says)}
        with subprocess.Popen(command(scratch, "HEAD"), cwd=compare.ROOT, env=environment, **options) as process:
            while not (says.exists() and says.read_text()):
                assert process.poll() is None, process.communicate()
                time.sleep(0.1)
            children = psutil.Process(process.pid).children(recursive=True)
            started = [int(says.read_text()), *(child.pid for child in children)]
            process.send_signal(number)
            _, errors = process.communicate()
        assert os.listdir(temporary) == []
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert [pid for pid in started if alive(pid)] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--", "--help"], "'--help' is no commit"),
        (["no-such-commit"], "'no-such-commit' is no commit"),
        (["HEAD", "--environment", "no-such-thing"], "no environment of asv.conf.json is available"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(scratch: Path, arguments: list[str], said: str) -> None:
    done = judged(scratch, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (Outcome.NOTHING.value, False), done.stderr
    assert f"nothing was measured: {said}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["HEAD", "--bench", "("], "--bench must be a regular expression, got '('"),
        (["HEAD", "--repository", "no-such-folder"], "--repository must be an existing directory, got"),
        (["HEAD", "--summary", "no-such-folder/file"], "--summary must be a file in an existing directory, got"),
        (["HEAD", "--summary", "."], "--summary must be a file in an existing directory, got"),
        (["HEAD", "--results", "pyproject.toml"], "--results must be a directory, got the file"),
        (["HEAD", "--rounds", "many"], "invalid int value"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        compare.main(arguments)
    assert said in capsys.readouterr().err


def test_git_says_itself_why_it_does_not_read_a_repository(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(repository.GitError, match="is no repository that git reads: not a git repository"):
        repository.resolve(tmp_path / "none", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(repository.GitError, match=r"dubious ownership.*; if you trust it: git config --global --add"):
        repository.resolve(scratch, "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(repository.GitError, match=r"git cannot be run in .*: No such file"):
        repository.resolve(scratch, "HEAD")
