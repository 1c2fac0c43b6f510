// Unions of boxes: disjoint pieces (csrc/rectangles.h) against inclusion-exclusion, both over a summed-area table.
//   g++ -O3 -std=c++17 -ffp-contract=off -I csrc bench/union.cpp -o /tmp/union && /tmp/union
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "rectangles.h"

using aosa::Box;

namespace {

constexpr int64_t N = 784, T = 16, H = 112, W = 112, STRIDE = 4, BOX = 16;
constexpr int REPEATS = 41;

double box_sum(const std::vector<double>& table, const Box& b) {
    const double* top = table.data() + b.y0 * (W + 1);
    const double* bottom = table.data() + b.y1 * (W + 1);
    return (bottom[b.x1] - bottom[b.x0]) - (top[b.x1] - top[b.x0]);
}

// Every non-empty intersection of the boxes from `next` on with `box`; an empty one has only empty ones below it.
double signed_sums(const std::vector<double>& table, const Box* boxes, int64_t count, int64_t next, const Box& box,
                   double sign) {
    double sum = 0.0;
    for (int64_t k = next; k < count; ++k) {
        const Box part{std::max(box.x0, boxes[k].x0), std::max(box.y0, boxes[k].y0), std::min(box.x1, boxes[k].x1),
                       std::min(box.y1, boxes[k].y1)};
        if (part.empty()) continue;
        sum += sign * box_sum(table, part) + signed_sums(table, boxes, count, k + 1, part, -sign);
    }
    return sum;
}

// (N, T, 4): a grid of boxes that drifts along a smooth random motion, clipped to the frame.
std::vector<int32_t> smooth_boxes(std::mt19937& draw) {
    std::normal_distribution<double> normal;
    const double phase = 6.28 * std::uniform_real_distribution<double>()(draw);
    const double drift_x = normal(draw), drift_y = normal(draw);
    std::vector<int32_t> boxes(N * T * 4);
    for (int64_t n = 0; n < N; ++n) {
        double x = STRIDE / 2 + n % (W / STRIDE) * STRIDE, y = STRIDE / 2 + n / (W / STRIDE) * STRIDE;
        for (int64_t t = 0; t < T; ++t) {
            int32_t* b = boxes.data() + (n * T + t) * 4;
            const int32_t left = std::lrint(x) - BOX / 2, top = std::lrint(y) - BOX / 2;
            b[0] = std::max<int32_t>(left, 0), b[1] = std::max<int32_t>(top, 0);
            b[2] = std::min<int32_t>(left + BOX, W), b[3] = std::min<int32_t>(top + BOX, H);
            x = std::clamp(x + drift_x + 2 * std::sin(y / 16 + phase), 0.0, W - 1.0);
            y = std::clamp(y + drift_y + 2 * std::cos(x / 16 + phase), 0.0, H - 1.0);
        }
    }
    return boxes;
}

// (N, M): the anchor and M - 1 others; `near` takes them from around it, where boxes overlap.
std::vector<int32_t> choose(int64_t M, bool near, std::mt19937& draw) {
    std::uniform_int_distribution<int32_t> any(0, N - 1), around(-4, 4);
    std::vector<int32_t> members(N * M);
    for (int64_t n = 0; n < N; ++n)
        for (int64_t m = 0; m < M; ++m) {
            const int64_t other = n + around(draw) + W / STRIDE * around(draw);
            members[n * M + m] = m == 0 ? n : near ? std::clamp<int64_t>(other, 0, N - 1) : any(draw);
        }
    return members;
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
}

}  // namespace

int main() {
    std::mt19937 draw(0);
    std::vector<double> table((H + 1) * (W + 1), 0.0);
    for (int64_t y = 0; y < H; ++y)
        for (int64_t x = 0; x < W; ++x)
            table[(y + 1) * (W + 1) + x + 1] = table[y * (W + 1) + x + 1] + table[(y + 1) * (W + 1) + x] -
                                               table[y * (W + 1) + x] +
                                               std::uniform_real_distribution<double>()(draw);
    const std::vector<int32_t> boxes = smooth_boxes(draw);
    std::printf("partners   M  pieces  disjoint ns  signed ns  signed / disjoint\n");
    for (const bool near : {false, true})
        for (const int64_t M : {2, 4, 6, 8, 12}) {
            const std::vector<int32_t> members = choose(M, near, draw);
            aosa::DisjointUnion pieces(M);
            std::vector<double> disjoint(N * T), inclusion(N * T), times[2];
            int64_t count = 0;
            const auto disjoint_way = [&] {
                count = 0;
                for (int64_t t = 0; t < T; ++t) {
                    pieces.frame(boxes.data(), N, T, t);
                    for (int64_t n = 0; n < N; ++n) {
                        double sum = 0.0;
                        pieces(members.data() + n * M, M, [&](const Box& b) { sum += box_sum(table, b), ++count; });
                        disjoint[t * N + n] = sum;
                    }
                }
            };
            const auto signed_way = [&] {
                std::vector<Box> frame(N), tube(M);
                for (int64_t t = 0; t < T; ++t) {
                    for (int64_t n = 0; n < N; ++n) {
                        const int32_t* b = boxes.data() + (n * T + t) * 4;
                        frame[n] = {b[0], b[1], b[2], b[3]};
                    }
                    for (int64_t n = 0; n < N; ++n) {
                        for (int64_t m = 0; m < M; ++m) tube[m] = frame[members[n * M + m]];
                        inclusion[t * N + n] = signed_sums(table, tube.data(), M, 0, {0, 0, W, H}, 1.0);
                    }
                }
            };
            const auto time = [&](const auto& way) {
                const auto start = std::chrono::steady_clock::now();
                way();
                return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
            };
            for (int r = 0; r < REPEATS; ++r) {
                times[0].push_back(time(disjoint_way));
                times[1].push_back(time(signed_way));
            }
            for (int64_t i = 0; i < N * T; ++i)
                if (!(std::abs(disjoint[i] - inclusion[i]) <= 1e-6 * std::abs(inclusion[i]) + 1e-9)) {
                    std::printf("not equal at %d: %g and %g\n", static_cast<int>(i), disjoint[i], inclusion[i]);
                    return EXIT_FAILURE;
                }
            const double a = median(times[0]) / (N * T), b = median(times[1]) / (N * T);
            std::printf("%-8s %3d %7.2f %12.1f %10.1f %18.2f\n", near ? "near" : "any", static_cast<int>(M),
                        static_cast<double>(count) / (N * T), a, b, b / a);
        }
    return EXIT_SUCCESS;
}
