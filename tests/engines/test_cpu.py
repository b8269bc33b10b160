"""The CPU engine: equal to the reference, the same bits however it is run, and every way in which a build fails."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pcalm import dynamics
from pcalm.dynamics import State
from pcalm.engines import Solution, reference, sweep
from pcalm.methods import BP, PCALM, Method
from pcalm.network import ACTIVATIONS, DTYPES, ResidualMLP
from tests.conftest import assert_near, rounding
from tests.engines.engine_cases import FORMS, METHODS, SEEDS, layered, problem, without_multipliers

# With a compiler a build that fails is a failed test; without one the engine is said to be unavailable, tested below.
needs_compiler = pytest.mark.skipif(
    shutil.which(shlex.split(os.environ.get("CXX") or "c++")[0]) is None, reason="no C++ compiler on PATH"
)


def tensors(solution: Solution) -> tuple[Tensor, ...]:
    return (*solution.state, *solution.gradients)


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives the number of torch's threads back as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_agrees(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None) -> None:
    """The engine's state against the reference's, both its weight gradients at its own state, in float64."""
    initial = without_multipliers(initial, method)
    found = sweep.solve(net, method, x, y, initial)
    double = ResidualMLP.from_weights([weight.double() for weight in net.weights], net.activation)
    start = None if initial is None else State(*(part.double() for part in initial))
    truth = reference.solve(double, method, x.double(), y.double(), start)
    bound = rounding(net, 1 if isinstance(method, BP) else method.steps * method.inner_steps)
    for part, exact in zip(found.state, truth.state, strict=True):
        assert part.dtype == net.dtype
        assert_near(part.double(), exact, bound)
    own = dynamics.gradients(double, method, x.double(), y.double(), State(*(part.double() for part in found.state)))
    for gradient, exact, scale in zip(found.gradients, own, net.scales, strict=True):
        assert gradient.dtype == net.dtype
        assert_near(gradient.double() / scale, exact / scale, rounding(net))


def off_the_kink(net: ResidualMLP, method: Method, batch: int, start: bool) -> tuple[Tensor, Tensor, State | None]:
    """A problem in float32 of samples whose units all keep a distance from relu's kink that rounding does not bridge.

    A unit within rounding of zero may take either side, and then its sample goes another way by more than rounding.
    """
    double = ResidualMLP.from_weights([weight.double() for weight in net.weights], net.activation)
    x, y, initial = problem(net, 16 * batch, start=start)
    initial = without_multipliers(initial, method)
    begin = None if initial is None else State(*(part.double() for part in initial))
    visited: list[Tensor] = [double.feedforward(x.double()) if begin is None else begin.activities]
    dynamics.infer(double, method, x.double(), y.double(), begin, lambda t, q, z: visited.append(z))
    states = torch.stack(visited).detach()
    distance, size = states.abs().amin(dim=(0, 1, 3)), max(1.0, float(states.abs().max()))
    chosen = (distance > rounding(net) * size).nonzero()[:batch, 0]
    assert len(chosen) == batch
    return x[chosen], y[chosen], None if initial is None else State(*(part[:, chosen] for part in initial))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_agrees_with_the_reference(method: Method, activation: str, dtype: torch.dtype) -> None:
    for shape, batch in (((3, 1, 1, 1), 1), ((4, 7, 70, 3), 33), ((9, 13, 5, 11), 70), ((6, 32, 784, 10), 33)):
        net = ResidualMLP(*shape, activation, dtype=dtype)
        for start in (False, True) if method.name != "bp" else (False,):
            if activation == "relu" and dtype == torch.float32:
                assert_agrees(net, method, *off_the_kink(net, method, batch, start))
            else:
                assert_agrees(net, method, *problem(net, batch, start=start))


@needs_compiler
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_settings_of_a_layers_own(form: str, activation: str) -> None:
    for depth in (4, 8):
        net = ResidualMLP(depth, 7, 6, 3, activation, seed=SEEDS[form], dtype=torch.float64)
        for start in (False, True):
            for method in layered(net, form):
                assert_agrees(net, method, *problem(net, 9, start=start))


# Rows of a product go 8 or 6 at a time, then 4, 2, 1; a tile has 4 to 32 samples; inputs go 64 at a time.
@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_width_or_batch_has_a_wrong_tail(dtype: torch.dtype) -> None:
    widths = [(width, 5, 3, 6) for width in (*range(1, 20), 31, 33)]
    batches = [(5, 4, 3, batch) for batch in (*range(1, 10), 15, 16, 17, 31, 32, 33, 63, 65)]
    ends = [(3, inputs, outputs, 5) for inputs, outputs in ((1, 12), (63, 1), (64, 2), (65, 7), (129, 17))]
    for width, inputs, outputs, batch in widths + batches + ends:
        net = ResidualMLP(4, width, inputs, outputs, "tanh", dtype=dtype)
        for start in (False, True):
            assert_agrees(net, PCALM(3, 0.2, credit="after"), *problem(net, batch, start=start))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", [METHODS["bp"], METHODS["anchored, credit after"]])
@pytest.mark.usefixtures("threads")
def test_results_depend_on_neither_threads_nor_replicas_nor_repetition(method: Method, dtype: torch.dtype) -> None:
    nets = ResidualMLP(6, 9, 70, 3, seed=[3, 4, 5], dtype=dtype)
    x, y, _ = problem(nets, 70)
    torch.set_num_threads(1)
    expected = tensors(sweep.solve(nets, method, x, y, None))
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        packed = tensors(sweep.solve(nets, method, x, y, None))
        assert all(map(torch.equal, packed, expected))
        for r in range(3):
            single = tensors(sweep.solve(nets.replica(r), method, x[r], y[r], None))
            assert all(torch.equal(part, whole[r]) for part, whole in zip(single, expected, strict=True))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_state_of_a_sample_does_not_depend_on_its_batch(dtype: torch.dtype) -> None:
    net = ResidualMLP(6, 9, 70, 3, "tanh", dtype=dtype)
    x, y, initial = problem(net, 70, start=True)
    assert initial is not None
    for start in (None, initial):
        whole = sweep.solve(net, METHODS["pcalm"], x, y, start).state
        for part in (slice(5, 6), slice(5, 40), slice(69, 70)):
            own = None if start is None else State(start[0][:, part], start[1][:, part])
            some = sweep.solve(net, METHODS["pcalm"], x[part], y[part], own).state
            assert all(torch.equal(a, b[:, part]) for a, b in zip(some, whole, strict=True))


@needs_compiler
def test_step_sizes_by_replica_and_a_shared_batch() -> None:
    sizes = (0.1, 0.2, 0.3)
    nets = ResidualMLP(6, 5, 4, 3, "tanh", seed=[3, 4, 5], dtype=torch.float64)
    x, y, _ = problem(nets.replica(0), 7)
    packed = tensors(sweep.solve(nets, PCALM(7, sizes), x.expand(3, -1, -1), y.expand(3, -1, -1), None))
    for r, size in enumerate(sizes):
        single = tensors(sweep.solve(nets.replica(r), PCALM(7, size), x, y, None))
        assert all(torch.equal(part, whole[r]) for part, whole in zip(single, packed, strict=True))


@needs_compiler
def test_arguments_keep_their_values_and_may_lie_in_memory_as_they_like() -> None:
    net = ResidualMLP(6, 5, 4, 3)
    x, y, initial = problem(net, 7, start=True)
    assert initial is not None
    before = [part.detach().clone() for part in (*net.parameters(), x, y, *initial)]
    expected = tensors(sweep.solve(net, PCALM(4, 0.2), x, y, initial))
    assert all(map(torch.equal, before, (*net.parameters(), x, y, *initial)))
    assert not any(part.requires_grad for part in expected)
    turned = [part.mT.contiguous().mT for part in (x, y, *initial)]
    columns = ResidualMLP.from_weights([weight.mT.contiguous().mT for weight in net.weights])
    found = tensors(sweep.solve(columns, PCALM(4, 0.2), turned[0], turned[1], State(turned[2], turned[3])))
    assert all(map(torch.equal, found, expected))


@needs_compiler
def test_layers_outside_the_light_cone_do_not_move() -> None:
    net = ResidualMLP(9, 6, 4, 3, dtype=torch.float64)
    x, y, _ = problem(net, 5)
    start = sweep.solve(net, BP(), x, y, None).state.activities
    solution = sweep.solve(net, PCALM(3, 0.2, credit="after"), x, y, None)
    moved = (solution.state.activities - start).abs().amax(dim=(1, 2)) > 0
    assert moved.tolist() == [False] * 5 + [True] * 3
    assert not solution.state.multipliers[:5].any()
    assert not solution.gradients.input.any()


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_accurate(dtype: torch.dtype) -> None:
    """At most 3 ε relative, as derived beside it, and ½ ε of the truth's own where a long double is but a double."""
    width = 512
    magnitudes = torch.cat([torch.logspace(-30, 0, width, dtype=torch.float64), torch.linspace(0, 30, 31 * width)])
    values = torch.cat([magnitudes, -magnitudes]).to(dtype).view(-1, width)
    # φ read off W_L's gradient: s_L (out − y)ᵀ φ(z), with z = W_1, out = 0, y = −1, and s_L a power of two.
    zero = torch.zeros(len(values), width, width, dtype=dtype)
    net = ResidualMLP.from_weights([values.unsqueeze(-1), zero, zero[:, :1]], "tanh")
    one = torch.ones(len(values), 1, 1, dtype=dtype)
    found = sweep.solve(net, BP(), one, -one, None).gradients.output.squeeze(-2) * width
    truth = np.tanh(values.numpy().astype(np.longdouble))
    error = np.abs(found.numpy().astype(np.longdouble) - truth)
    assert float((error - 3.5 * torch.finfo(dtype).eps * np.abs(truth)).max()) <= 0
    assert float(found.abs().max()) == 1


@needs_compiler
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_overflow_reaches_the_result_as_in_the_reference(activation: str) -> None:
    net = ResidualMLP(4, 3, 4, 3, activation)
    x, y, _ = problem(net, 5)
    state = sweep.solve(net, PCALM(200, 50.0), x, y, None).state
    assert not state.activities.isfinite().any()


def test_unavailable_elsewhere() -> None:
    assert sweep.unavailable(torch.device("cuda"), torch.float32) == "it runs on CPUs only"
    assert sweep.unavailable(torch.device("cpu"), torch.float16) == "it knows float32 and float64 only"


# Builds. `forge` puts a copy of this machine's own build where a compiler would, so that no test compiles.


@pytest.fixture(scope="session")
def compiled() -> bytes:
    native = sweep.library()
    assert not isinstance(native, str), native
    return Path(native._name).read_bytes()


class Forge:
    """Stands in for `sweep.compile_sweep`, and counts its calls."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.calls = 0

    def __call__(self, command: list[str], directory: Path) -> Path:
        self.calls += 1
        made = directory / "made.so"
        made.write_bytes(self.content)
        return made


@pytest.fixture
def forge(compiled: bytes, monkeypatch: pytest.MonkeyPatch) -> Forge:
    made = Forge(compiled)
    monkeypatch.setattr(sweep, "compile_sweep", made)
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and where the system's temporary files go an empty directory too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "cache" / "pcalm"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@needs_compiler
def test_a_build_is_kept_and_found_again(cache: Path, forge: Forge) -> None:
    first = sweep.find_or_build()
    assert names(cache) == [Path(first._name).name]
    assert sweep.find_or_build()._name == first._name
    assert forge.calls == 1


@needs_compiler
@pytest.mark.parametrize("damage", [b"", b"no library", None], ids=["empty", "other", "truncated"])
def test_a_damaged_build_is_built_again(cache: Path, forge: Forge, damage: bytes | None) -> None:
    path = Path(sweep.find_or_build()._name)
    path.unlink()  # not written over: this process has it loaded
    path.write_bytes(forge.content[:-1000] if damage is None else damage)
    assert sweep.find_or_build()._name == str(path)
    assert path.read_bytes() == forge.content
    assert names(cache) == [path.name]
    assert forge.calls == 2


@needs_compiler
@pytest.mark.parametrize("changed", ["source", "macros", "command"])
def test_a_build_of_anything_else_is_not_used(
    cache: Path, forge: Forge, changed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = Path(sweep.find_or_build()._name)
    command, macros = sweep.target()
    if changed == "source":
        source = tmp_path / "sweep.cpp"
        source.write_bytes(sweep.SOURCE.read_bytes() + b"\n")
        monkeypatch.setattr(sweep, "SOURCE", source)
    elif changed == "macros":
        monkeypatch.setattr(sweep, "target", lambda: (command, macros + b"#define __AVX9__ 1\n"))
    else:
        monkeypatch.setattr(sweep, "target", lambda: ([*command, "-g"], macros))
    second = Path(sweep.find_or_build()._name)
    assert forge.calls == 2
    assert names(cache) == sorted([first.name, second.name])


@needs_compiler
def test_two_builds_at_a_time_do_not_meet(cache: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    together, found = threading.Barrier(3, timeout=60), []

    def slow(command: list[str], directory: Path) -> Path:
        together.wait()  # all of them found an empty cache
        made = forge(command, directory)
        together.wait()
        return made

    monkeypatch.setattr(sweep, "compile_sweep", slow)
    workers = [threading.Thread(target=lambda: found.append(sweep.find_or_build()._name)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 3
    assert names(cache) == [Path(found[0]).name]
    assert Path(found[0]).read_bytes() == forge.content


@needs_compiler
def test_what_a_killed_build_left_is_cleared(cache: Path, forge: Forge) -> None:
    left = cache / f".sweep.{'0' * 32}.tmp"
    left.mkdir(parents=True)
    (left / "sweep.so").write_bytes(forge.content[:100])
    built = sweep.find_or_build()
    assert names(cache) == [Path(built._name).name]
    assert forge.calls == 1


@needs_compiler
def test_a_cache_that_cannot_be_written(cache: Path, forge: Forge, caplog: pytest.LogCaptureFixture) -> None:
    cache.parent.write_text("a file where the cache should be")
    sweep.find_or_build()
    assert forge.calls == 1
    assert cache.parent.is_file()
    assert names(cache.parent.parent / "temporary") == []
    (warning,) = [entry.getMessage() for entry in caplog.records if entry.name == "pcalm"]
    assert re.search(r"built again by every process: .*/pcalm. cannot hold it \(.+\); set XDG_CACHE_HOME", warning)


@needs_compiler
def test_a_cache_that_nothing_may_be_run_from(
    cache: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Found before the build, which would take half a minute."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "noexec", "none", str(cache.parent.parent / "temporary")], capture_output=True
    )
    if mount.returncode:
        pytest.skip(f"only root may mount a file system: {mount.stderr.decode().strip()}")
    noexec = cache.parent.parent / "temporary"
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(noexec))
        with pytest.raises(RuntimeError, match=r"/pcalm. cannot hold it \(.*\); ./.*/temporary. cannot hold it"):
            sweep.find_or_build()
        assert forge.calls == 0
        cache.mkdir(parents=True)
        monkeypatch.setattr("tempfile.tempdir", str(cache))
        assert sweep.find_or_build().tile_float32() > 0
        assert forge.calls == 1
        assert "is built again by every process" in caplog.text
        assert names(noexec / "pcalm") == names(cache) == []
    finally:
        # Lazily: glibc leaves the library that it could not load mapped in this process.
        subprocess.run(["umount", "--lazy", str(noexec)], check=True)


@needs_compiler
@pytest.mark.usefixtures("unasked")
def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", unknown)
    expected = "no place for a cache: this user has no home; set HOME or XDG_CACHE_HOME"
    assert sweep.unavailable(torch.device("cpu"), torch.float32) == expected


@needs_compiler
def test_a_cache_that_refuses_the_finished_build(cache: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(13, "read-only", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    assert sweep.find_or_build().tile_float32() > 0
    assert names(cache) == []


@pytest.fixture
def unasked(cache: Path) -> Iterator[None]:
    """The engine as in a new process."""
    sweep.library.cache_clear()
    yield
    sweep.library.cache_clear()


@pytest.mark.usefixtures("unasked")
def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    expected = "no C++ compiler: '/nowhere/c++' does not run (No such file or directory); install g++ or set CXX"
    assert sweep.unavailable(torch.device("cpu"), torch.float32) == expected


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("", "no C++ compiler: 'c++' does not run"),
        ("  ", "no C++ compiler: 'c++' does not run"),
        ("/my tools/c++", "no C++ compiler: '/my' does not run"),
        ("g++ '", 'CXX must be a command as a shell reads it, got "g++ \'": No closing quotation'),
    ],
)
def test_a_compiler_that_is_none(named: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", named)
    monkeypatch.setenv("PATH", "/nowhere")
    found = sweep.unavailable(torch.device("cpu"), torch.float32)
    assert found is not None
    assert found.startswith(reason)


def fake_compiler(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        ("*", "'{fake} -O1' is no working C++ compiler; set CXX to g++ or clang++"),
        ("*-shared*", "the build of probe.cpp failed: fake: error: out of order"),
    ],
    ids=["always", "linking"],
)
def test_a_compiler_that_fails(fails: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_compiler(tmp_path / "c++", f'case "$*" in {fails}) echo "fake: error: out of order" >&2; exit 1;; esac')
    monkeypatch.setenv("CXX", f"{fake} -O1")
    assert sweep.unavailable(torch.device("cpu"), torch.float32) == reason.format(fake=fake)
    assert not list((tmp_path / "cache").rglob("*.so"))


@needs_compiler
@pytest.mark.parametrize("named", ["{wrapper} {real}", "'{real}' -O1", "{spaced}", "'{spaced}' -O1"])
def test_the_compiler_is_a_command_as_a_shell_reads_it(
    cache: Path, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper such as ccache, options, and a path with a space, quoted or not; shown on a library of one line."""
    real = shutil.which(shlex.split(os.environ.get("CXX", "c++"))[0])
    wrapper = fake_compiler(tmp_path / "wrapper", 'exec "$@"')
    spaced = fake_compiler(tmp_path / "my tools" / "c++", f'exec "{real}" "$@"')
    monkeypatch.setenv("CXX", named.format(real=real, wrapper=wrapper, spaced=spaced))
    command, macros = sweep.target()
    assert b"__cplusplus 202002" in macros
    assert ("-O1" in command) == ("-O1" in named)
    workspace = tmp_path / "work space"
    workspace.mkdir()
    assert sweep.probe(command, workspace) in (["-fopenmp"], [])


@needs_compiler
def test_without_openmp_it_is_built_for_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which(shlex.split(os.environ.get("CXX", "c++"))[0])
    refusing = fake_compiler(tmp_path / "c++", f'case "$*" in *-fopenmp*) exit 1; esac\nexec "{real}" "$@"')
    assert sweep.probe([str(refusing)], tmp_path) == []


def test_flags_that_the_compiler_does_not_know_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_compiler(tmp_path / "c++", 'case "$*" in *native*) exit 1; esac\necho "#define fake"')
    monkeypatch.setenv("CXX", str(fake))
    assert sweep.target() == ([str(fake), "-std=c++20", "-O3"], b"#define fake\n")


def test_importing_the_package_compiles_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CXX": "/nowhere/c++"}
    command = "import pcalm; from pcalm.engines import sweep; assert sweep.library.cache_info().currsize == 0"
    subprocess.run([sys.executable, "-c", command], env=environment, check=True, cwd=sweep.SOURCE.parents[2])
    assert names(tmp_path) == []
