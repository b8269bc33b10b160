#!/usr/bin/env bash
# What action.yml runs: the suite, on an implementation that the caller's `python` can import.
# Its inputs arrive as $IMPLEMENTATIONS, $LEVEL, $XFAILS, $ARGUMENTS, $COMMENT, and $PULL_REQUEST, a number or empty.
set -euo pipefail

# The suite has an environment of its own. It sees the packages of the caller's python, behind its own ones, and pip
# takes what is there as it is; what a new release would shadow, pip refuses to replace, and says so.
suite="$RUNNER_TEMP/pcalm-conformance"
[ -x "$suite/bin/python" ] || {
  python -m venv "$suite"
  # Python 3.11 puts an old setuptools there, which would shadow the caller's.
  "$suite/bin/python" -m pip uninstall --quiet --quiet --yes setuptools
  python - "$suite" <<'EOF'
import re
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

suite = Path(sys.argv[1])
theirs = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
(packages,) = suite.glob("lib/*/site-packages")
(packages / "caller.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in theirs))
kept = (dist for dist in metadata.distributions() if re.match("numpy|scipy|torch|jax|tensorflow", dist.name.lower()))
(suite / "kept.txt").write_text("".join(sorted({f"{dist.name}=={dist.version}\n" for dist in kept})))
EOF
  "$suite/bin/python" -m pip install --quiet --constraint "$suite/kept.txt" "$GITHUB_ACTION_PATH/conformance"
}

options=()
for each in $IMPLEMENTATIONS; do options+=(--implementation "$each"); done
[ "$LEVEL" = default ] || options+=("--$LEVEL")
[ -z "$XFAILS" ] || options+=(--xfails "$XFAILS")
status=0
# The adapter runs in the caller's python. Of pytest's plugins only ours: the caller's could reorder or repeat tests.
PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1 "$suite/bin/pcalm-conformance" -p xdist -n auto \
  --python "$(command -v python)" "${options[@]}" $ARGUMENTS --report conformance.json --markdown conformance.md || status=$?
if [ -f conformance.md ]; then
  cat conformance.md >>"$GITHUB_STEP_SUMMARY"
  if [ "$COMMENT" = true ] && [ -n "$PULL_REQUEST" ]; then
    gh pr comment "$PULL_REQUEST" --repo "$GITHUB_REPOSITORY" --body-file conformance.md --edit-last --create-if-none ||
      echo "::warning::no comment could be written; the table is in the run's summary"
  fi
fi
exit "$status"
