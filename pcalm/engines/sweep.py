"""The CPU engine: `sweep.cpp`, compiled on first use for this machine and kept in the user's cache.

A build lives in $XDG_CACHE_HOME/pcalm (default ~/.cache/pcalm) as sweep-<key>-<digest>.so. The key is a hash of all
that went into it: the source, the compiler's predefined macros (its version and the CPU's features among them) and the
command; so two checkouts, or two machines that share a home, never share a build. The digest is that of the file, so a
damaged one is recognised before it is loaded, and built again. Every build runs in a directory of its own and is
moved into place when it is complete: two at a time do not meet, and what a killed one leaves the next one clears.

The compiler is $CXX, or else c++, read as a shell would: CXX="ccache g++" and CXX="'/my tools/g++' -O1" are commands.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from pcalm.dynamics import Gradients, State
from pcalm.engines import Solution
from pcalm.engines.cache import cache_dir
from pcalm.methods import BP, SETTINGS, Method, Setting, active
from pcalm.network import DTYPES, ResidualMLP
from pcalm.temporary import temporary

SOURCE = Path(__file__).with_name("sweep.cpp")
log = logging.getLogger("pcalm")
ACTIVATIONS = ("linear", "tanh", "relu")  # in the order of sweep.cpp's enum


class _Setting(ctypes.Structure):
    """`Setting` of sweep.cpp."""

    _fields_ = [
        ("values", ctypes.POINTER(ctypes.c_double)),
        *((name, ctypes.c_int64) for name in ("per_replica", "per_layer")),
    ]

    @classmethod
    def of(cls, value: Setting, replicas: int | None) -> _Setting:
        rows = value if isinstance(value, tuple) else (value,)
        numbers = [number for row in rows for number in (row if isinstance(row, tuple) else (row,))]
        per_replica = len(numbers) // replicas if replicas and len(numbers) > 1 else 0
        per_layer = int(len(numbers) > (replicas or 1))
        return cls((ctypes.c_double * len(numbers))(*numbers), per_replica, per_layer)


class Task(ctypes.Structure):
    """`Task` of sweep.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("replicas", "batch", "depth", "width", "inputs", "outputs")),
        *((name, ctypes.c_int64) for name in ("x_stride", "y_stride", "iterations", "inner_steps")),
        *((name, ctypes.c_int64) for name in ("dual", "dual_after", "anchored", "activation", "threads")),
        *((name, ctypes.c_double) for name in ("scale_in", "scale", "scale_out")),
        *((name, _Setting) for name in SETTINGS),
        *((name, ctypes.c_void_p) for name in ("x", "y", "w_in", "w", "w_out", "start_z", "start_lam")),
        *((name, ctypes.c_void_p) for name in ("z", "lam", "g_in", "g", "g_out")),
    ]


def unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return "it runs on CPUs only"
    if dtype not in DTYPES:
        return "it knows float32 and float64 only"
    found = library()
    return found if isinstance(found, str) else None


def solve(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None) -> Solution:
    native = library()
    assert not isinstance(native, str), native
    name = str(net.dtype).removeprefix("torch.")
    tile = getattr(native, f"tile_{name}")()
    weights = [weight.detach().contiguous() for weight in (net.input_weight, net.hidden_weight, net.output_weight)]
    (x, x_stride), (y, y_stride) = _whole_rows(x), _whole_rows(y)
    replicas, batch, depth = net.replicas or 1, x.shape[-2], weights[1].shape[-3] + 2
    (width, inputs), outputs = weights[0].shape[-2:], weights[2].shape[-2]
    padded = -(-batch // tile) * tile
    start = [None, None] if initial is None else [part.contiguous() for part in initial]
    activities, multipliers = (x.new_empty(*x.shape[:-2], depth - 1, padded, width) for _ in range(2))
    gradients = Gradients(*(torch.empty_like(weight) for weight in weights))
    if isinstance(method, BP):
        flags = (0, 1, 0, 0, 0)
        values: Iterable[Setting] = (0.0,) * len(SETTINGS)  # q = λ
    else:
        dual = active(method.dual_step)
        flags = (
            *(method.steps * method.inner_steps, method.inner_steps),
            *(int(dual), int(dual and method.credit == "after"), int(active(method.anchor))),
        )
        values = (getattr(method, name) for name in SETTINGS)
    tensors = (x, y, *weights, *start, activities, multipliers, *gradients)
    task = Task(
        *(replicas, batch, depth, width, inputs, outputs, x_stride, y_stride),
        *(*flags, ACTIVATIONS.index(net.activation), torch.get_num_threads(), *net.scales),
        *(_Setting.of(value, net.replicas) for value in values),
        *(None if tensor is None else tensor.data_ptr() for tensor in tensors),
    )
    if getattr(native, f"sweep_{name}")(ctypes.byref(task)):
        raise MemoryError("out of memory: use a smaller batch or fewer replicas")
    if isinstance(method, BP):
        multipliers.zero_()
    return Solution(State(activities[..., :batch, :], multipliers[..., :batch, :]), gradients)


def _whole_rows(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor with each replica contiguous, and the elements from one replica to the next (0 if they share one)."""
    if tensor.ndim == 2:
        return tensor.contiguous(), 0
    if not tensor[0].is_contiguous():
        tensor = tensor.contiguous()
    return tensor, tensor.stride(0)


@functools.cache
def library() -> ctypes.CDLL | str:
    """The compiled sweep, built if need be; or why there is none. Asked once per process."""
    try:
        return find_or_build()
    except (OSError, RuntimeError) as error:
        return str(error)


def find_or_build() -> ctypes.CDLL:
    """The compiled sweep from the cache, or else built and put there.

    Where the cache cannot be written, or nothing may be run from it, this process builds one for itself among the
    system's temporary files, and says so.

    Raises:
        RuntimeError: no compiler, no place for the cache, the build failed, or its result does not load.
    """
    command, macros = target()
    parts = (SOURCE.read_bytes(), macros, repr(command).encode())
    key = _digest(b"".join(hashlib.sha256(part).digest() for part in parts))
    cache = cache_dir()
    for built in cache.glob(f"sweep-{key}-*.so"):
        with contextlib.suppress(OSError):
            if built.stem.endswith(_digest(built.read_bytes())):
                return ctypes.CDLL(str(built))
            built.unlink()
    flaws: list[str] = []
    for place in (cache, Path(tempfile.gettempdir())):
        try:
            place.mkdir(parents=True, exist_ok=True)
            with temporary(place, "sweep", lambda path: path.mkdir(mode=0o700)) as workspace:
                threads = probe(command, workspace)
                for flaw in flaws:
                    log.warning("engine 'cpu' is built again by every process: %s; set XDG_CACHE_HOME", flaw)
                built = compile_sweep([*command, *threads], workspace)
                if place == cache:
                    with contextlib.suppress(OSError):  # full by now: this process uses what it built
                        built = built.replace(cache / f"sweep-{key}-{_digest(built.read_bytes())}.so")
                return ctypes.CDLL(str(built))
        except OSError as error:
            flaws.append(f"{str(place)!r} cannot hold it ({error.strerror or error})")
    raise RuntimeError("; ".join(flaws))


def target() -> tuple[list[str], bytes]:
    """The command that compiles for this machine's own CPU, and the compiler's predefined macros under it.

    Raises:
        RuntimeError: no working compiler.
    """
    if sys.platform == "win32":
        raise RuntimeError("it needs GCC or Clang, for their vector extensions")
    named = os.environ.get("CXX", "").strip() or "c++"
    try:
        compiler = [named] if shutil.which(named) else shlex.split(named)  # a path with spaces need not be quoted
    except ValueError as error:
        raise RuntimeError(f"CXX must be a command as a shell reads it, got {named!r}: {error}") from error
    for native in (["-march=native"], ["-mcpu=native"], []):
        command = [*compiler, "-std=c++20", "-O3", *native]
        try:
            shown = subprocess.run([*command, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, check=True)
        except OSError as error:
            reason = f"no C++ compiler: {compiler[0]!r} does not run ({error.strerror}); install g++ or set CXX"
            raise RuntimeError(reason) from error
        except subprocess.CalledProcessError:
            continue
        return command, shown.stdout
    raise RuntimeError(f"{shlex.join(compiler)!r} is no working C++ compiler; set CXX to g++ or clang++")


def probe(command: list[str], directory: Path) -> list[str]:
    """The flags with which the compiler builds for several threads, or none where it cannot.

    The build takes half a minute, so that a library of one line goes first: it shows whether one can be loaded from
    the directory at all.

    Raises:
        OSError: none can.
        RuntimeError: none can be built.
    """
    source = directory / "probe.cpp"
    source.write_text('extern "C" int probe() { return 0; }\n')
    for threads in (["-fopenmp"], []):
        try:
            ctypes.CDLL(str(_compile([*command, *threads], source, directory / f"probe{len(threads)}.so")))
        except RuntimeError as error:
            failure = error
        else:
            return threads
    raise failure


def compile_sweep(command: list[str], directory: Path) -> Path:
    """Builds the shared library in a directory.

    Raises:
        RuntimeError: the build failed; with the compiler's first complaint.
    """
    return _compile(command, SOURCE, directory / "sweep.so")


def _compile(command: list[str], source: Path, library: Path) -> Path:
    command = [*command, "-shared", "-fPIC", str(source), "-o", str(library)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"}, check=False
    )
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        complaint = next((line for line in lines if "error" in line.lower()), lines[0])
        raise RuntimeError(f"the build of {source.name} failed: {complaint}")
    return library


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
