"""The gate's verdict on recorded samples, and what it keeps and refuses."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, repository
from benchmarks.compare import Samples, collect, environment, label
from benchmarks.verdict import RULES, Measured, Outcome, Verdict, judge, separation

# CPU seconds of bench_gradient.Time.time_gradients(method=pcalm, engine=cpu, width=32, depth=16), six processes of each
# side, as the gate recorded them on two cores with four times as many processes: a commit beside one that adds a text
# file, and beside one whose sweep loads every weight once per vector (ROWS = 1).
UNCHANGED = (
    (0.0006004, 0.0006675, 0.0006049, 0.0006024, 0.0006562, 0.0005929),
    (0.0005948, 0.0006772, 0.0005859, 0.0006087, 0.0006132, 0.0006044),
)
SLOWED = (
    (0.0005905, 0.0006121, 0.0006220, 0.0005936, 0.0006369, 0.0005934),
    (0.0009804, 0.0009589, 0.0010070, 0.0009842, 0.0011310, 0.0010100),
)
NAME = "bench_gradient.Time.time_gradients(method=pcalm, engine=cpu)"


def seconds(*samples: float) -> Measured:
    return Measured("seconds", samples)


def verdict(unit: str, base: float, head: float) -> Outcome:
    return judge({NAME: Measured(unit, (base,))}, {NAME: Measured(unit, (head,))}).outcome


def test_unchanged() -> None:
    found = judge({NAME: seconds(*UNCHANGED[0])}, {NAME: seconds(*UNCHANGED[1])})
    assert found.outcome is Outcome.NO_REGRESSION
    assert found.words == "no regression: 1 compared"
    assert NAME not in found.markdown()
    assert "1 without a change, 0 in the table." in found.markdown()


def test_slowed() -> None:
    found = judge({NAME: seconds(*SLOWED[0])}, {NAME: seconds(*SLOWED[1])})
    assert found.outcome is Outcome.REGRESSION
    assert found.words == f"regression: 1 of 1 worse, the most {NAME}: × 1.62"
    assert f"| worse | `{NAME}` | 0.591 ms | 0.959 ms | × 1.62 |" in found.markdown()


def test_faster_is_reported() -> None:
    found = judge({NAME: seconds(*SLOWED[1])}, {NAME: seconds(*SLOWED[0])})
    assert found.outcome is Outcome.NO_REGRESSION
    assert f"| better | `{NAME}` |" in found.markdown()


def test_slower_but_not_by_enough() -> None:
    limit = RULES["seconds"].relative
    base = {NAME: seconds(*(1 + i / 1000 for i in range(6)))}
    head = {NAME: seconds(*((1 + limit) * 0.99 + i / 1000 for i in range(6)))}
    assert separation(base[NAME].samples, head[NAME].samples) == 1
    assert judge(base, head).outcome is Outcome.NO_REGRESSION


def test_slower_by_enough_but_samples_overlap() -> None:
    base, head = {NAME: seconds(1.0, 1.9, 2.0, 2.1)}, {NAME: seconds(1.5, 1.9, 2.0, 2.1)}
    assert separation(base[NAME].samples, head[NAME].samples) < 0.9
    assert judge(base, head).outcome is Outcome.NO_REGRESSION


def test_one_slow_process_of_base_does_not_hide_a_regression() -> None:
    base, head = (1.0, 1.0, 1.0, 1.0, 1.0, 1.45), (1.4, 1.5, 1.5, 1.5, 1.5, 1.5)
    assert separation(base, head) == pytest.approx(35 / 36)
    assert judge({NAME: seconds(*base)}, {NAME: seconds(*head)}).outcome is Outcome.REGRESSION


def test_separation_by_chance() -> None:
    """Of all 924 ways to deal 12 ranks to two sides, 7 put head above base in 9 of 10 pairs."""
    separated = 0
    for low in itertools.combinations(range(12), 6):
        separated += separation(low, [rank for rank in range(12) if rank not in low]) >= 0.9
    assert separated == 7


@pytest.mark.parametrize(
    ("unit", "base", "worse"),
    [
        ("cosine", 0.93, 0.927),
        ("relative error", 0.38, 0.386),
        ("T/L", 1.25, 1.5),
        ("test accuracy", 0.83, 0.80),
        ("bytes", 80e6, 99e6),
        ("times BP", 1.6, 2.2),
        ("times sgemm", 0.8, 1.1),
    ],
)
def test_each_unit_has_its_threshold_and_direction(unit: str, base: float, worse: float) -> None:
    slight = base + (worse - base) / 4
    assert verdict(unit, base, worse) is Outcome.REGRESSION
    assert verdict(unit, worse, base) is Outcome.NO_REGRESSION
    if unit != "T/L":  # which moves in steps
        assert verdict(unit, base, slight) is Outcome.NO_REGRESSION


def test_failed() -> None:
    head = {NAME: Measured("seconds", error="ZeroDivisionError: division by zero"), "other": seconds(1.0)}
    found = judge({NAME: seconds(1.0), "other": seconds(1.0)}, head)
    assert found.outcome is Outcome.FAILED
    assert found.words == "a benchmark failed or disappeared: 1 failed"
    assert "ZeroDivisionError" in found.markdown()


def test_failed_on_both_sides() -> None:
    """Head's benchmarks run on both, so that a broken one breaks on base too."""
    broken = {NAME: Measured("seconds", error="boom")}
    assert judge(broken, broken).outcome is Outcome.FAILED


def test_disappeared() -> None:
    found = judge({NAME: seconds(1.0), "other": seconds(1.0)}, {"other": seconds(1.0)})
    assert found.outcome is Outcome.FAILED
    assert found.words == "a benchmark failed or disappeared: 1 disappeared"
    assert f"| disappeared | `{NAME}` | 1e+03 ms | – |" in found.markdown()


def test_a_failure_does_not_hide_a_regression_nor_the_other_way_round() -> None:
    base = {NAME: Measured("cosine", (0.9,)), "other": seconds(1.0)}
    found = judge(base, {NAME: Measured("cosine", (0.5,))})
    assert found.outcome is Outcome.FAILED
    assert found.words.endswith("1 disappeared, 1 worse")


def test_new_is_reported_and_not_failed() -> None:
    found = judge({"other": seconds(1.0)}, {"other": seconds(1.0), NAME: seconds(1.0)})
    assert found.outcome is Outcome.NO_REGRESSION
    assert f"| new | `{NAME}` | – |" in found.markdown()


def test_what_fails_on_base_alone_is_new() -> None:
    base = {"other": seconds(1.0), NAME: Measured("seconds", error="no such function")}
    assert judge(base, {"other": seconds(1.0), NAME: seconds(1.0)}).outcome is Outcome.NO_REGRESSION


@pytest.mark.parametrize(
    ("base", "head"),
    [
        ({}, {}),
        ({}, {NAME: seconds(1.0)}),
        ({NAME: Measured("seconds", error="no such function")}, {NAME: seconds(1.0)}),
    ],
    ids=["empty", "only new", "all fail on base"],
)
def test_nothing_measured(base: dict[str, Measured], head: dict[str, Measured]) -> None:
    found = judge(base, head)
    assert found.outcome is Outcome.NOTHING
    assert found.words.startswith("nothing was measured: ")


def test_outcomes_have_exit_statuses_of_their_own() -> None:
    """0 for success; neither 1, which a crash of Python gives, nor 2, which a bad command line gives."""
    statuses = [outcome.value for outcome in Outcome]
    assert len(set(statuses)) == 4
    assert Outcome.NO_REGRESSION.value == 0
    assert not {1, 2} & set(statuses)


def test_other_machine_refuses_times_and_compares_the_rest() -> None:
    base = {NAME: seconds(1.0), "memory": Measured("bytes", (1e9,)), "cosine": Measured("cosine", (0.9,))}
    head = {NAME: seconds(9.0), "memory": Measured("bytes", (9e9,)), "cosine": Measured("cosine", (0.9,))}
    found = judge(base, head, same_machine=False)
    assert found.outcome is Outcome.NO_REGRESSION
    assert "2 times and memory figures not compared: they are of different machines." in found.markdown()
    head["ratio"], base["ratio"] = Measured("times BP", (5.0,)), Measured("times BP", (1.0,))
    assert judge(base, head, same_machine=False).outcome is Outcome.REGRESSION


def test_other_machine_with_times_alone() -> None:
    found = judge({NAME: seconds(1.0)}, {NAME: seconds(1.0)}, same_machine=False)
    assert found.outcome is Outcome.NOTHING
    assert "different machines" in found.words


# What the command does: labels, memory, files, refusals.

TIME: dict[str, Any] = {
    "name": "suite.Time.time_it",
    "params": [["'pc'", "'bp'"], ["8"]],
    "param_names": ["method", "width"],
    "unit": "seconds",
    "type": "time",
    "version": "1",
}
PEAK: dict[str, Any] = {**TIME, "name": "suite.Memory.peakmem_it", "unit": "bytes", "type": "peakmemory"}
EMPTY: dict[str, Any] = {**PEAK, "name": "suite.Memory.peakmem_reference"}


def test_label() -> None:
    assert label(TIME, 1) == "suite.Time.time_it(method=bp, width=8)"
    assert label({**TIME, "params": [], "param_names": []}, 0) == "suite.Time.time_it"


def test_memory_is_what_exceeds_the_reference() -> None:
    samples = Samples(values={PEAK["name"]: {0: [500.0, 510.0]}, EMPTY["name"]: {0: [300.0, 290.0]}})
    found = collect({it["name"]: it for it in (PEAK, EMPTY)}, samples)
    assert found == {"suite.Memory.peakmem_it(method=pc, width=8)": Measured("bytes", (210.0, 220.0))}


class Session(compare.Session):
    """A session that has already been measured."""

    def __init__(self, conf: Any, env: Any) -> None:
        self.conf, self.env = conf, env
        self.benchmarks = {TIME["name"]: TIME}


@pytest.fixture
def commit() -> str:
    try:
        return repository.git(compare.ROOT, "rev-parse", "HEAD")
    except repository.GitError as error:
        pytest.skip(f"there is no commit to keep results of: {error}")


def test_samples_are_kept_by_machine_and_read_again(tmp_path: Path, commit: str) -> None:
    conf, env = environment(compare.ROOT, "existing")
    session = Session(conf, env)
    samples = Samples(values={TIME["name"]: {0: [0.25, 0.5]}}, unsupported={(TIME["name"], 1)})
    session.save(tmp_path, compare.ROOT, commit, samples)
    (path,) = tmp_path.glob(f"*/{commit[:8]}-*.json")
    benchmarks, again, machine = compare.read(path)
    assert collect(benchmarks, again) == {"suite.Time.time_it(method=pc, width=8)": seconds(0.25, 0.5)}
    assert machine["machine"] == path.parent.name
    assert compare.stored(path, path).outcome is Outcome.NO_REGRESSION

    elsewhere = tmp_path / "elsewhere" / path.name
    elsewhere.parent.mkdir()
    record = json.loads(path.read_text())
    record["params"]["cpu"] = "another CPU"
    elsewhere.write_text(json.dumps(record))
    assert compare.stored(path, elsewhere).outcome is Outcome.NOTHING


def test_the_files_of_a_commit_are_put_beside_the_repository(tmp_path: Path, commit: str) -> None:
    repository.export(compare.ROOT, commit, tmp_path / "tree")
    path = "pcalm/dynamics.py"
    stored = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=compare.ROOT, capture_output=True, check=True)
    assert (tmp_path / "tree" / path).read_bytes() == stored.stdout


def test_a_failure_is_kept_too(tmp_path: Path, commit: str) -> None:
    conf, env = environment(compare.ROOT, "existing")
    session = Session(conf, env)
    session.save(tmp_path, compare.ROOT, commit, Samples(values={TIME["name"]: {0: [0.25]}}, errors={}))
    (path,) = tmp_path.glob(f"*/{commit[:8]}-*.json")
    _, again, _ = compare.read(path)
    assert set(again.errors[TIME["name"]]) == {1}
    assert not math.isnan(again.values[TIME["name"]][0][0])


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = compare.main(list(arguments))
    return status, capsys.readouterr().out


def test_a_file_that_is_no_result_is_nothing_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "machine" / "result.json"
    file.parent.mkdir()
    file.write_text("{}")
    status, said = run("--stored", str(file), str(file), capsys=capsys)
    assert status == Outcome.NOTHING.value
    assert str(file) in said


def test_an_unknown_commit_is_nothing_measured(commit: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run("no-such-commit", commit, capsys=capsys)
    assert status == Outcome.NOTHING.value
    assert "'no-such-commit' is no commit" in said


def test_an_interpreter_that_is_not_there_is_nothing_measured(tmp_path: Path) -> None:
    text = (compare.ROOT / "asv.conf.json").read_text()
    (tmp_path / "asv.conf.json").write_text(text.replace('"matrix"', '"pythons": ["3.99"], "matrix"'))
    with pytest.raises(compare.UnmeasurableError, match="is its Python installed"):
        environment(tmp_path, None)


@pytest.mark.parametrize("arguments", [[], ["HEAD", "--stored", "a", "b"], ["HEAD", "--rounds", "0"]])
def test_command_lines_that_make_no_sense(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        compare.main(arguments)
    assert "error: " in capsys.readouterr().err


def test_summary_is_appended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    _, said = run("--stored", "a", "b", "--summary", str(summary), capsys=capsys)
    assert summary.read_text() + "\n" == "before\n" + said


def test_errors_are_shown_in_full_for_a_few() -> None:
    head = {f"{NAME}{number}": Measured("seconds", error="boom") for number in range(5)}
    found: Verdict = judge({name: seconds(1.0) for name in head}, head)
    assert found.markdown().count("boom") == 3


def test_a_server_that_is_gone_is_nothing_measured() -> None:
    class Gone:
        def run(self, **_: object) -> None:
            raise RuntimeError("did not receive data from socket")

    session = Session(None, None)
    session.benchmarks = {TIME["name"]: {**TIME, "timeout": 1.0}}
    session.samples, session.servers = [Samples(), Samples()], [Gone(), Gone()]
    with pytest.raises(compare.UnmeasurableError, match="is gone: did not receive"):
        session.sample(1, TIME["name"], 0)


def test_a_confirmation_replaces_the_samples_of_noisy_suspects_each_from_servers_of_its_own() -> None:
    cosine = {**TIME, "name": "suite.Accuracy.track_cosine", "unit": "cosine"}
    started: list[None] = []
    sampled: list[tuple[int, str, int, int]] = []

    class Fresh(Session):
        def start(self) -> None:
            started.append(None)

        def sample(self, side: int, name: str, index: int) -> None:
            sampled.append((side, name, index, len(started)))

    session = Fresh(None, None)
    session.benchmarks = session.known = {it["name"]: it for it in (TIME, PEAK, EMPTY, cosine)}
    session.samples = [Samples(values={name: {0: [1.0], 1: [2.0]} for name in session.benchmarks}) for _ in range(2)]
    session.confirm([(PEAK["name"], 0), (cosine["name"], 0)])
    for samples in session.samples:
        assert samples.values[PEAK["name"]] == samples.values[EMPTY["name"]] == {1: [2.0]}
        assert samples.values[TIME["name"]] == samples.values[cosine["name"]] == {0: [1.0], 1: [2.0]}
    turns = range(1, compare.CONFIRMATIONS + 1)
    assert set(sampled) == {(side, it["name"], 0, turn) for side in (0, 1) for it in (PEAK, EMPTY) for turn in turns}
    assert len(sampled) == len(set(sampled))

    session.confirm([(cosine["name"], 0)])
    assert len(started) == compare.CONFIRMATIONS


def test_listing_that_is_ended_is_not_a_disappearance(tmp_path: Path) -> None:
    from asv import util

    class Environment:
        def run(self, *_: object, **__: object) -> None:
            raise util.ProcessError([], -15, "", "")

    (tmp_path / "benchmarks").mkdir()

    with pytest.raises(compare.UnmeasurableError, match="is gone"):
        compare.discover(None, Environment(), tmp_path)
