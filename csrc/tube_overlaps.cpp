// Overlaps of tubes without masks: per frame the cells that each tube covers, then their products.
#include <algorithm>
#include <vector>

#include "operators.h"
#include "parallel.h"
#include "rectangles.h"
#include "simd.h"

namespace aosa {

namespace {

constexpr int64_t kCells = 8;  // cells that are added to a row of overlaps at once, between a load and a store

struct Covered {
    int32_t cell;
    float pixels;
};

// sums[j] += factors[k] * rows[k][j] for the tubes j and kCells cells k. Each lane is an overlap of its own, its terms
// in the order of the cells, so that no instruction set changes a bit.
AOSA_INLINE void add_products_body(const float* const* rows, const float* factors, int64_t count,
                                   float* __restrict sums) {
    const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5], *r6 = rows[6],
                *r7 = rows[7];
    const float f0 = factors[0], f1 = factors[1], f2 = factors[2], f3 = factors[3], f4 = factors[4], f5 = factors[5],
                f6 = factors[6], f7 = factors[7];
    for (int64_t j = 0; j < count; ++j) {
        float sum = sums[j];
        sum += f0 * r0[j];
        sum += f1 * r1[j];
        sum += f2 * r2[j];
        sum += f3 * r3[j];
        sum += f4 * r4[j];
        sum += f5 * r5[j];
        sum += f6 * r6[j];
        sum += f7 * r7[j];
        sums[j] = sum;
    }
}

AOSA_MULTIVERSION(add_products, (const float* const* rows, const float* factors, int64_t count, float* __restrict sums),
                  (rows, factors, count, sums))

// Adds the pixels of a box to each cell that it meets, and lists the cells that had none.
void add_box(const Box& box, int64_t W, int32_t cell, float* pixels, std::vector<Covered>& list) {
    for (int32_t y = box.y0 / cell; y * cell < box.y1; ++y) {
        const int32_t rows = std::min(box.y1, (y + 1) * cell) - std::max(box.y0, y * cell);
        for (int32_t x = box.x0 / cell; x * cell < box.x1; ++x) {
            const int32_t columns = std::min(box.x1, (x + 1) * cell) - std::max(box.x0, x * cell);
            float& sum = pixels[y * W + x];
            if (sum == 0.0f) list.push_back({static_cast<int32_t>(y * W + x), 0.0f});
            sum += static_cast<float>(rows * columns);
        }
    }
}

// The cells that each tube meets in one frame.
class FrameCells {
   public:
    FrameCells(int64_t N, int64_t H, int64_t W, int64_t cell)
        : N_(N), W_(W), cells_(H * W), cell_(static_cast<int32_t>(cell)), lists_(N), pixels_(cells_ * N) {}

    void fill(const int32_t* boxes, const int32_t* members, int64_t K1, int64_t T, int64_t t, int threads) {
        parallel_for(N_, threads, N_ * K1 * 100, [&](int64_t begin, int64_t end) {
            DisjointUnion pieces(K1);
            pieces.frame(boxes, N_, T, t);
            std::vector<float> own(cells_, 0.0f);
            for (int64_t n = begin; n < end; ++n) {
                std::vector<Covered>& list = lists_[n];
                for (const Covered& covered : list) pixels_[covered.cell * N_ + n] = 0.0f;
                list.clear();
                pieces(members + n * K1, K1, [&](const Box& box) { add_box(box, W_, cell_, own.data(), list); });
                for (Covered& covered : list) {
                    covered.pixels = own[covered.cell];
                    own[covered.cell] = 0.0f;
                    pixels_[covered.cell * N_ + n] = covered.pixels;
                }
            }
        });
    }

    // sums[j] += the products of tubes n and j, for j from n on.
    void add_row(const float* weight, int64_t n, float* sums) const {
        const std::vector<Covered>& list = lists_[n];
        const int64_t count = static_cast<int64_t>(list.size());
        for (int64_t first = 0; first < count; first += kCells) {
            const float* rows[kCells];
            float factors[kCells];
            for (int64_t k = 0; k < kCells; ++k) {
                const bool some = first + k < count;
                const Covered covered = some ? list[first + k] : Covered{list[first].cell, 0.0f};
                rows[k] = pixels_.data() + covered.cell * N_ + n;
                factors[k] = weight[covered.cell] * covered.pixels;
            }
            add_products(rows, factors, N_ - n, sums + n);
        }
    }

    int64_t entries() const {
        int64_t count = 0;
        for (const std::vector<Covered>& list : lists_) count += static_cast<int64_t>(list.size());
        return count;
    }

   private:
    int64_t N_, W_, cells_;
    int32_t cell_;
    std::vector<std::vector<Covered>> lists_;
    std::vector<float> pixels_;  // (cells, N): what each tube covers of a cell
};

}  // namespace

void tube_overlaps(const float* weights, const int32_t* boxes, const int32_t* members, float* overlaps, TubeShape shape,
                   int64_t cell, int threads) {
    const int64_t B = shape.B, N = shape.N, K1 = shape.K1, T = shape.T, H = shape.H, W = shape.W;
    const float area = static_cast<float>(cell) * static_cast<float>(cell), scale = 1.0f / (area * area);
    std::fill(overlaps, overlaps + B * N * N, 0.0f);
    for (int64_t b = 0; b < B; ++b) {
        FrameCells cells(N, H, W, cell);
        float* sums = overlaps + b * N * N;
        for (int64_t t = 0; t < T; ++t) {
            cells.fill(boxes + b * N * T * 4, members + b * N * K1, K1, T, t, threads);
            const float* weight = weights + (b * T + t) * H * W;
            // Rows from both ends of the triangle together: every part has the same work.
            parallel_for((N + 1) / 2, threads, cells.entries() * N / 16, [&](int64_t begin, int64_t end) {
                for (int64_t n = begin; n < end; ++n) {
                    cells.add_row(weight, n, sums + n * N);
                    if (n != N - 1 - n) cells.add_row(weight, N - 1 - n, sums + (N - 1 - n) * N);
                }
            });
        }
        for (int64_t i = 0; i < N; ++i)
            for (int64_t j = i; j < N; ++j) sums[j * N + i] = sums[i * N + j] *= scale;
    }
}

}  // namespace aosa
