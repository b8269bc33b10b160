"""Files that are whole or not there, locks that tell the abandoned from the used, and contents that tell damage."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pcalm import temporary
from pcalm.experiments.storage import read_json, replacing, sealed, unsealed, write_text


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from pcalm.experiments.storage import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_cleared_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    path = tmp_path / "[a] file.txt"
    (tmp_path / ".[a] file.txt.notes.tmp").write_text("somebody's own")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        write_text(path, "whole")
        assert len(names(tmp_path)) == 3  # the other's is still there
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 3
    write_text(tmp_path / "another file", "")
    assert len(names(tmp_path)) == 4  # not its business
    write_text(path, "whole again")
    assert names(tmp_path) == [".[a] file.txt.notes.tmp", "[a] file.txt", "another file"]
    assert path.read_text() == "whole again"


def test_a_folder_is_cleared_with_what_it_holds(tmp_path: Path) -> None:
    left = tmp_path / f".build.{'0' * 32}.tmp"
    (left / "below").mkdir(parents=True)
    (left / "below" / "file").touch()
    with temporary.temporary(tmp_path, "build", Path.mkdir) as first:
        with temporary.temporary(tmp_path, "build", Path.mkdir) as second:
            assert names(tmp_path) == sorted([first.name, second.name])
        (first / "file").touch()
    assert names(tmp_path) == []


def test_where_nothing_can_be_locked_nothing_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", unable)
    left = tmp_path / f".file.{'0' * 32}.tmp"
    left.touch()
    write_text(tmp_path / "file", "whole")
    assert names(tmp_path) == [left.name, "file"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert (names(tmp_path), path.read_text()) == (["file"], "before")
    with pytest.raises(OSError, match=r"nowhere/file' cannot be written: No such file or directory"):
        write_text(tmp_path / "nowhere" / "file", "")


def test_seals() -> None:
    content = sealed(b"content")
    assert unsealed(content) == b"content"
    assert unsealed(sealed(b"")) == b""
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="its checksum is wrong"):
            unsealed(bytes(changed))
    for kept in range(1, len(content)):
        with pytest.raises(ValueError, match="its checksum is wrong"):
            unsealed(content[:kept])
    with pytest.raises(ValueError, match="it is empty"):
        unsealed(b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "Expecting"), (b"[]", "no object but list"), (b"[" * 100_000, "nested too deep"), (b"\xff", "decode")],
)
def test_json_that_is_none(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(content)
