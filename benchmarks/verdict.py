"""The gate's verdict, as a function of the samples of two commits.

A sample is what one process measured: the best of its times, its peak memory, or a tracked number. A time is slower
only if both hold:

    min(head) / min(base) exceeds a threshold                       it is much: noise only ever adds to a time, so the
                                                                    best of each side estimates it best
    9 of 10 pairs (base sample, head sample) have head the slower   the samples separate: with 6 of each, chance alone
                                                                    does so 7 times in 924

Accuracy is deterministic, so that a threshold of its own is enough. Which rule holds is read off the unit.
"""

from __future__ import annotations

import enum
import itertools
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SEPARATION = 0.9


@dataclass(frozen=True)
class Rule:
    """When a figure is worse: by more than `relative` · |base| + `absolute`, and for noisy ones if samples separate."""

    relative: float = 0.0
    absolute: float = 0.0
    higher_is_better: bool = False
    noisy: bool = False
    one_machine: bool = False  # means nothing beside a figure from another machine


RULES = {
    "seconds": Rule(relative=0.25, noisy=True, one_machine=True),
    "bytes": Rule(relative=0.2, absolute=2**21, noisy=True, one_machine=True),
    "times BP": Rule(relative=0.35, noisy=True),
    "times sgemm": Rule(relative=0.35, noisy=True),
    "cosine": Rule(absolute=0.002, higher_is_better=True),
    "relative error": Rule(absolute=0.005),
    # A case or two of a requirement; the suite's tests hold the totals to their goals.
    "programs": Rule(absolute=5),
    "problems": Rule(relative=0.05),
    "T/L": Rule(absolute=0.1),  # less than the step of the search
    "test accuracy": Rule(absolute=0.02, higher_is_better=True),  # float32: rounding alone may turn a few of 357 digits
}


class Outcome(enum.Enum):
    """The verdicts, with their exit statuses; 1 and 2 are left to crashes and to errors of the command line."""

    NO_REGRESSION = 0
    REGRESSION = 3
    FAILED = 4
    NOTHING = 5


@dataclass(frozen=True)
class Measured:
    """A benchmark with one combination of parameters in one commit: its samples, or why there are none."""

    unit: str
    samples: tuple[float, ...] = ()
    error: str = ""

    def best(self, rule: Rule) -> float:
        return min(self.samples) if rule.noisy else statistics.median(self.samples)


Side = Mapping[str, Measured]


@dataclass(frozen=True)
class Finding:
    """What became of one benchmark: "same", "worse", "better", "new", "failed", "disappeared" or "refused"."""

    name: str
    kind: str
    base: Measured | None
    head: Measured | None

    @property
    def figures(self) -> list[str]:
        return [_shown(side) for side in (self.base, self.head)]

    @property
    def change(self) -> str:
        base, head = self.base, self.head
        if base is None or head is None or not base.samples or not head.samples:
            return ""
        rule = RULES[head.unit]
        before, after = base.best(rule), head.best(rule)
        return f"× {after / before:.2f}" if rule.relative and before > 0 else f"{after - before:+.4g}"


@dataclass(frozen=True)
class Verdict:
    """The outcome, its words, and all findings."""

    outcome: Outcome
    words: str
    findings: tuple[Finding, ...]

    def of_kind(self, *kinds: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind in kinds]

    def markdown(self) -> str:
        """The summary for a pull request: a table of what changed, and a count of the rest."""
        lines = [f"### Benchmarks: {self.words}", ""]
        changed = self.of_kind("worse", "failed", "disappeared", "better", "new")
        if changed:
            lines += ["| | benchmark | base | head | change |", "| --- | --- | --- | --- | --- |"]
            lines += [
                "| " + " | ".join([finding.kind, f"`{finding.name}`", *finding.figures, finding.change]) + " |"
                for finding in changed
            ]
            lines.append("")
        counts = Counter(finding.kind for finding in self.findings)
        lines.append(f"{counts['same']} without a change, {len(changed)} in the table.")
        if counts["refused"]:
            lines.append(f"{counts['refused']} times and memory figures not compared: they are of different machines.")
        errors = [f"`{it.name}`:\n```\n{it.head.error.strip()}\n```" for it in self.of_kind("failed") if it.head]
        return "\n".join([*lines, *(["", *errors[:3]] if errors else [])]) + "\n"


def judge(base: Side, head: Side, *, same_machine: bool = True, reason: str = "") -> Verdict:
    """The verdict on the samples of base and head, by benchmark.

    Args:
        base, head: a benchmark that has no entry does not exist there, or does not work on this machine.
        same_machine: times and memory are compared only then.
        reason: why there are no samples, where that is known.
    """
    findings = tuple(
        Finding(name, _kind(base.get(name), head.get(name), same_machine), base.get(name), head.get(name))
        for name in sorted({*base, *head})
    )
    lost = [it for it in findings if it.kind in ("failed", "disappeared")]
    worse = [it for it in findings if it.kind == "worse"]
    compared = sum(it.kind in ("same", "better", "worse") for it in findings)
    if compared == 0 and not lost:
        outcome, words = Outcome.NOTHING, f"nothing was measured: {reason or _why_nothing(findings)}"
    elif lost:
        counts = Counter(it.kind for it in lost)
        parts = [f"{counts['failed']} failed"] * bool(counts["failed"])
        parts += [f"{counts['disappeared']} disappeared"] * bool(counts["disappeared"])
        parts += [f"{len(worse)} worse"] * bool(worse)
        outcome, words = Outcome.FAILED, f"a benchmark failed or disappeared: {', '.join(parts)}"
    elif worse:
        first = max(worse, key=_severity)
        outcome = Outcome.REGRESSION
        words = f"regression: {len(worse)} of {compared} worse, the most {first.name}: {first.change}"
    else:
        outcome, words = Outcome.NO_REGRESSION, f"no regression: {compared} compared"
    return Verdict(outcome, words, findings)


def separation(low: Sequence[float], high: Sequence[float]) -> float:
    """The part of all pairs in which the second is the higher."""
    pairs = list(itertools.product(low, high))
    return sum(a < b for a, b in pairs) / len(pairs)


def _kind(base: Measured | None, head: Measured | None, same_machine: bool) -> str:
    if head is None:
        return "disappeared"
    if not head.samples:
        return "failed"
    if base is None or not base.samples:
        return "new"
    rule = RULES[head.unit]
    if rule.one_machine and not same_machine:
        return "refused"
    if _worse(rule, base, head):
        return "worse"
    return "better" if _worse(rule, head, base) else "same"


def _worse(rule: Rule, before: Measured, after: Measured) -> bool:
    old, new = before.best(rule), after.best(rule)
    loss = old - new if rule.higher_is_better else new - old
    if loss <= rule.relative * abs(old) + rule.absolute:
        return False
    if not rule.noisy:
        return True
    low, high = (after, before) if rule.higher_is_better else (before, after)
    return separation(low.samples, high.samples) >= SEPARATION


def _severity(finding: Finding) -> float:
    assert finding.base is not None
    assert finding.head is not None
    rule = RULES[finding.head.unit]
    before, after = finding.base.best(rule), finding.head.best(rule)
    return abs(after - before) / (rule.relative * abs(before) + rule.absolute)


def _why_nothing(findings: Sequence[Finding]) -> str:
    if not findings:
        return "there are no benchmarks"
    kinds = {finding.kind for finding in findings}
    if kinds == {"refused"}:
        return "all are times or memory, and of different machines"
    return "no benchmark ran on both sides"


def _shown(side: Measured | None) -> str:
    if side is None:
        return "–"
    if not side.samples:
        return "failed"
    value = side.best(RULES[side.unit])
    if side.unit == "seconds":
        return f"{value * 1e3:.3g} ms"
    return f"{value / 2**20:.1f} MiB" if side.unit == "bytes" else f"{value:.4g} {side.unit}"
