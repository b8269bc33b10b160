#!/usr/bin/env bash
# What action.yml runs: the suite, on an implementation that the caller's `python` can import.
# Its inputs arrive as $IMPLEMENTATIONS, $LEVEL, $XFAILS, $ARGUMENTS, $COMPARE, $COMMENT, and $PULL_REQUEST, a number or empty.
set -euo pipefail

# The suite has an environment of its own, and the adapter the caller's: nothing of theirs is installed, replaced or pinned.
suite="$RUNNER_TEMP/pcalm-conformance"
[ -x "$suite/bin/pcalm-conformance" ] || {
  python -m venv "$suite"
  "$suite/bin/python" -m pip install --quiet --constraint "$GITHUB_ACTION_PATH/constraints.txt" "$GITHUB_ACTION_PATH/conformance"
}

common=(--python "$(command -v python)")
for each in $IMPLEMENTATIONS; do common+=(--implementation "$each"); done
options=()
[ "$LEVEL" = default ] || options+=("--$LEVEL")
[ -z "$XFAILS" ] || options+=(--xfails "$XFAILS")
status=0
OMP_NUM_THREADS=1 "$suite/bin/pcalm-conformance" -n auto "${common[@]}" "${options[@]}" $ARGUMENTS \
  --report conformance.json --markdown conformance.md || status=$?
if [ -n "$COMPARE" ]; then
  # The verdicts are there already.
  "$suite/bin/pcalm-conformance" compare "${common[@]}" --suite none $COMPARE --output comparison || status=$?
  [ ! -f comparison/table.md ] || { echo && cat comparison/table.md; } >>conformance.md
fi
if [ -f conformance.md ]; then
  cat conformance.md >>"$GITHUB_STEP_SUMMARY"
  if [ "$COMMENT" = true ] && [ -n "$PULL_REQUEST" ]; then
    gh pr comment "$PULL_REQUEST" --repo "$GITHUB_REPOSITORY" --body-file conformance.md --edit-last --create-if-none ||
      echo "::warning::no comment could be written; the table is in the run's summary"
  fi
fi
exit "$status"
