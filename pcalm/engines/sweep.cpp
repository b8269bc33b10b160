// Inference and weight gradients on CPUs: the equations of pcalm/dynamics.py, one sweep over the layers per iteration.
//
// Samples never interact, so a tile of samples goes through all iterations before the next one starts, and its state
// stays in cache. Inside a tile every array is [units][TILE], vector lanes along the samples: both products of the
// sweep, W φ(z) and Wᵀ q, then read W as it is stored, one broadcast scalar per weight, and no width leaves a vector
// tail. Every lane does the same operations in the same order, so a sample's state depends neither on its batch, nor on
// replicas, nor on threads; the weight gradients add up the samples in a fixed order.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num() { return 0; }
#endif

// ROWS × VECTORS sums are kept in registers: enough to hide the latency of the multiply-adds, and no more than fit.
#if defined(__AVX512F__)
constexpr int BYTES = 64, ROWS = 8;
#elif defined(__AVX__)
constexpr int BYTES = 32, ROWS = 6;
#else
constexpr int BYTES = 16, ROWS = 6;
#endif
constexpr int VECTORS = 2;

#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

template <class T> struct Simd;
template <> struct Simd<float> {
    typedef float Vector __attribute__((vector_size(BYTES), aligned(4), may_alias));
    typedef int32_t Bits __attribute__((vector_size(BYTES)));
};
template <> struct Simd<double> {
    typedef double Vector __attribute__((vector_size(BYTES), aligned(8), may_alias));
    typedef int64_t Bits __attribute__((vector_size(BYTES)));
};

enum Activation : int64_t { LINEAR, TANH, RELU };

// A setting of hidden layer index l in replica r: values[r per_replica + l per_layer], with 0 where they share one.
struct Setting {
    const double* values;
    int64_t per_replica, per_layer;
};

// What Python hands over; the same fields in the same order as `Task` in sweep.py.
struct Task {
    int64_t replicas, batch, depth, width, inputs, outputs;
    int64_t x_stride, y_stride;  // elements between replicas, 0 where they share the batch
    int64_t iterations;          // primal steps; 0 is backpropagation
    int64_t inner_steps, dual, dual_after, anchored, activation, threads;
    double scale_in, scale, scale_out;
    Setting step_size, penalty, dual_step, anchor;
    const void *x, *y, *w_in, *w, *w_out;        // [R or 1][B][D], [R or 1][B][C], [R][N][D], [R][L-2][N][N], [R][C][N]
    const void *start_z, *start_lam;             // null, or the initial state [R][L-1][B][N]
    void *z, *lam;                               // out: [R][L-1][tiles · TILE][N], in between [R][L-1][tiles][N][TILE]
    void *g_in, *g, *g_out;                      // out: as the weights
};

template <class T> struct Sweep {
    typedef typename Simd<T>::Vector Vector;
    typedef typename Simd<T>::Bits Bits;
    static constexpr int64_t LANES = BYTES / sizeof(T), TILE = LANES * VECTORS, PANEL = 64;

    static INLINE Vector load(const T* p) { return *(const Vector*)p; }
    static INLINE void store(T* p, Vector v) { *(Vector*)p = v; }

    // Calls done(i, v, Σ_k a_ik b[k][v..v+LANES)) for R rows i and the vectors v of a tile; a_ik is a[i lda + k], or
    // transposed a[i + k lda].
    template <int R, bool TRANSPOSED, class Done>
    static INLINE void rows(
        int64_t first, int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, const Done& done) {
        Vector sum[R][VECTORS];
        UNROLL for (int i = 0; i < R; i++)
            UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] = Vector{};
        a += TRANSPOSED ? first : first * lda;
        for (int64_t k = 0; k < depth; k++) {
            Vector right[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) right[v] = load(b + k * ldb + v * LANES);
            UNROLL for (int i = 0; i < R; i++) {
                T left = TRANSPOSED ? a[k * lda + i] : a[i * lda + k];
                UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] += left * right[v];
            }
        }
        UNROLL for (int i = 0; i < R; i++)
            UNROLL for (int v = 0; v < VECTORS; v++) done(first + i, v * LANES, sum[i][v]);
    }

    template <bool TRANSPOSED, class Done>
    static INLINE void product(
        int64_t n, int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, const Done& done) {
        int64_t i = 0;
        for (; i + ROWS <= n; i += ROWS) rows<ROWS, TRANSPOSED>(i, depth, a, lda, b, ldb, done);
        if (i + 4 <= n) rows<4, TRANSPOSED>(i, depth, a, lda, b, ldb, done), i += 4;
        if (i + 2 <= n) rows<2, TRANSPOSED>(i, depth, a, lda, b, ldb, done), i += 2;
        if (i < n) rows<1, TRANSPOSED>(i, depth, a, lda, b, ldb, done);
    }

    // tanh(x) = u / (u + 2) with u = e^y − 1, y = 2x = n ln 2 + r, |r| ≤ ln 2 / 2; u = 2ⁿ p + (2ⁿ − 1), p = e^r − 1.
    // p is a Taylor polynomial; relative to r its remainder is below |r|^degree / (degree + 1)! · e^|r| = 3e-8 and
    // 2e-17, half the unit roundoff at most. In units of that roundoff: r is off by 1, p by 2.4, and u, whose terms
    // cancel to no less than 0.29 where n ≠ 0, by 4.4 at most (n = 1, r < 0), of which 0.83 · 4.4 reach the quotient;
    // its own two roundings make it 6, or 3 ε. Beyond ±limit tanh rounds to ±1; NaN stays NaN.
    static Vector tanh(Vector x) {
        constexpr bool single = sizeof(T) == 4;
        constexpr int degree = single ? 7 : 13, mantissa = single ? 23 : 52;
        constexpr T limit = single ? 10 : 20, to_integer = single ? 0x1.8p23 : 0x1.8p52;
        constexpr T log2e = 0x1.71547652b82fep+0;
        constexpr T ln2_high = single ? 0x1.62e4p-1 : 0x1.62e42fefa38p-1;  // n · ln2_high is exact
        constexpr T ln2_low = single ? 0x1.7f7d1cf79abcap-20 : 0x1.ef35793c7673p-45;
        constexpr double factorial[] = {
            1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600, 6227020800};
        const Vector zero{}, one = zero + 1;
        Vector y = 2 * (x > limit ? zero + limit : x < -limit ? zero - limit : x);
        Vector shifted = y * log2e + to_integer;  // the integer n in the low bits of the mantissa
        Vector n = shifted - to_integer, r = y - n * ln2_high - n * ln2_low;
        Vector p = zero + T(1 / factorial[degree]);
        UNROLL for (int k = degree - 1; k >= 2; k--) p = p * r + T(1 / factorial[k]);
        p = p * (r * r) + r;
        Vector power = (Vector)(((Bits)shifted << mantissa) + (Bits)one);
        Vector u = power * p + (power - 1);
        return u / (u + 2);
    }

    template <Activation A> static INLINE Vector phi(Vector z) {
        return A == LINEAR ? z : A == RELU ? (z < 0 ? Vector{} : z) : tanh(z);
    }
    // g ⊙ φ'(z), from φ(z)
    template <Activation A> static INLINE Vector times_dphi(Vector g, Vector phi) {
        return A == LINEAR ? g : A == RELU ? (phi > 0 ? g : Vector{}) : g * (1 - phi * phi);
    }
    template <Activation A> static void activate(const T* z, T* out, int64_t units) {
        for (int64_t o = 0; o < units * TILE; o += LANES) store(out + o, phi<A>(load(z + o)));
    }

    // to[c][r] = from[r][c], LANES × LANES at a time: interleaving the two halves of the rows log2(LANES) times.
    template <size_t... I>
    static INLINE void transpose_block(const T* from, int64_t ldf, T* to, int64_t ldt, std::index_sequence<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Bits{__VA_ARGS__})
#endif
        Vector row[LANES], next[LANES];
        UNROLL for (int i = 0; i < LANES; i++) row[i] = load(from + i * ldf);
        UNROLL for (int width = 1; width < LANES; width *= 2) {
            UNROLL for (int i = 0; i < LANES / 2; i++) {
                next[2 * i] = SHUFFLE(row[i], row[i + LANES / 2], (I / 2 + I % 2 * LANES)...);
                next[2 * i + 1] = SHUFFLE(row[i], row[i + LANES / 2], (I / 2 + I % 2 * LANES + LANES / 2)...);
            }
            UNROLL for (int i = 0; i < LANES; i++) row[i] = next[i];
        }
        UNROLL for (int i = 0; i < LANES; i++) store(to + i * ldt, row[i]);
    }
    static void transpose(const T* from, int64_t ldf, int64_t height, int64_t width, T* to, int64_t ldt) {
        for (int64_t r = 0; r < height; r += LANES)
            for (int64_t c = 0; c < width; c += LANES)
                if (r + LANES <= height && c + LANES <= width)
                    transpose_block(from + r * ldf + c, ldf, to + c * ldt + r, ldt, std::make_index_sequence<LANES>());
                else
                    for (int64_t i = r; i < std::min(r + LANES, height); i++)
                        for (int64_t j = c; j < std::min(c + LANES, width); j++) to[j * ldt + i] = from[i * ldf + j];
    }
    // `count` samples [count][units] as a tile [units][TILE]; lanes without a sample are zero, and stay so.
    static void pack(const T* from, int64_t ldf, int64_t count, int64_t units, T* to) {
        if (count < TILE) std::memset(to, 0, units * TILE * sizeof(T));
        transpose(from, ldf, count, units, to, TILE);
    }

    const Task& p;
    const int64_t N = p.width, D = p.inputs, C = p.outputs, hidden = p.depth - 1;
    const int64_t tiles = (p.batch + TILE - 1) / TILE, block = N * TILE, layer = tiles * block;
    const int64_t padded = (N + TILE - 1) / TILE * TILE;  // N for arrays whose rows are read in whole tiles
    const T s_in = p.scale_in, s = p.scale, s_out = p.scale_out;
    // From the feed-forward start only the top t layers can move in t iterations: below, c = 0 and λ = 0.
    int64_t unmoved(int64_t t) const { return p.start_z ? 0 : std::max<int64_t>(0, hidden - t); }
    T* q_in = nullptr;  // q_1 at the end, [R][tiles][N][TILE]

    explicit Sweep(const Task& task) : p(task) {}

    T* z(int64_t r, int64_t l, int64_t tile) const { return (T*)p.z + (r * hidden + l) * layer + tile * block; }
    T* lam(int64_t r, int64_t l, int64_t tile) const { return (T*)p.lam + (r * hidden + l) * layer + tile * block; }
    // The matrix from hidden layer index l to l + 1.
    const T* w(int64_t r, int64_t l) const { return (const T*)p.w + (r * (hidden - 1) + l) * N * N; }
    const T* w_out(int64_t r) const { return (const T*)p.w_out + r * C * N; }
    static T at(const Setting& setting, int64_t r, int64_t l) {
        return setting.values[r * setting.per_replica + l * setting.per_layer];
    }
    int64_t samples(int64_t tile) const { return std::min(TILE, p.batch - tile * TILE); }

    // pred_1 = s_1 x W_1ᵀ
    void input(int64_t r, int64_t tile, T* panel, T* pred) const {
        const T *x = (const T*)p.x + r * p.x_stride + tile * TILE * D, *w = (const T*)p.w_in + r * N * D;
        std::memset(pred, 0, block * sizeof(T));
        for (int64_t d = 0; d < D; d += PANEL) {
            const int64_t depth = std::min(PANEL, D - d);
            pack(x + d, D, samples(tile), depth, panel);
            product<false>(N, depth, w + d, D, panel, TILE, [&](int64_t i, int64_t v, Vector sum) {
                store(pred + i * TILE + v, load(pred + i * TILE + v) + s_in * sum);
            });
        }
    }

    // e = out − y, from φ(z_{L-1})
    void error(int64_t r, const T* phi_top, const T* y, T* e) const {
        product<false>(C, N, w_out(r), N, phi_top, TILE, [&](int64_t i, int64_t v, Vector sum) {
            store(e + i * TILE + v, s_out * sum - load(y + i * TILE + v));
        });
    }

    // All iterations of one tile.
    template <Activation A> void infer(int64_t r, int64_t tile, T* scratch) const {
        T *f = scratch, *q = f + block, *above = q + block, *pred = f + std::max(3 * block, PANEL * TILE);
        T *y = pred + block, *e = y + C * TILE;
        T *z_ff = e + C * TILE, *panel = f;
        pack((const T*)p.y + r * p.y_stride + tile * TILE * C, C, samples(tile), C, y);
        input(r, tile, panel, pred);
        std::memcpy(z(r, 0, tile), pred, block * sizeof(T));
        for (int64_t l = 0; l + 1 < hidden; l++) {
            const T* below = z(r, l, tile);
            T* out = z(r, l + 1, tile);
            activate<A>(below, f, N);
            product<false>(N, N, w(r, l), N, f, TILE, [&](int64_t i, int64_t v, Vector sum) {
                store(out + i * TILE + v, load(below + i * TILE + v) + s * sum);
            });
        }
        for (int64_t l = 0; l < hidden; l++) {
            if (p.anchored) std::memcpy(z_ff + l * block, z(r, l, tile), block * sizeof(T));
            std::memset(lam(r, l, tile), 0, block * sizeof(T));
            if (p.start_z) {
                const int64_t start = ((r * hidden + l) * p.batch + tile * TILE) * N;
                pack((const T*)p.start_z + start, N, samples(tile), N, z(r, l, tile));
                pack((const T*)p.start_lam + start, N, samples(tile), N, lam(r, l, tile));
            }
        }
        for (int64_t t = 0; t < p.iterations; t++) {
            // The dual step of the previous iteration: the residuals after its primal step are those before this one.
            const bool dual = p.dual && t > 0 && t % p.inner_steps == 0;
            const int64_t lowest = unmoved(t + 1);
            if (lowest == 0) credit(r, tile, pred, dual, q);
            else std::memset(q, 0, block * sizeof(T));
            for (int64_t l = lowest; l + 1 < hidden; l++) {
                T *zl = z(r, l, tile);
                const T eta = at(p.step_size, r, l), kappa = at(p.anchor, r, l);
                activate<A>(zl, f, N);
                residual(r, l, tile, f, dual, above);
                product<true>(N, N, w(r, l), N, above, TILE, [&](int64_t i, int64_t v, Vector sum) {
                    const int64_t o = i * TILE + v;
                    Vector old = load(zl + o), g = load(q + o) - load(above + o) - times_dphi<A>(s * sum, load(f + o));
                    if (p.anchored) g += kappa * (old - load(z_ff + l * block + o));
                    store(zl + o, old - eta * g);
                });
                std::swap(q, above);
            }
            T* top = z(r, hidden - 1, tile);
            const T eta = at(p.step_size, r, hidden - 1), kappa = at(p.anchor, r, hidden - 1);
            activate<A>(top, f, N);
            error(r, f, y, e);
            product<true>(N, C, w_out(r), N, e, TILE, [&](int64_t i, int64_t v, Vector sum) {
                const int64_t o = i * TILE + v;
                Vector old = load(top + o), g = load(q + o) + times_dphi<A>(s_out * sum, load(f + o));
                if (p.anchored) g += kappa * (old - load(z_ff + (hidden - 1) * block + o));
                store(top + o, old - eta * g);
            });
        }
        if (p.iterations == 0) adjoint<A>(r, tile, y, f, e);
        credit(r, tile, pred, p.dual_after, q_in + (r * tiles + tile) * block);
    }

    // λ ← λ + α c if the dual step is due;  q = ρ c + λ
    static INLINE Vector credit(Vector c, T* lam, bool dual, T rho, T alpha) {
        Vector multiplier = load(lam);
        if (dual) store(lam, multiplier += alpha * c);
        return rho * c + multiplier;
    }
    // q_1, from c_1 = z_1 − pred_1
    INLINE void credit(int64_t r, int64_t tile, const T* pred, bool dual, T* q) const {
        const T *here = z(r, 0, tile), rho = at(p.penalty, r, 0), alpha = at(p.dual_step, r, 0);
        T* multipliers = lam(r, 0, tile);
        for (int64_t o = 0; o < block; o += LANES)
            store(q + o, credit(load(here + o) - load(pred + o), multipliers + o, dual, rho, alpha));
    }
    // q_{l+1} of the layer above l, from f = φ(z_l)
    INLINE void residual(int64_t r, int64_t l, int64_t tile, const T* f, bool dual, T* q) const {
        const T *below = z(r, l, tile), *here = z(r, l + 1, tile);
        const T rho = at(p.penalty, r, l + 1), alpha = at(p.dual_step, r, l + 1);
        T* multipliers = lam(r, l + 1, tile);
        product<false>(N, N, w(r, l), N, f, TILE, [&](int64_t i, int64_t v, Vector sum) {
            const int64_t o = i * TILE + v;
            store(q + o, credit(load(here + o) - load(below + o) - s * sum, multipliers + o, dual, rho, alpha));
        });
    }

    // λ = −δ of backpropagation, at which q = λ gives its weight gradients.
    template <Activation A> void adjoint(int64_t r, int64_t tile, const T* y, T* f, T* e) const {
        T* out = lam(r, hidden - 1, tile);
        activate<A>(z(r, hidden - 1, tile), f, N);
        error(r, f, y, e);
        product<true>(N, C, w_out(r), N, e, TILE, [&](int64_t i, int64_t v, Vector sum) {
            store(out + i * TILE + v, -times_dphi<A>(s_out * sum, load(f + i * TILE + v)));
        });
        for (int64_t l = hidden - 2; l >= 0; l--) {
            const T* above = lam(r, l + 1, tile);
            out = lam(r, l, tile);
            activate<A>(z(r, l, tile), f, N);
            product<true>(N, N, w(r, l), N, above, TILE, [&](int64_t i, int64_t v, Vector sum) {
                const int64_t o = i * TILE + v;
                store(out + o, load(above + o) + times_dphi<A>(s * sum, load(f + o)));
            });
        }
    }

    // g[i][c] (+)= factor Σ_b q[i][b] right[b][c] over the samples of a tile, for n rows and all columns.
    void outer(const T* q, int64_t n, const T* right, int64_t ldr, int64_t columns, int64_t tile, T factor, T* g,
               int64_t ldg) const {
        for (int64_t c = 0; c < columns; c += TILE)
            product<false>(n, samples(tile), q, TILE, right + c, ldr, [&](int64_t i, int64_t v, Vector sum) {
                T* to = g + i * ldg + c + v;
                const int64_t count = std::min(LANES, columns - c - v);
                Vector total{};
                if (count == LANES) {
                    if (tile) total = load(to);
                    store(to, total + factor * sum);
                } else if (count > 0) {
                    if (tile) std::memcpy(&total, to, count * sizeof(T));
                    total += factor * sum;
                    std::memcpy(to, &total, count * sizeof(T));
                }
            });
    }

    // One piece of the weight gradients: that of the matrix above hidden layer index `piece`, up to that of W_L, and
    // after those PANEL columns of W_1's at a time.
    template <Activation A> void gradient(int64_t r, int64_t piece, T* scratch) const {
        T *f = scratch, *right = f + block, *q = right + TILE * padded, *y = q + std::max(N, C) * TILE;
        T* g_hidden = (T*)p.g + (r * (hidden - 1) + piece) * N * N;
        if (p.iterations > 0 && piece + 1 < unmoved(p.iterations)) {
            std::memset(g_hidden, 0, N * N * sizeof(T));
            return;
        }
        for (int64_t tile = 0; tile < tiles; tile++) {
            if (piece < hidden) {
                activate<A>(z(r, piece, tile), f, N);
                transpose(f, TILE, N, TILE, right, padded);
            }
            if (piece < hidden - 1) {
                residual(r, piece, tile, f, p.dual_after, q);
                outer(q, N, right, padded, N, tile, -s / p.batch, g_hidden, N);
            } else if (piece == hidden - 1) {
                pack((const T*)p.y + r * p.y_stride + tile * TILE * C, C, samples(tile), C, y);
                error(r, f, y, q);
                outer(q, C, right, padded, N, tile, s_out / p.batch, (T*)p.g_out + r * C * N, N);
            } else {
                const int64_t d = (piece - hidden) * PANEL, columns = std::min(PANEL, D - d);
                const T* x = (const T*)p.x + r * p.x_stride + tile * TILE * D + d;
                const T* q1 = q_in + (r * tiles + tile) * block;
                T* g = (T*)p.g_in + r * N * D + d;
                for (int64_t b = 0; b < samples(tile); b++) std::memcpy(f + b * PANEL, x + b * D, columns * sizeof(T));
                outer(q1, N, f, PANEL, columns, tile, -s_in / p.batch, g, D);
            }
        }
    }

    // One layer of the state from [tiles][N][TILE] to [tiles · TILE][N], in place.
    void unpack(T* state, T* scratch) const {
        std::memcpy(scratch, state, layer * sizeof(T));
        for (int64_t tile = 0; tile < tiles; tile++)
            transpose(scratch + tile * block, TILE, N, TILE, state + tile * block, N);
    }

    template <Activation A> bool run() {
        const int64_t pieces = hidden + (D + PANEL - 1) / PANEL;
        const int64_t inference =
            std::max(3 * block, PANEL * TILE) + block + 2 * C * TILE + (p.anchored ? hidden * block : 0);
        const int64_t gradients = std::max(block, PANEL * TILE) + TILE * padded + (std::max(N, C) + C) * TILE;
        const int64_t size = std::max({inference, gradients, layer});
        T* memory = (T*)std::aligned_alloc(64, ((p.threads * size + p.replicas * layer) * sizeof(T) + 63) / 64 * 64);
        if (!memory) return false;
        q_in = memory + p.threads * size;
#pragma omp parallel num_threads(p.threads) if (p.threads > 1)
        {
            T* scratch = memory + omp_get_thread_num() * size;
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < p.replicas * tiles; i++) infer<A>(i / tiles, i % tiles, scratch);
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < p.replicas * pieces; i++) gradient<A>(i / pieces, pieces - 1 - i % pieces, scratch);
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < p.replicas * hidden; i++) {
                unpack((T*)p.z + i * layer, scratch);
                unpack((T*)p.lam + i * layer, scratch);
            }
        }
        std::free(memory);
        return true;
    }
    bool run() {
        return p.activation == LINEAR ? run<LINEAR>() : p.activation == TANH ? run<TANH>() : run<RELU>();
    }
};

// 0, or 1 where memory ran out.
extern "C" int sweep_float32(const Task* task) { return !Sweep<float>(*task).run(); }
extern "C" int sweep_float64(const Task* task) { return !Sweep<double>(*task).run(); }
// Samples per tile.
extern "C" int64_t tile_float32() { return Sweep<float>::TILE; }
extern "C" int64_t tile_float64() { return Sweep<double>::TILE; }
