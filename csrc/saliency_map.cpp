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

// Turns the difference array of one frame into its map and coverage.
void integrate(const Cell* difference, Cell* above, float* saliency, int32_t* coverage, int64_t H, int64_t W) {
    std::fill(above, above + W, Cell{0.0, 0.0});
    for (int64_t y = 0; y < H; ++y) {
        Cell row{0.0, 0.0};
        for (int64_t x = 0; x < W; ++x) {
            const Cell& cell = difference[y * (W + 1) + x];
            row.score += cell.score;
            row.count += cell.count;
            above[x].score += row.score;
            above[x].count += row.count;
            coverage[y * W + x] = static_cast<int32_t>(above[x].count);
            // Corners cancel only up to rounding; where no tube is, the map is 0 and not 1e-18.
            saliency[y * W + x] = above[x].count > 0.0 ? static_cast<float>(above[x].score) : 0.0f;
        }
    }
}

}  // namespace

void saliency_map(const float* scores, const int32_t* boxes, const int32_t* members, float* saliency, int32_t* coverage,
                  TubeShape shape, int threads) {
    const auto [B, N, K1, T, H, W] = shape;
    parallel_for(B * T, threads, B * T * (2 * H * W + 8 * N * K1), [&](int64_t begin, int64_t end) {
        std::vector<Cell> difference((H + 1) * (W + 1)), above(W);
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
            integrate(difference.data(), above.data(), saliency + bt * H * W, coverage + bt * H * W, H, W);
        }
    });
}

}  // namespace aosa
