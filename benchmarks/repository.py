"""Commits of a git repository, and its working tree, as folders of their own; the repository itself is left alone."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

SHOWN = 3  # of the files that were changed


class GitError(Exception):
    """git says no; the message is its own, in one sentence."""


def git(repository: Path, *arguments: str) -> str:
    return _git(repository, *arguments).decode(errors="surrogateescape").strip()


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        english = {**os.environ, "LC_ALL": "C"}  # what it says is read below
        done = subprocess.run(["git", *arguments], cwd=repository, env=english, capture_output=True, check=False)
    except OSError as error:
        raise GitError(f"git cannot be run in {str(repository)!r}: {error.strerror}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitError(reason(said) or f"git {arguments[0]} ended with {done.returncode}")
    return done.stdout


def reason(said: list[str]) -> str:
    """What git said, in one sentence; where it refuses somebody else's repository, with the way out."""
    first = next((line.removeprefix("fatal: ") for line in said if line.startswith("fatal: ")), said[0] if said else "")
    way_out = next((line.strip() for line in said if line.strip().startswith("git config ")), "")
    return f"{first}; if you trust it: {way_out}" if way_out else first


def resolve(repository: Path, name: str) -> str:
    """The commit of that name.

    Raises:
        GitError: there is none, or this is no repository that git reads.
    """
    try:
        git(repository, "rev-parse", "--git-dir")
    except GitError as error:
        raise GitError(f"{str(repository)!r} is no repository that git reads: {error}") from error
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except GitError as error:
        raise GitError(f"{name!r} is no commit of {str(repository)!r}; git fetch it, or name another") from error


def changes(repository: Path) -> list[str]:
    """The files of the working tree that differ from HEAD or are new, without those that git ignores."""
    listed = _git(repository, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames").decode(
        errors="surrogateescape"
    )
    return [entry[3:] for entry in listed.split("\0") if entry]


def export(repository: Path, commit: str, tree: Path) -> None:
    """The files of a commit in a new folder."""
    with zipfile.ZipFile(io.BytesIO(_git(repository, "archive", "--format=zip", commit))) as archive:
        archive.extractall(tree)


def export_working_tree(repository: Path, tree: Path) -> None:
    """The files of the working tree in a new folder, without those that git ignores."""
    root = Path(git(repository, "rev-parse", "--show-toplevel"))
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode(errors="surrogateescape")
    for name in dict.fromkeys(listed.split("\0")):
        source = root / name
        if name and source.is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, tree / name)
