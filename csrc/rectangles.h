// Unions of rectangles without masks (method: III-B, overlap counts once).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace aosa {

struct Box {  // half-open, clipped to the frame by whoever made it
    int32_t x0, y0, x1, y1;
    bool empty() const { return x0 >= x1 || y0 >= y1; }
};

// One branch instead of four: most pairs are decided by a different side each time.
inline bool overlap(const Box& a, const Box& b) {
    return (a.x0 < b.x1) & (b.x0 < a.x1) & (a.y0 < b.y1) & (b.y0 < a.y1);
}

// The union of one tube's boxes in one frame, as disjoint pieces: box k keeps what no earlier box covers. Exact for any
// number of members, and cheaper than the 2^M - 1 signed intersections, because most pairs do not meet (measured at
// M = 4: bench/README.md). The order of the pieces is fixed, so sums over them are reproducible.
class DisjointUnion {
   public:
    explicit DisjointUnion(int64_t members) : held_(members), stack_(4 * members + 4) {}

    // Loads the boxes (N, T, 4) of frame t: close together, they stay in the first-level cache.
    void frame(const int32_t* boxes, int64_t N, int64_t T, int64_t t) {
        boxes_.resize(N);
        for (int64_t n = 0; n < N; ++n) {
            const int32_t* b = boxes + (n * T + t) * 4;
            boxes_[n] = {b[0], b[1], b[2], b[3]};
        }
    }

    // tube: (K1,) rows of the frame's boxes, negative ones are padding.
    template <class Emit>
    void operator()(const int32_t* tube, int64_t K1, Emit&& emit) {
        int64_t held = 0;
        for (int64_t k = 0; k < K1; ++k) {
            if (tube[k] < 0 || boxes_[tube[k]].empty()) continue;
            add(boxes_[tube[k]], held, emit);
            held_[held++] = boxes_[tube[k]];
        }
    }

   private:
    struct Piece {
        Box box;
        int64_t next;  // the first earlier box that it has not been held against
    };

    template <class Emit>
    void add(const Box& box, int64_t held, Emit&& emit) {
        int64_t depth = 0;
        Piece piece{box, 0};
        while (true) {
            while (piece.next < held && !overlap(piece.box, held_[piece.next])) ++piece.next;
            if (piece.next == held)
                emit(piece.box);
            else
                depth = split(piece.box, held_[piece.next], piece.next + 1, depth);
            if (depth == 0) return;
            piece = stack_[--depth];
        }
    }

    // Pushes what is left of `a` outside of `b`: the rows above and below, then left and right of it.
    int64_t split(const Box& a, const Box& b, int64_t next, int64_t depth) {
        const int32_t top = std::max(a.y0, b.y0), bottom = std::min(a.y1, b.y1);
        if (a.y0 < top) stack_[depth++] = {{a.x0, a.y0, a.x1, top}, next};
        if (bottom < a.y1) stack_[depth++] = {{a.x0, bottom, a.x1, a.y1}, next};
        if (a.x0 < b.x0) stack_[depth++] = {{a.x0, top, b.x0, bottom}, next};
        if (b.x1 < a.x1) stack_[depth++] = {{b.x1, top, a.x1, bottom}, next};
        return depth;
    }

    std::vector<Box> boxes_, held_;
    std::vector<Piece> stack_;  // each earlier box adds at most 3 pieces to what it takes away
};

}  // namespace aosa
