"""Adapters that are worse than wrong: whatever they do, the suite says what it was and goes on, and nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pcalm_conformance import wire
from pcalm_conformance.checking import TESTS, BrokenImplementation, Check, Nonconformity, NotRun, load_tests
from pcalm_conformance.guest import LONGEST_TEXT, CannotLoad, fit_name
from pcalm_conformance.implementations import numpy_loop
from pcalm_conformance.isolation import OUTPUT, PATIENCE, Clock, Isolated, Workplace, called
from pcalm_conformance.problems import Recipe

CONFORMANCE = Path(__file__).parents[1]
PROBLEM = Recipe().problem()
PLAIN = """
import multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
import numpy as np
import pcalm_conformance.protocol as protocol
from numpy_loop import NumpyLoop

def note(*pids):  # one file per process: a name appears whole or not at all
    for pid in pids:
        Path(f"pid-{pid}").touch()

def spin():
    while True:
        pass

class Adapter(NumpyLoop):
    name = "adapter"
    def solve(self, problem):
        found = super().solve(problem)
        changed = act(problem, found)
        return found if changed is None else changed

impl = Adapter()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Isolated]]:
    """An adapter whose solve() also runs the body of `act(problem, found)`, given as lines, behind other lines."""
    started = []

    def make(act: str, before: str = "", **limits: Any) -> Isolated:
        write(tmp_path, act, before)
        memory_limit = limits.pop("memory_limit", 8 << 30)
        workplace = Workplace(str(tmp_path), memory_limit=memory_limit)
        started.append(Isolated("adapter", "impl", "adapter", workplace, **limits))
        return started[-1]

    yield make
    for one in started:
        one.stop()
    assert not left(tmp_path)


def write(folder: Path, act: str, before: str = "") -> None:
    shutil.copy(numpy_loop.__file__, folder)
    body = "\n".join(f"    {line}" for line in act.splitlines())
    (folder / "adapter.py").write_text(f"{PLAIN}\n{before}\ndef act(problem, found):\n{body}\n", encoding="utf-8")


def noted(folder: Path) -> list[int]:
    return [int(file.name.partition("-")[2]) for file in folder.glob("pid-*")]


def left(folder: Path) -> list[psutil.Process]:
    """Of the processes that the adapter noted, those that run."""
    return [psutil.Process(pid) for pid in noted(folder) if psutil.pid_exists(pid)]


def failure(subject: Isolated) -> str:
    with pytest.raises(BrokenImplementation) as caught:
        subject.solve(PROBLEM)
    return str(caught.value)


def right(subject: Isolated) -> bool:
    found, truth = subject.solve(PROBLEM), numpy_loop.impl.solve(PROBLEM)
    return all(np.array_equal(a, b) for a, b in zip(found.gradients, truth.gradients, strict=True))


def test_a_solution_arrives_as_it_was(start: Callable[..., Isolated]) -> None:
    subject = start("pass")
    assert subject.supports(PROBLEM)
    assert right(subject)
    assert subject.modified == []


BOMB = """
class Bomb:
    def __reduce__(self):
        return os._exit, (0,)
"""


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("found = protocol.Solution(np.full(found.activities.shape, Bomb()), found.multipliers, found.gradients)", ""),
        ("found = protocol.Solution(found.activities.astype(object), found.multipliers, found.gradients)", ""),
        ("found = protocol.Solution(found.activities.astype('>f8'), found.multipliers, found.gradients)", ">f8"),
    ],
)
def test_other_dtypes_are_refused_by_name(start: Callable[..., Isolated], act: str, words: str) -> None:
    subject = start(f"{act}\nreturn found", BOMB)
    assert failure(subject) == f"activities must be float64, got {words or 'object'}"


def test_what_is_patched_in_the_adapters_process_is_not_patched_here(start: Callable[..., Isolated]) -> None:
    patch = """
import pcalm_conformance.guest as guest
guest.misshapen = guest.defects = lambda found, problem: []
np.isfinite = np.array_equal = lambda *_: True
np.abs = lambda array: array * 0
"""
    zeros = "return protocol.Solution(*(0 * part for part in (found.activities, found.multipliers)), found.gradients)"
    load_tests()
    test = TESTS["DYN-9"]
    with pytest.raises(Nonconformity, match="measured"):
        test.run(Check(start(zeros, patch), test.requirement, "quick"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("b'x' * 100", "bytes that are no answer"),
        ("wire.PREFIX.pack(wire.MAGIC, 10, 1 << 40)", "longer than what was asked for"),
        ("wire.PREFIX.pack(wire.MAGIC, 1 << 30, 0)", "longer than what was asked for"),
        ("wire.PREFIX.pack(wire.MAGIC, 3, 0) + b'{x}'", "no JSON"),
        ("wire.PREFIX.pack(wire.MAGIC, 100000, 0) + b'[' * 100000", "no JSON"),
        ("wire.frame([1, 2])", "no JSON object"),
        ("wire.frame({'answer': 1})", "no known kind"),
        ("wire.frame({'misshapen': '', 'modified': ''})", "0 bytes of arrays instead of"),
        ("wire.frame({'misshapen': '', 'modified': ''}) + b'more'", "bytes more than one answer"),
    ],
)
def test_an_answer_of_another_form_is_a_breakdown(start: Callable[..., Isolated], answer: str, words: str) -> None:
    to_every_socket = f"""import stat
from pcalm_conformance import wire
if not Path("done").exists():
    Path("done").touch()
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, {answer})
        except OSError:
            pass
    spin()"""
    subject = start(to_every_socket)
    message = failure(subject)
    assert words in message
    assert "on the suite's connection" in message
    assert right(subject)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("os._exit(0)", "the interpreter ended with status 0 while solve()"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the interpreter was killed by signal 11 (SIGSEGV) while solve()"),
        ("os.killpg(0, signal.SIGKILL)", "the interpreter was killed by signal 9 (SIGKILL) while solve()"),
        ("os.closerange(3, 64); time.sleep(0.2)", "while solve()"),
    ],
)
def test_an_end_is_one_breakdown(start: Callable[..., Isolated], act: str, words: str) -> None:
    subject = start(f"if not Path('done').exists():\n    Path('done').touch()\n    {act}")
    assert words in failure(subject)
    assert right(subject)


def test_an_end_between_two_calls_costs_one_call(start: Callable[..., Isolated]) -> None:
    subject = start("threading.Timer(0.1, os._exit, (3,)).start()")
    assert right(subject)
    assert subject.guest is not None
    # Nobody has asked: what is waited for is the end of all its processes.
    while subject.guest.process.poll() is None:
        time.sleep(0.01)
    assert failure(subject) == "the interpreter ended with status 3 between two calls"
    assert right(subject)


def test_after_three_breakdowns_the_rest_is_not_run(start: Callable[..., Isolated]) -> None:
    subject = start("os._exit(7)")
    for _ in range(PATIENCE):
        failure(subject)
    with pytest.raises(NotRun, match=r"not tried any more after 3 breakdowns, the last: .* status 7"):
        subject.solve(PROBLEM)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("sys.exit('enough')", "solve() raised SystemExit: enough"),
        ("raise KeyboardInterrupt", "solve() raised KeyboardInterrupt"),
        ("raise Silent", "solve() raised Silent: [Silent that cannot be printed: RuntimeError]"),
        ("raise ValueError('x' * 10**7)", "solve() raised ValueError: xxx"),
        (r"raise ValueError('\x1b[2J\r\u202e\ud800')", r"solve() raised ValueError: \x1b[2J\r\u202e\ud800"),
    ],
)
def test_an_exception_is_named_and_placed(start: Callable[..., Isolated], act: str, words: str) -> None:
    silent = "class Silent(Exception):\n    def __str__(self):\n        raise RuntimeError"
    message = failure(start(act, silent))
    assert words in message
    assert "adapter.py" in message
    assert "in act" in message
    assert len(message) < 3 * LONGEST_TEXT


def test_supports_may_raise_too(start: Callable[..., Isolated]) -> None:
    subject = start("pass", "def supports(self, problem):\n    raise LookupError('no')\nAdapter.supports = supports")
    with pytest.raises(BrokenImplementation, match=r"supports\(\) raised LookupError: no"):
        subject.supports(PROBLEM)


TREES = {
    "sleep": "note(subprocess.Popen(['sleep', '3600']).pid)",
    "forks": "for _ in range(23):\n    if (pid := os.fork()) == 0:\n        time.sleep(3600)\n    note(pid)",
    "spin": "process = multiprocessing.Process(target=spin)\nprocess.start()\nnote(process.pid)",
    # In a session of its own, its parent gone, deaf to all that can be ignored.
    "daemon": """if (child := os.fork()) == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        note(os.getpid())
        time.sleep(3600)
    os._exit(0)
os.waitpid(child, 0)
while not list(Path().glob("pid-*")):
    time.sleep(0.01)""",
    "thread": "threading.Thread(target=spin).start()\nnote(os.getpid())",
}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what leaves its session is only found on Linux")
PARAMETERS = [pytest.param(act, marks=LINUX if name == "daemon" else (), id=name) for name, act in TREES.items()]


@pytest.mark.parametrize("act", PARAMETERS)
def test_nothing_outlives_the_adapter(start: Callable[..., Isolated], act: str, tmp_path: Path) -> None:
    subject = start(act)
    assert right(subject)
    assert left(tmp_path)
    subject.stop()
    assert not left(tmp_path)


@pytest.mark.parametrize("act", [TREES["sleep"], TREES["daemon"]], ids=["sleep", "daemon"])
def test_nothing_outlives_a_crash(start: Callable[..., Isolated], act: str, tmp_path: Path) -> None:
    assert "status 5" in failure(start(f"{act}\nos._exit(5)"))
    if sys.platform == "linux":
        assert not left(tmp_path)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("time.sleep(3600)", "in which it only waited (--time-limit)"),
        ("threading.Lock().acquire(); lock = threading.Lock(); lock.acquire(); lock.acquire()", "only waited"),
        ("spin()", "solve() took longer than 1 s, 5 times the limit as the first of its shape (--time-limit)"),
        ("process = multiprocessing.Process(target=spin); process.start(); process.join()", "5 times the limit"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "only waited"),
    ],
)
def test_time_limit(start: Callable[..., Isolated], act: str, words: str) -> None:
    assert words in failure(start(act, time_limit=0.2))


def test_memory_is_that_of_all_processes(start: Callable[..., Isolated]) -> None:
    hoard = "multiprocessing.Process(target=hoard).start(); time.sleep(3600)"
    subject = start(hoard, "def hoard():\n    kept = np.ones(1 << 26)\n    time.sleep(3600)", memory_limit=300 << 20)
    assert "GiB of memory, more than 0.292969 GiB (--memory-limit)" in failure(subject)


@pytest.mark.skipif(sys.platform != "linux", reason="shared pages are told apart on Linux only")
def test_pages_that_forks_share_count_once(start: Callable[..., Isolated]) -> None:
    forks = "pids = [os.fork() for _ in range(3)]\nif 0 in pids:\n    time.sleep(3600)\nnote(*pids)\ntime.sleep(0.3)"
    subject = start(forks, "hoard = np.ones(1 << 24)", memory_limit=500 << 20)  # 128 MiB, in eight processes
    assert right(subject)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_adapters_may_use_processes(start: Callable[..., Isolated], method: str) -> None:
    double = "def double(solution):\n    return solution.activities * 2"
    pool = f"""with multiprocessing.get_context({method!r}).Pool(2) as pool:
    assert np.array_equal(pool.map(double, [found, found])[1], 2 * found.activities)"""
    assert right(start(pool, double))


def test_a_fork_that_comes_back_has_no_say(start: Callable[..., Isolated]) -> None:
    subject = start("os.fork()")
    assert right(subject)
    assert right(subject)


def test_output_is_kept_to_its_end(start: Callable[..., Isolated], capfd: pytest.CaptureFixture[str]) -> None:
    last = r"sys.stderr.write('bye\x1b[2J'); os.write(1, b'\xff'); subprocess.run(['echo', 'now'])"
    subject = start(f"print('x' * (1 << 24)); {last}")
    assert right(subject)
    said = subject.take_output()
    assert said.endswith("bye\\x1b[2J\ufffdnow\n")
    assert len(said) <= OUTPUT + 100
    assert subject.take_output() == ""
    assert capfd.readouterr() == ("", "")


def test_an_adapter_may_clear_up_after_itself(start: Callable[..., Isolated], tmp_path: Path) -> None:
    subject = start("pass", "import atexit\natexit.register(Path('cleared').touch)")
    assert right(subject)
    subject.stop()
    assert (tmp_path / "cleared").exists()


def test_stdin_is_empty(start: Callable[..., Isolated]) -> None:
    assert right(start("assert sys.stdin.read() == ''"))


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("numpy-loop", True),
        ("größer |*|", True),
        ("", False),
        (" padded", False),
        ("two\nlines", False),
        ("\x1b[31mred", False),
        ("a\u202eb", False),
        ("x" * 61, False),
    ],
)
def test_names_are_one_printable_line(name: str, fit: bool) -> None:
    assert fit_name(name) == fit


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("Adapter.name = Bomb()", "'impl' needs a name for the tables, one line of at most 60 printable characters"),
        ("Adapter.name = 'a\\nb'", r"got 'a\nb'"),
        ("sys.exit('no GPU')", "cannot import 'adapter': SystemExit: no GPU (adapter.py, line"),
        ("os._exit(9)", "the interpreter ended with status 9 while loading; it printed: hello"),
        ("Adapter.solve = 3", "'impl' has no solve(problem)"),
        ("spin(", "cannot import 'adapter': SyntaxError: '(' was never closed"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_a_sentence(before: str, words: str, tmp_path: Path) -> None:
    write(tmp_path, "pass", f"{BOMB}\nprint('hello', flush=True)\n{before}")
    with pytest.raises(CannotLoad) as caught:
        called("adapter", ["impl"], Workplace(str(tmp_path)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["random", "types"])  # one that others import on the way, and one that is there before
def test_an_adapter_called_as_a_module_of_pythons_own(name: str, tmp_path: Path) -> None:
    shutil.copy(numpy_loop.__file__, tmp_path / f"{name}.py")
    with pytest.raises(CannotLoad, match=f"'{name}' is a module of Python's own, too: give the adapter's file another"):
        called(name, ["impl"], Workplace(str(tmp_path)))


def test_a_decorator_may_hand_over_further_arguments(tmp_path: Path) -> None:
    """functools.wraps shows the parameters of what is inside, which are not those that a caller gives."""
    (tmp_path / "adapter.py").write_text(
        "import functools\n"
        "from pcalm_conformance.implementations import numpy_loop\n"
        "def with_model(solve):\n"
        "    return functools.wraps(solve)(lambda self, problem: solve(self, 'model', problem))\n"
        "class Decorated(numpy_loop.NumpyLoop):\n"
        "    @with_model\n"
        "    def solve(self, model, problem):\n"
        "        return super().solve(problem)\n"
        "impl = Decorated()\n"
    )
    assert called("adapter", ["impl"], Workplace(str(tmp_path)))[0] == {"impl": "numpy-loop"}


def test_an_interpreter_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(
        CannotLoad, match="has ended without a word, and so has what keeps watch over it, while loading"
    ):
        called("adapter", ["impl"], Workplace(str(tmp_path), python="/bin/true"))


@pytest.mark.parametrize("package", ["pcalm", "reports", "benchmarks", "tests", "conformance"])
@pytest.mark.parametrize("regular", [True, False])
def test_packages_may_be_called_as_ours(package: str, regular: bool, tmp_path: Path) -> None:
    """They win over installed ones, and nothing of this process' path is on theirs."""
    (tmp_path / package).mkdir()
    if regular:
        (tmp_path / package / "__init__.py").touch()
    shutil.copy(numpy_loop.__file__, tmp_path / package / "adapter.py")
    with (tmp_path / package / "adapter.py").open("a") as file:
        file.write(
            "\nimport os, sys\nassert sys.path[0] == os.getcwd()\nNumpyLoop.name = '; '.join(sys.path[1:])[-60:]\n"
        )
        file.write("assert not any(entry.endswith('conformance') for entry in sys.path), sys.path\n")
    assert "impl" in called(f"{package}.adapter", ["impl"], Workplace(str(tmp_path)))[0]


def test_the_suites_examples_need_no_path(tmp_path: Path) -> None:
    found = called("pcalm_conformance.implementations.numpy_loop", ["impl"], Workplace(str(tmp_path)))
    assert found[0] == {"impl": "numpy-loop"}
    assert found[1]["numpy"] == np.__version__


class TestClock:
    """All in seconds of a made-up clock."""

    @staticmethod
    def clock(steps: list[tuple[float, float, bool]], limit: float = 10.0, allowance: float = 0.0) -> Clock:
        clock, now, cpu = Clock(limit, allowance), 0.0, 0.0
        clock.tick(now, cpu, False)
        for passed, got, idle in steps:
            now, cpu = now + passed, cpu + got
            clock.tick(now, cpu, idle)
        return clock

    def test_a_busy_machine_rejects_nobody(self) -> None:
        # 9 s of work, at 2 % and then at 20 % of a core.
        assert not self.clock([(0.1, 0.002, False)] * 500 + [(0.1, 0.02, False)] * 200).over()

    def test_looks_that_come_late_count_little(self) -> None:
        assert not self.clock([(3600, 0, True)] * 9).over()

    def test_many_threads_count_as_one(self) -> None:
        assert not self.clock([(0.1, 1.6, False)] * 99).over()

    def test_what_waits_is_charged_what_passes(self) -> None:
        assert "only waited" in self.clock([(0.1, 0, True)] * 101, allowance=40).over()

    def test_what_computes_has_the_allowance(self) -> None:
        assert not self.clock([(0.1, 0.1, False)] * 499, allowance=40).over()
        assert "longer than 50 s" in self.clock([(0.1, 0.1, False)] * 501, allowance=40).over()

    def test_what_does_next_to_nothing_ends(self) -> None:
        assert self.clock([(0.1, 0.001, False)] * 1100).over()


def test_a_problem_survives_the_wire() -> None:
    for recipe in (Recipe(), Recipe(method="pc", start="random", dtype="float32"), Recipe(method="bp", depth=3)):
        problem = recipe.problem()
        description, arrays = wire.described(problem)
        incoming = wire.Incoming()
        received = [
            found for byte in wire.frame({"problem": description}, arrays) if (found := incoming.add(bytes([byte])))
        ]
        assert len(received) == 1
        again = wire.restored(received[0][0]["problem"], received[0][1])
        assert wire.described(again)[0] == description
        for mine, right_one in zip(wire.described(again)[1], arrays, strict=True):
            assert mine.dtype == right_one.dtype
            assert np.array_equal(mine, right_one)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_pytest(number: signal.Signals, tmp_path: Path) -> None:
    tree = f"{TREES['sleep']}\n{TREES['spin']}" + (f"\n{TREES['daemon']}" if sys.platform == "linux" else "")
    write(tmp_path, f"{tree}\nnote(os.getpid(), os.getppid())\nPath('ready').touch()\nspin()")
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(CONFORMANCE),
        "-p",
        "no:cacheprovider",
        "-q",
        "--requirement",
        "MOD-1",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with subprocess.Popen(
        [*command, "--implementation", "adapter:impl", "--quick"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as suite:
        while not (tmp_path / "ready").exists():
            assert suite.poll() is None
            time.sleep(0.05)
        assert len(left(tmp_path)) >= 4
        suite.send_signal(number)
        suite.wait(60)
    _, alive = psutil.wait_procs(left(tmp_path), timeout=60)
    assert not alive


def test_a_watch_that_is_killed_takes_the_adapter_along(start: Callable[..., Isolated], tmp_path: Path) -> None:
    subject: Any = start("os.kill(os.getppid(), signal.SIGKILL); note(os.getpid()); time.sleep(3600)")
    message = failure(subject)
    assert "while solve()" in message
    _, alive = psutil.wait_procs(left(tmp_path), timeout=60)
    assert sys.platform != "linux" or not alive
