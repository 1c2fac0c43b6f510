// Tube scores: one summed-area table per frame, then the union of each tube's boxes (method: section 7.2 and 7.3).
#include <vector>

#include "operators.h"
#include "parallel.h"
#include "rectangles.h"

namespace aosa {

namespace {

// Running sums of R rows at once: each waits for its last addition, so several in flight hide the wait.
template <int R>
void running_sums(const float* field, double* table, int64_t W) {
    double sum[R] = {};
    for (int64_t x = 0; x < W; ++x)
        for (int r = 0; r < R; ++r) {
            sum[r] += static_cast<double>(field[r * W + x]);
            table[r * (W + 1) + x + 1] = sum[r];
        }
}

// table (H+1, W+1): table[y][x] = sum of the field above and left of (x, y), exclusive. Row 0 and column 0 stay 0.
void summed_area(const float* field, double* table, int64_t H, int64_t W) {
    int64_t y = 0;
    for (; y + 4 <= H; y += 4) running_sums<4>(field + y * W, table + (y + 1) * (W + 1), W);
    for (; y < H; ++y) running_sums<1>(field + y * W, table + (y + 1) * (W + 1), W);
    for (int64_t i = W + 1; i < H * (W + 1); ++i) table[i + W + 1] += table[i];
}

double box_sum(const double* table, int64_t W, const Box& box) {
    const double* top = table + static_cast<int64_t>(box.y0) * (W + 1);
    const double* bottom = table + static_cast<int64_t>(box.y1) * (W + 1);
    return (bottom[box.x1] - bottom[box.x0]) - (top[box.x1] - top[box.x0]);
}

}  // namespace

void tube_scores(const float* field, const int32_t* boxes, const int32_t* members, float* scores, TubeShape shape,
                 int threads) {
    const int64_t B = shape.B, N = shape.N, K1 = shape.K1, T = shape.T, H = shape.H, W = shape.W;
    // Sums per frame first, then over the frames in order: the same bits at any number of threads.
    std::vector<double> partial(B * T * N, 0.0);
    parallel_for(B * T, threads, B * T * (H * W + 8 * N * K1), [&](int64_t begin, int64_t end) {
        std::vector<double> table((H + 1) * (W + 1), 0.0);
        DisjointUnion pieces(K1);
        for (int64_t bt = begin; bt < end; ++bt) {
            const int64_t b = bt / T, t = bt % T;
            summed_area(field + bt * H * W, table.data(), H, W);
            pieces.frame(boxes + b * N * T * 4, N, T, t);
            for (int64_t n = 0; n < N; ++n) {
                double sum = 0.0;
                pieces(members + (b * N + n) * K1, K1, [&](const Box& box) { sum += box_sum(table.data(), W, box); });
                partial[bt * N + n] = sum;
            }
        }
    });
    for (int64_t b = 0; b < B; ++b)
        for (int64_t n = 0; n < N; ++n) {
            double sum = 0.0;
            for (int64_t t = 0; t < T; ++t) sum += partial[(b * T + t) * N + n];
            scores[b * N + n] = static_cast<float>(sum);
        }
}

}  // namespace aosa
