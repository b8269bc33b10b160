"""Other torch code around a call: what must not change its figures, and what has to hear of its gradients.

    @independent            a call gives the same figures under autocast, inference mode, reduced matmul precision, …
    plain(name, tensor)     a tensor whose memory engines may read, or an error
    unwrapped(net)          the network inside DistributedDataParallel, DataParallel or torch.compile
    accumulate(net, ...)    gradients into .grad by autograd's own way, so that hooks and earlier modules learn of them

Defaults (`torch.set_default_dtype`, `torch.set_default_device`) need no guard: our calls name the dtype and device of
every tensor that they make.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parallel import DataParallel, DistributedDataParallel

from pcalm.checks import require

P = ParamSpec("P")
T = TypeVar("T")

AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
PRECISIONS = (("cuda", "matmul"), ("mkldnn", "matmul"))
# Those of torch's settings that Python can only ask for in microseconds, a good part of a small call.
_precision = torch._C._get_fp32_precision_getter
_autocast = torch._C._is_any_autocast_enabled


def independent(function: Callable[P, T]) -> Callable[P, T]:
    """The function with the same result whatever torch is set to, and opaque to torch.compile.

    Inside there is no autocast, no inference mode, whose tensors could never be trained, and full float32 precision in
    matrix products, which torch has for the whole process alone: other threads have it for the length of the call, too.
    A compiler calls it as it stands: engines write to memory that a traced program would not know of.

    Raises:
        ValueError: under torch.jit.trace, which would record the figures of one call as constants.
    """

    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch._C._is_tracing():
            raise ValueError(f"{function.__name__} cannot be traced by torch.jit.trace: call it outside")
        reduced = [each for each in PRECISIONS if _precision(*each) not in ("ieee", "none")]
        if not (reduced or torch.is_inference_mode_enabled() or _autocast()):
            return function(*args, **kwargs)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            for device in AUTOCAST_DEVICES:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            for backend, operation in reduced:
                now = _precision(backend, operation)
                inherited = now == _precision(backend, "all")
                stack.callback(torch._C._set_fp32_precision_setter, backend, operation, "none" if inherited else now)
                torch._C._set_fp32_precision_setter(backend, operation, "ieee")
            return function(*args, **kwargs)

    opaque: list[Callable[P, T]] = []

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        # Nothing is being compiled unless dynamo is loaded, and loading it here would take a second.
        if "torch._dynamo" not in sys.modules:
            return guarded(*args, **kwargs)
        if not opaque:
            opaque.append(torch.compiler.disable(guarded))
        return opaque[0](*args, **kwargs)

    return call


def plain(name: str, value: Any) -> Tensor:
    """The value, a tensor of numbers in strided memory.

    Raises:
        ValueError: no tensor, or one that stands for something else: sparse, fake, of a function transform, with a
            forward-mode derivative.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a torch tensor, got {type(value).__name__}")
    tensor: Tensor = value
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise ValueError(
            f"{name} must be a tensor of numbers, got one of a torch.func transform such as vmap or grad, which cannot "
            "see through this call: give a whole batch, or several seeds for several networks"
        )
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got {tensor.layout}; convert it with .to_dense()")
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise ValueError(f"{name} must be a plain tensor with its numbers in memory, got {type(tensor).__name__}")
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None:
        raise ValueError(f"{name} must not carry a forward-mode derivative, which would be lost; use .detach()")
    # A lazily negated tensor, such as the imaginary part of a conjugate, has other numbers in memory.
    return tensor.resolve_neg()


def unwrapped(net: Any) -> Any:
    """The module inside DistributedDataParallel, DataParallel and compiled modules."""
    while True:
        inner = net.module if isinstance(net, (DistributedDataParallel, DataParallel)) else _compiled(net)
        if inner is None:
            return net
        net = inner


def _compiled(net: Any) -> nn.Module | None:
    """What torch.compile(module) runs; its class is not imported, since that takes a second."""
    return getattr(net, "_orig_mod", None)


# Every module inside a DistributedDataParallel, with a reference to that.
_distributed: weakref.WeakKeyDictionary[nn.Module, weakref.ref[DistributedDataParallel]] = weakref.WeakKeyDictionary()


def _remember(module: nn.Module, name: str, submodule: nn.Module | None) -> None:
    """Called by torch for every submodule that any module gets: a network does not know what it is put into."""
    if isinstance(module, DistributedDataParallel) and submodule is not None:
        for part in submodule.modules():
            _distributed[part] = weakref.ref(module)


register_module_module_registration_hook(_remember)


def distributed(net: nn.Module) -> DistributedDataParallel | None:
    """The DistributedDataParallel around the network, if it can be served.

    Raises:
        ValueError: what DistributedDataParallel is to do with the gradients cannot be done from here.
    """
    found = _distributed.get(net)
    ddp = None if found is None else found()
    if ddp is None:
        return None
    own = set(map(id, net.parameters()))
    require(
        all(id(parameter) in own for parameter in ddp.parameters()),
        "net must be the only module with parameters in its DistributedDataParallel, which is not told of this "
        "backward pass: wrap the modules in front of the network in a DistributedDataParallel of their own",
    )
    hooked = ddp._comm_hooks or any(getattr(each, "_post_accumulate_grad_hooks", None) for each in net.parameters())
    require(
        not hooked and not ddp._join_config.enable,
        "net must be in a DistributedDataParallel without communication hooks, post-accumulate-grad hooks and join(): "
        "the mean over all processes is taken once all gradients are in .grad",
    )
    return ddp


def accumulate(net: nn.Module, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Adds the gradients to .grad of whatever the tensors depend on, as autograd does: in place, and with its hooks.

    In a DistributedDataParallel .grad is then the mean over all processes, unless in its no_sync().
    """
    ddp = distributed(net)
    pairs = zip(tensors, gradients, strict=True)
    wanted = [(tensor, gradient) for tensor, gradient in pairs if tensor.requires_grad and gradient is not None]
    for tensor, _ in wanted:
        held = tensor.grad if tensor.is_leaf else None
        if held is not None and (held.is_inference() or (held.layout == torch.strided and 0 in held.stride())):
            raise ValueError(
                ".grad must be a tensor that can be added to, got one made in inference mode or expanded: set it to "
                "None first (optimizer.zero_grad())"
            )
    torch.autograd.backward([tensor for tensor, _ in wanted], [gradient for _, gradient in wanted])
    if ddp is not None and ddp.require_backward_grad_sync:
        for parameter in net.parameters():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad, group=ddp.process_group)
                parameter.grad /= torch.distributed.get_world_size(ddp.process_group)
