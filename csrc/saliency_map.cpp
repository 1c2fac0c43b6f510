// The map as the adjoint of the tube scores: corners of a difference array, then one running sum (method: section 7.4).
#include <algorithm>
#include <vector>

#include "operators.h"
#include "parallel.h"
#include "rectangles.h"

namespace aosa {

namespace {

// A voxel's sum of scores and its coverage side by side: a corner touches one cache line, and the pair adds as one
// vector. Counts in double are exact.
struct Cell {
    double score, count;
};

void add_corners(Cell* difference, int64_t W, const Box& box, const Cell& value) {
    const auto add = [&](int32_t y, int32_t x, double sign) {
        Cell& cell = difference[static_cast<int64_t>(y) * (W + 1) + x];
        cell.score += sign * value.score;
        cell.count += sign * value.count;
    };
    add(box.y0, box.x0, 1.0);
    add(box.y0, box.x1, -1.0);
    add(box.y1, box.x0, -1.0);
    add(box.y1, box.x1, 1.0);
}

// Running sums of R rows at once: each waits for its last addition, so several in flight hide the wait.
template <int R>
void running_sums(const Cell* difference, float* saliency, int32_t* coverage, int64_t W) {
    Cell sum[R] = {};
    for (int64_t x = 0; x < W; ++x)
        for (int r = 0; r < R; ++r) {
            sum[r].score += difference[r * (W + 1) + x].score;
            sum[r].count += difference[r * (W + 1) + x].count;
            coverage[r * W + x] = static_cast<int32_t>(sum[r].count);
            // Corners cancel only up to rounding; where no tube is, the map is 0 and not 1e-18.
            saliency[r * W + x] = sum[r].count > 0.0 ? static_cast<float>(sum[r].score) : 0.0f;
        }
}

// Turns the difference array (H+1, W+1) of one frame into its map and coverage; the array is used up.
void integrate(Cell* difference, float* saliency, int32_t* coverage, int64_t H, int64_t W) {
    for (int64_t i = W + 1; i < H * (W + 1); ++i) {
        difference[i].score += difference[i - W - 1].score;
        difference[i].count += difference[i - W - 1].count;
    }
    int64_t y = 0;
    for (; y + 4 <= H; y += 4) running_sums<4>(difference + y * (W + 1), saliency + y * W, coverage + y * W, W);
    for (; y < H; ++y) running_sums<1>(difference + y * (W + 1), saliency + y * W, coverage + y * W, W);
}

}  // namespace

void saliency_map(const float* scores, const int32_t* boxes, const int32_t* members, float* saliency, int32_t* coverage,
                  TubeShape shape, int threads) {
    const int64_t B = shape.B, N = shape.N, K1 = shape.K1, T = shape.T, H = shape.H, W = shape.W;
    parallel_for(B * T, threads, B * T * (2 * H * W + 8 * N * K1), [&](int64_t begin, int64_t end) {
        std::vector<Cell> difference((H + 1) * (W + 1));
        DisjointUnion pieces(K1);
        for (int64_t bt = begin; bt < end; ++bt) {
            const int64_t b = bt / T, t = bt % T;
            std::fill(difference.begin(), difference.end(), Cell{0.0, 0.0});
            pieces.frame(boxes + b * N * T * 4, N, T, t);
            for (int64_t n = 0; n < N; ++n) {
                const Cell value{static_cast<double>(scores[b * N + n]), 1.0};
                pieces(members + (b * N + n) * K1, K1,
                       [&](const Box& box) { add_corners(difference.data(), W, box, value); });
            }
            integrate(difference.data(), saliency + bt * H * W, coverage + bt * H * W, H, W);
        }
    });
}

}  // namespace aosa
