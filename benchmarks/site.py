"""Builds asv's pages of the last commits to pcalm/: the trend of every figure, by its parameters.

    python -m benchmarks.site [--commits 10]             into .asv/html; look at them with: .venv/bin/asv preview

Commits that have results already are not measured again. asv's pages take jQuery and the like from public servers;
where npm can get them, the same packages are put beside the pages instead, so that they open without the internet.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import ROOT
from benchmarks.repository import GitError, git
from benchmarks.workplace import run, workplace
from pcalm.experiments.storage import write_text

COMMITS = 10
PAGES = ROOT / ".asv" / "html"
RESULTS = ROOT / ".asv" / "results"
# Where asv's index.html takes a script or style from (its file name), and the same file in an npm package.
VENDORED = {
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": ("jquery.flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.min.js": ("jquery.flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.min.js": ("jquery.flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.min.js": ("jquery.flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.site", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--commits", type=int, default=COMMITS, help=f"how many (default: {COMMITS})")
    options = parser.parse_args(arguments)
    if options.commits < 1:
        parser.error(f"--commits must be at least 1, got {options.commits}")
    try:
        hashes = git(ROOT, "log", f"--max-count={options.commits}", "--format=%H", "--", "pcalm").split()
    except GitError as error:
        print(error, file=sys.stderr)
        return 1
    os.environ.setdefault("PCALM_BENCH_GRID", "site")
    asv("machine", "--yes")
    # 2: some benchmarks failed, as those of a part that a commit does not have yet.
    status = asv("run", "HASHFILE:-", "--skip-existing-commits", commits=hashes)
    missing = [commit[:8] for commit in hashes if not list(RESULTS.glob(f"*/{commit[:8]}-*.json"))]
    if status not in (0, 2) or missing:
        print(f"asv run ended with {status}; commits without results: {', '.join(missing) or 'none'}", file=sys.stderr)
        return 1
    if asv("publish") != 0:
        return 1
    try:
        vendor(PAGES)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the pages take jQuery and the like from public servers, since npm failed: {error}", file=sys.stderr)
    print(f"{len(hashes)} commits in {PAGES}; look at them with: {Path(sys.executable).parent / 'asv'} preview")
    return 0


def asv(*arguments: str, commits: Sequence[str] = ()) -> int:
    with workplace() as place:
        (place / "commits").write_text("\n".join(commits))
        with (place / "commits").open() as listed:
            return run([sys.executable, "-m", "asv", *arguments], cwd=ROOT, stdin=listed).returncode


def vendor(pages: Path) -> None:
    """Puts what index.html takes from elsewhere beside it."""
    folder = pages / "vendor"
    folder.mkdir(exist_ok=True)
    with workplace() as place:
        packages = sorted({package for package, _ in VENDORED.values()})
        pack = ["npm", "pack", "--silent", *packages]
        subprocess.run(pack, cwd=place, check=True, stdout=subprocess.DEVNULL)
        for name, (package, file) in VENDORED.items():
            with tarfile.open(place / f"{package.replace('@', '-')}.tgz") as archive:
                member = archive.extractfile(f"package/{file}")
                assert member is not None
                (folder / name).write_bytes(member.read())
    page = (pages / "index.html").read_text()
    for name in VENDORED:
        # Without the checksum: asv's are of the copies on those servers, which may have been minified by others.
        page, count = re.subn(
            rf'"https://[^"]*/{re.escape(name)}"( integrity="[^"]*")?( crossorigin="[^"]*")?', f'"vendor/{name}"', page
        )
        if count != 1:
            raise RuntimeError(f"asv's index.html no longer takes {name} from elsewhere: VENDORED is for another asv")
    write_text(pages / "index.html", page)


if __name__ == "__main__":
    sys.exit(main())
