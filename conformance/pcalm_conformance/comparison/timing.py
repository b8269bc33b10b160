"""How long one gradient takes: implementations in turns, on problems that they have never seen, with answers that are
held against the oracle's.

A round gives every implementation a turn, in an order that is drawn anew; a turn is as many calls as fill TURN
seconds, and counts with its best call. From the clocks of a call (`clocks.py`) goes what an adapter that does nothing
needs for the same problem: the suite's own share. Then

    time of a gradient = call + max(0, prepare − FREE · call)

so that conversions cost nothing while they are small beside the call, and nothing is gained by computing in `prepare`:
of work W, moved there in whatever part, FREE/(1 + FREE) is the most that is saved. CPU time that is used between two
calls is charged to the next one. Only receiving the problem, at which an adapter has no part, is free, up to HELD times
what it takes the one that does nothing: it varies more than all else.

Every call has a problem of its own, so that there is nothing to remember, and every answer is checked: one that is off
by more than rounding, and the implementation has no time in this cell with this method.

A ratio to a yardstick is the median over the rounds of the ratios in the same round: what slows the machine for a while
slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pcalm_conformance.checking import BrokenImplementation, NotRun
from pcalm_conformance.comparison import clocks, yardsticks
from pcalm_conformance.comparison.cells import Cell, Copies, Copy, Truth, flops
from pcalm_conformance.comparison.clocks import Spent
from pcalm_conformance.guest import defects, solution
from pcalm_conformance.isolation import Isolated
from pcalm_conformance.protocol import Problem

FREE = 0.05  # the resolution of the comparison
TURN = 0.03  # seconds, or MOST calls
MOST = 25
HELD = 2.0
SHARE = 12.0  # seconds in all rounds of a cell and method; whoever has had them ends after LEAST rounds
LEAST = 3
BUSY = 0.1  # part of the time spent in line for a core, from which a wall time is no measure of anything


class Disagreement(Exception):
    """An answer that is wrong; the message says by how much."""


@dataclass(frozen=True)
class Call:
    """One gradient on the clocks: making ready for the problem, and the answer; before these, what is used between two
    calls, and what receiving the problem takes, in seconds of CPU time."""

    prepare: Spent
    answer: Spent
    between: float = 0.0
    held: float = 0.0

    @property
    def whole(self) -> Spent:
        return self.prepare + self.answer


class Contender:
    """An implementation whose calls are measured.

    Args:
        isolated: what runs it.
        trusted: whether its answers are no answers, and are not looked at: a yardstick.
    """

    def __init__(self, isolated: Isolated, trusted: bool = False) -> None:
        self.isolated, self.trusted = isolated, trusted
        self.last: clocks.Reading | None = None  # at the end of the last call
        self.worst = 0.0  # the largest disagreement so far

    @property
    def name(self) -> str:
        return self.isolated.name

    def measure(self, copy: Copy) -> Call:
        """One gradient, checked.

        Raises:
            Disagreement: it is wrong.
            BrokenImplementation: there is none.
            NotRun: it has broken down too often to be asked again.
        """
        one, problem = self.isolated, copy.problem
        start = self._read()
        between = start.computing - self.last.computing if self.last else 0.0
        one.hold(problem)
        mine, ready = clocks.own(), self._read()
        if one.prepares:
            one.prepare(problem)
        mine_prepared, prepared = clocks.own(), self._read()
        found = one.gradients(problem)
        mine_answered, self.last = clocks.own(), self._read()
        self._check(found, copy)
        prepare = clocks.between(ready, prepared, (mine, mine_prepared)) if one.prepares else clocks.NOTHING
        answer = clocks.between(prepared, self.last, (mine_prepared, mine_answered))
        return Call(prepare, answer, between, ready.computing - start.computing)

    def solve(self, problem: Problem) -> tuple[Sequence[np.ndarray], float]:
        """The gradients of solve(), checked for form alone, and their seconds.

        Raises:
            Disagreement, BrokenImplementation, NotRun: as `measure`.
        """
        before = self.last or self._read()
        mine = clocks.own()
        found = self.isolated.gradients(problem)
        mine_answered, self.last = clocks.own(), self._read()
        if wrong := defects(solution(list(found), problem), problem):
            raise Disagreement("; ".join(wrong))
        started = clocks.Reading(mine.wall, before.computing, before.queued)
        return found, clocks.between(started, self.last, (mine, mine_answered)).time

    def _read(self) -> clocks.Reading:
        return clocks.read(self.isolated.pid)

    def _check(self, found: Sequence[np.ndarray], copy: Copy) -> None:
        if self.trusted:
            return
        if wrong := defects(solution(list(found), copy.problem), copy.problem):
            raise Disagreement("; ".join(wrong))
        off = copy.truth.disagreement(found)
        self.worst = max(self.worst, off)
        if not off <= 1:
            raise Disagreement(f"its gradients are wrong: the error is {off:.3g} times what rounding explains")


@dataclass(frozen=True)
class Round:
    """One turn of an implementation, in seconds of its best call, the suite's own share taken off.

    Attributes:
        seconds: the time of a gradient.
        call, prepare: what it is made of.
        waiting: part of both.
        wall: what passed meanwhile.
        queued: of that, in line for a core.
        product: seconds of a product of the same flops in this round; baseline: of the baseline (None: it had no turn).
    """

    seconds: float
    call: float
    prepare: float
    waiting: float
    wall: float
    queued: float
    product: float | None = None
    baseline: float | None = None


@dataclass
class Times:
    """What is known of one implementation in one cell with one method.

    Attributes:
        how: "prepare" or "solve", which of them was timed.
        missing: why there is no time.
        agreement: the largest error of any answer over its bound.
        flops: of the products of one gradient.
        first: seconds of the first call of all, and what passed: compilers work there.
        suite: seconds of the suite's own share, which was taken off: a time that is less is a rough one.
        rounds: one for each turn.
    """

    how: str = ""
    missing: str = ""
    agreement: float | None = None
    flops: float = 0.0
    first: dict[str, float] = field(default_factory=dict)
    suite: float = 0.0
    rounds: list[Round] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | figures(self.rounds)


def figures(rounds: Sequence[Round]) -> dict[str, float | None]:
    """What the tables show of the rounds; empty where there are none."""
    if not rounds:
        return {}
    middle = {
        name: statistics.median(getattr(one, name) for one in rounds)
        for name in ("seconds", "call", "prepare", "waiting", "wall")
    }
    wall = sum(one.wall for one in rounds)
    found: dict[str, float | None] = {**middle, "busy": sum(one.queued for one in rounds) / wall if wall else 0.0}
    for name in ("product", "baseline"):
        ratios = [each / one.seconds for one in rounds if (each := getattr(one, name)) is not None and one.seconds > 0]
        found[f"times_{name}"] = statistics.median(ratios) if ratios else None
    return found


def charged(call: float, prepare: float) -> float:
    """The time of a gradient."""
    return call + max(0.0, prepare - FREE * call)


Turn = tuple[int, str, Call]  # round, contender, its best call


def time_method(
    cell: Cell,
    method: str,
    right: Truth,
    contenders: dict[str, Contender],
    rounds: int,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Times]:
    """The times of all contenders but the yardsticks.

    Args:
        contenders: by a key of their own; "nothing", "product" and "baseline" are the yardsticks.
        rounds: how many turns each has, at most.
        tell: is told what happens.
    """
    problem = cell.problem(method)
    copies = Copies(problem, right, seed=0)
    found = {key: Times(flops=flops(problem)) for key in contenders}
    calls: dict[str, int] = {}
    for key, one in contenders.items():
        tell(f"{cell.name} {method}: first call of {one.name}")
        one.worst = 0.0
        with blaming(found[key]):
            if not one.isolated.supports(problem):
                found[key].missing = "unsupported"
                continue
            found[key].how = "prepare" if one.isolated.prepares else "solve"
            first = one.measure(copies.draw()).whole
            found[key].first = {"seconds": first.time, "wall": first.wall}
            warm = one.measure(copies.draw()).whole.time
            calls[key] = max(1, min(MOST, round(TURN / max(warm, 1e-6))))
    spent, turns = dict.fromkeys(calls, 0.0), list[Turn]()
    # Who runs behind whom is left to chance: what runs behind its like finds warm caches.
    shuffled = np.random.default_rng(0)
    for index in range(rounds):
        order = [key for key in calls if not found[key].missing and (spent[key] < SHARE or index < LEAST)]
        for key in shuffled.permutation(order).tolist():
            tell(f"{cell.name} {method}: round {index + 1} of {rounds}, {contenders[key].name}")
            with blaming(found[key]):
                made = [contenders[key].measure(copies.draw()) for _ in range(calls[key])]
                spent[key] += sum(one.whole.time for one in made)
                turns.append((index, key, min(made, key=lambda one: one.whole.time)))
    for key, one in contenders.items():
        found[key].agreement = one.worst if found[key].how and not one.trusted else None
    _count(turns, found)
    return found


@contextmanager
def blaming(times: Times) -> Iterator[None]:
    """What goes wrong with an implementation is why it has no time."""
    try:
        yield
    except (Disagreement, BrokenImplementation, NotRun) as error:
        times.missing = str(error).splitlines()[0]


def _count(turns: Sequence[Turn], found: dict[str, Times]) -> None:
    """Puts the rounds into `found`, but of those for which something is missing."""
    own = [call for _, key, call in turns if key == "nothing"]
    suite = {
        half: statistics.median([getattr(call, half).time for call in own] or [0.0]) for half in ("prepare", "answer")
    }
    free = HELD * statistics.median([call.held for call in own] or [0.0])
    for times in found.values():
        times.suite = suite["answer"] + (suite["prepare"] if times.how == "prepare" else 0.0)
    by_round: dict[int, dict[str, Round]] = {}
    for index, key, call in turns:
        ready = max(0.0, call.prepare.time - suite["prepare"]) if call.prepare is not clocks.NOTHING else 0.0
        answer = max(0.0, call.answer.time - suite["answer"]) + call.between + max(0.0, call.held - free)
        whole = call.whole
        by_round.setdefault(index, {})[key] = Round(
            charged(answer, ready), answer, ready, whole.waiting, whole.wall, whole.queued
        )
    for turn in by_round.values():
        product = turn["product"].seconds / yardsticks.PRODUCT_FLOPS if "product" in turn else None
        baseline = turn["baseline"].seconds if "baseline" in turn else None
        for key, one in turn.items():
            if not found[key].missing:
                same = None if product is None else product * found[key].flops
                found[key].rounds.append(Round(**asdict(one) | {"product": same, "baseline": baseline}))
