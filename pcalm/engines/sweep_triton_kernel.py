"""The kernel of the triton engine. Importing this needs triton, which reads TRITON_INTERPRET at that moment."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton reads the annotations below, so they must not become strings.
import triton
import triton.language as tl

if triton.knobs.runtime.interpret:
    # The interpreter of triton 3.6 holds a number as an array of one element, which numpy 2.4 refuses as a loop bound.
    def index(number):
        return int(number.handle.data.item())

else:

    @triton.jit
    def index(number):
        return number


@triton.jit
def tanh(z):
    """tanh z = ±(1 − e) / (1 + e) with e = exp(−2|z|), which cancels near 0: there its Padé approximant [7/6]."""
    e = tl.exp(-2 * tl.abs(z))
    far = (1 - e) / (1 + e)
    s = z * z
    near = z * (135135 + s * (17325 + s * (378 + s))) / (135135 + s * (62370 + s * (3150 + s * 28)))
    return tl.where(tl.abs(z) < 0.5, near, tl.where(z < 0, -far, far))


@triton.jit
def phi(z, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        z = tl.where(z > 0, z, 0.0)
    elif ACTIVATION == "tanh":
        z = tanh(z)
    return z


@triton.jit
def times_dphi(g, a, ACTIVATION: tl.constexpr):
    """g ⊙ φ'(z), from a = φ(z)."""
    if ACTIVATION == "relu":
        g = tl.where(a > 0, g, 0.0)
    elif ACTIVATION == "tanh":
        g = g * (1 - a * a)
    return g


@triton.jit
def settings(at):
    """η, ρ, α, κ of a layer."""
    return tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3)


@triton.jit(do_not_specialize=["batch", "layers", "iterations", "inner_steps"])
def sweep(
    z_ptr,  # [R, layers, batch, width]: the states at the start; every step changes them
    lam_ptr,  # the same
    z_ff_ptr,  # the same: the feed-forward states
    w_ptr,  # [R, layers − 1, width, width]
    w_out_ptr,  # [R, classes, width]
    y_ptr,  # [R, batch, classes]
    numbers_ptr,  # [R, 4 · layers + 2]: η, ρ, α, κ of every layer, s, s_out; as data so that they keep their precision
    batch,
    layers,
    iterations,  # primal steps in all
    inner_steps,
    width,
    classes,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ACTIVATION: tl.constexpr,
    ANCHOR: tl.constexpr,
    PER_LAYER: tl.constexpr,  # settings are loaded for every layer, not once
    CONE: tl.constexpr,  # start from the feed-forward state: only the top t layers can have moved after t steps
    PRECISION: tl.constexpr,
):
    tile, replica = tl.program_id(0), tl.program_id(1).to(tl.int64)
    z_ptr += replica * layers * batch * width
    lam_ptr += replica * layers * batch * width
    z_ff_ptr += replica * layers * batch * width
    w_ptr += replica * (layers - 1) * width * width
    w_out_ptr += replica * classes * width
    y_ptr += replica * batch * classes
    numbers_ptr += replica * (4 * layers + 2)
    eta, rho, alpha, kappa = settings(numbers_ptr)
    s, s_out = tl.load(numbers_ptr + 4 * layers), tl.load(numbers_ptr + 4 * layers + 1)

    sample = tile * BLOCK_B + tl.arange(0, BLOCK_B)
    unit, output = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_C)
    one_layer = batch * width
    state = sample[:, None] * width + unit[None, :]
    inside = (sample[:, None] < batch) & (unit[None, :] < width)
    matrix = unit[:, None] * width + unit[None, :]
    square = (unit[:, None] < width) & (unit[None, :] < width)
    readout = output[:, None] * width + unit[None, :]
    wide = (output[:, None] < classes) & (unit[None, :] < width)
    target = sample[:, None] * classes + output[None, :]
    given = (sample[:, None] < batch) & (output[None, :] < classes)

    # Padding is zero in states, weights and targets, φ(0) = 0, and so it stays zero.
    for step in range(1, index(iterations) + 1):
        low = tl.maximum(layers - step, 0) if CONE else step * 0
        # This sweep's residuals are those behind the last step: its dual step, where one is due, is taken here.
        due = (step > 1) & ((step - 1) % inner_steps == 0)
        if PER_LAYER:
            eta, rho, alpha, kappa = settings(numbers_ptr + 4 * low)
        here = tl.cast(low, tl.int64) * one_layer + state
        z = tl.load(z_ptr + here, mask=inside, other=0.0)
        # pred_1 is the first layer's feed-forward state; at another layer nothing has moved, and the residual is zero.
        c = tl.where(low == 0, z - tl.load(z_ff_ptr + state, mask=inside, other=0.0), 0.0)
        lam = tl.load(lam_ptr + here, mask=inside, other=0.0) + tl.where(due, alpha, alpha * 0) * c
        tl.store(lam_ptr + here, lam, mask=inside)
        q = rho * c + lam
        for layer in range(index(low), index(layers - 1)):
            here = tl.cast(layer, tl.int64) * one_layer + state
            above = here + one_layer
            w = tl.load(w_ptr + tl.cast(layer, tl.int64) * width * width + matrix, mask=square, other=0.0)
            z_above = tl.load(z_ptr + above, mask=inside, other=0.0)
            eta_here, kappa_here = eta, kappa
            if PER_LAYER:
                eta, rho, alpha, kappa = settings(numbers_ptr + 4 * (layer + 1))
            a = phi(z, ACTIVATION)
            c = z_above - z - s * tl.dot(a, tl.trans(w), input_precision=PRECISION)
            lam = tl.load(lam_ptr + above, mask=inside, other=0.0) + tl.where(due, alpha, alpha * 0) * c
            tl.store(lam_ptr + above, lam, mask=inside)
            q_above = rho * c + lam
            g = q_above - q + s * times_dphi(tl.dot(q_above, w, input_precision=PRECISION), a, ACTIVATION)
            if ANCHOR:
                g += kappa_here * (tl.load(z_ff_ptr + here, mask=inside, other=0.0) - z)
            tl.store(z_ptr + here, z + eta_here * g, mask=inside)
            z, q = z_above, q_above
        here = tl.cast(layers - 1, tl.int64) * one_layer + state
        a = phi(z, ACTIVATION)
        w_out = tl.load(w_out_ptr + readout, mask=wide, other=0.0)
        y = tl.load(y_ptr + target, mask=given, other=0.0)
        error = y - s_out * tl.dot(a, tl.trans(w_out), input_precision=PRECISION)
        g = s_out * times_dphi(tl.dot(error, w_out, input_precision=PRECISION), a, ACTIVATION) - q
        if ANCHOR:
            g += kappa * (tl.load(z_ff_ptr + here, mask=inside, other=0.0) - z)
        tl.store(z_ptr + here, z + eta * g, mask=inside)
        # The next sweep may load an element in another thread than the one that has stored it.
        tl.debug_barrier()
