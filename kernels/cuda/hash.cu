/* hash.cu - content hashes of a slab where it lies: XXH3, 128 bits, seed 0, of each block of
 * HASH_BLOCK bytes (base/hash.h), so that a version is named and verified without leaving the
 * device.
 *
 * XXH3 of a long input is eight sums over stripes of 64 bytes, stirred once a kilobyte. A sum takes
 * the product of its own word's halves and the word of its neighbour, so four threads with two
 * sums each need nothing of one another until the end: a thread reads 16 bytes of every stripe, a
 * whole kilobyte's worth before it computes. Eight blocks share a warp; that is enough to keep the
 * memory busy from about a hundred megabytes on. Inputs of up to 240 bytes are hashed in another
 * way, which only the last block of a slab could need: kern_hash_leaves does that one on the host.
 */
#include "kernels/cuda/cuda.h"

enum { PAIRS = 4, STRIPE = 64, STRIPES = 16, KILO = STRIPE * STRIPES, SECRET = 24 };
enum { SECRET_LAST = 121, SECRET_LOW = 11, SECRET_HIGH = 117 }; /* bytes into the secret */

/* The algorithm's own constants: its default secret as words, and its primes. */
static __device__ const uint64_t hash_secret[SECRET] = {
    0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072,
    0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82, 0x8e2443f7744608b8, 0x4c263a81e69035e0,
    0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
    0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8,
    0xc3ebd33483acc5ea, 0xeb6313faffa081c5, 0x49daf0b751dd0d17, 0x9e68d429265516d3,
    0xfca1477d58be162b, 0xce31d07ad1b8f88f, 0x280416958f3acb45, 0x7e404bbbcafbd7af,
};
#if CUDA_ON_DEVICE
#define HASH_UNROLL _Pragma("unroll")
#else
#define HASH_UNROLL
#endif
#define PRIME32_1 0x9e3779b1ull
#define PRIME32_2 0x85ebca77ull
#define PRIME32_3 0xc2b2ae3dull
#define PRIME64_1 0x9e3779b185ebca87ull
#define PRIME64_2 0xc2b2ae3d27d4eb4full
#define PRIME64_3 0x165667b19e3779f9ull
#define PRIME64_4 0x85ebca77c2b2ae63ull
#define PRIME64_5 0x27d4eb2f165667c5ull

struct pair { /* neighbouring sums, or what of a stripe belongs to them */
    uint64_t a, b;
};

static __device__ __forceinline__ uint64_t mul_fold(uint64_t a, uint64_t b) {
#if CUDA_ON_DEVICE
    return a * b ^ __umul64hi(a, b);
#else
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
#endif
}

static __device__ __forceinline__ uint64_t secret_at(int byte) {
    int w = byte / 8, shift = byte % 8 * 8;
    uint64_t low = hash_secret[w];
    return shift ? low >> shift | hash_secret[w + 1] << (64 - shift) : low;
}

static __device__ __forceinline__ uint64_t hash_word_at(const uint8_t *p) {
    uint64_t w = 0;
    for (int i = 7; i >= 0; i--)
        w = w << 8 | p[i];
    return w;
}

template <bool ALIGNED> static __device__ __forceinline__ struct pair pair_at(const uint8_t *p) {
    if (!ALIGNED) return {hash_word_at(p), hash_word_at(p + 8)};
    ulonglong2 v = *reinterpret_cast<const ulonglong2 *>(p);
    return {(uint64_t)v.x, (uint64_t)v.y};
}

static __device__ __forceinline__ void accumulate(struct pair *acc, struct pair data, uint64_t ka,
                                                  uint64_t kb) {
    ka ^= data.a;
    kb ^= data.b;
    acc->a += data.b + (ka & 0xffffffffu) * (ka >> 32);
    acc->b += data.a + (kb & 0xffffffffu) * (kb >> 32);
}

static __device__ __forceinline__ uint64_t stir(uint64_t acc, uint64_t key) {
    return (acc ^ acc >> 47 ^ key) * PRIME32_1;
}

static __device__ __forceinline__ struct pair start_of(int t) {
    switch (t) {
    case 0: return {PRIME32_3, PRIME64_1};
    case 1: return {PRIME64_2, PRIME64_3};
    case 2: return {PRIME64_4, PRIME32_2};
    default: return {PRIME64_5, PRIME32_1};
    }
}

/* The sum over the four threads of a block, then the final stir. All 32 lanes call. */
static __device__ __forceinline__ uint64_t merge_lanes(struct pair acc, int t, int secret,
                                                       uint64_t from) {
    uint64_t x =
        mul_fold(acc.a ^ secret_at(secret + 16 * t), acc.b ^ secret_at(secret + 16 * t + 8));
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    x += __shfl_xor_sync(0xffffffffu, x, 2);
    x += from;
    x ^= x >> 37;
    x *= 0x165667919e3779f9ull;
    return x ^ x >> 32;
}

/* One block of n > 240 bytes, this thread's pair of its sums. */
template <bool ALIGNED>
static __device__ struct pair sums_of(const uint8_t *data, size_t n, int t) {
    const size_t whole = (n - 1) / KILO;
    struct pair acc = start_of(t), in[STRIPES];
    uint64_t key[STRIPES + 1];
    for (int k = 0; k <= STRIPES; k++)
        key[k] = hash_secret[2 * t + k];
    const uint8_t *p = data + 16 * t;
    for (size_t i = 0; i < whole; i++, p += KILO) {
        HASH_UNROLL for (int k = 0; k < STRIPES; k++) in[k] = pair_at<ALIGNED>(p + k * STRIPE);
        HASH_UNROLL for (int k = 0; k < STRIPES; k++) accumulate(&acc, in[k], key[k], key[k + 1]);
        acc.a = stir(acc.a, key[STRIPES]); /* the secret's last 64 bytes */
        acc.b = stir(acc.b, hash_secret[2 * t + STRIPES + 1]);
    }
    const int left = (int)((n - 1 - whole * KILO) / STRIPE);
    for (int k = 0; k < left; k++)
        accumulate(&acc, pair_at<ALIGNED>(p + k * STRIPE), hash_secret[2 * t + k],
                   hash_secret[2 * t + k + 1]);
    p = data + n - STRIPE + 16 * t; /* the last 64 bytes, again if need be */
    accumulate(&acc, pair_at<false>(p), secret_at(SECRET_LAST + 16 * t),
               secret_at(SECRET_LAST + 16 * t + 8));
    return acc;
}

/* A leaf is four threads; those beyond the last one repeat it. */
static __global__ void leaves_kernel(uint64_t *leaf, const uint8_t *data, size_t bytes,
                                     size_t n_leaves) {
    const int t = (int)threadIdx.x % PAIRS;
    const size_t mine = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / PAIRS;
    const size_t b = mine < n_leaves ? mine : n_leaves - 1, at = b * HASH_BLOCK;
    const size_t n = bytes - at < HASH_BLOCK ? bytes - at : (size_t)HASH_BLOCK;
    const bool aligned = (uintptr_t)data % 16 == 0;
    struct pair acc = aligned ? sums_of<true>(data + at, n, t) : sums_of<false>(data + at, n, t);
    uint64_t low = merge_lanes(acc, t, SECRET_LOW, n * PRIME64_1);
    uint64_t high = merge_lanes(acc, t, SECRET_HIGH, ~(n * PRIME64_2));
    if (mine >= n_leaves || t != 0) return;
    leaf[2 * b] = high;
    leaf[2 * b + 1] = low;
}

int cuda_hash_leaves(struct kern_stream *s, struct hash *leaf, const void *data, size_t bytes) {
    const size_t n = (bytes + HASH_BLOCK - 1) / HASH_BLOCK;
    void *there;
    static_assert(sizeof(struct hash) == 16 && offsetof(struct hash, lo) == 8, "hi, then lo");
    TRY(cuda_scratch(&there, s, "hash_leaves", n * sizeof *leaf));
    uint64_t *to = static_cast<uint64_t *>(there);
    const unsigned grid = (unsigned)((n * PAIRS + CUDA_WARP - 1) / CUDA_WARP);
    CUDA_LAUNCH(leaves_kernel, grid, CUDA_WARP, 0, s, to, static_cast<const uint8_t *>(data), bytes,
                n);
    CUDA_TRY(cudaMemcpyAsync(leaf, to, n * sizeof *leaf, cudaMemcpyDeviceToHost, s->on));
    CUDA_TRY(cudaStreamSynchronize(s->on));
    return 0;
}
