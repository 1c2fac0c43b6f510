// Python bindings: arrays in, arrays out, the interpreter's lock released. The Python side (kernels/) checks and names;
// here only what would corrupt memory is checked again: sizes, one by one, as products of them could overflow.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "operators.h"
#include "simd.h"

namespace py = pybind11;
using Floats = py::array_t<float, py::array::c_style>;
using Ints = py::array_t<int32_t, py::array::c_style>;
using Bytes = py::array_t<uint8_t, py::array::c_style>;

namespace {

void expect(bool holds, const char* rule) {
    if (!holds) throw std::invalid_argument(rule);
}

template <class A, class B>
void expect_like(const A& array, const B& other, const char* rule) {
    expect(array.ndim() == other.ndim() && std::equal(array.shape(), array.shape() + array.ndim(), other.shape()),
           rule);
}

void expect_shape(const py::array& array, std::initializer_list<int64_t> shape, const char* rule) {
    expect(
        array.ndim() == static_cast<py::ssize_t>(shape.size()) && std::equal(shape.begin(), shape.end(), array.shape()),
        rule);
}

void expect_radius(int64_t radius) {
    expect(radius >= 0, "radius must be at least 0");
}

// A box or member out of range would write outside of the arrays, so every one is looked at (0.02 ms for N = 784).
void check_tubes(const Ints& boxes, const Ints& members, int64_t N, int64_t H, int64_t W) {
    const int32_t* b = boxes.data();
    for (int64_t i = 0; i < boxes.size(); i += 4)
        expect(b[i] >= 0 && b[i + 1] >= 0 && b[i + 2] <= W && b[i + 3] <= H && b[i] <= W && b[i + 1] <= H,
               "boxes must lie inside the frame");
    const int32_t* m = members.data();
    for (int64_t i = 0; i < members.size(); ++i) expect(m[i] >= -1 && m[i] < N, "members must be rows of boxes, or -1");
}

aosa::ClipShape clip_shape(const Floats& video) {
    expect(video.ndim() == 5, "video must be (B, C, T, H, W)");
    return {video.shape(0), video.shape(1), video.shape(2), video.shape(3), video.shape(4)};
}

// A voxel of the field is `cell` pixels wide and high.
aosa::TubeShape tube_shape(const Floats& field, const Ints& boxes, const Ints& members, int64_t cell = 1) {
    expect(field.ndim() == 4 && boxes.ndim() == 4 && members.ndim() == 3, "must be (B,T,H,W), (B,N,T,4), (B,N,K1)");
    const aosa::TubeShape s{field.shape(0), boxes.shape(1), members.shape(2),
                            field.shape(1), field.shape(2), field.shape(3)};
    expect(boxes.shape(0) == s.B && boxes.shape(2) == s.T && boxes.shape(3) == 4, "boxes must be (B, N, T, 4)");
    expect(members.shape(0) == s.B && members.shape(1) == s.N, "members must be (B, N, K1)");
    check_tubes(boxes, members, s.N, cell * s.H, cell * s.W);
    return s;
}

void normalize_frames(const Bytes& frames, const Floats& mean, const Floats& std, Floats& video, int threads) {
    expect(frames.ndim() == 5 && frames.shape(4) == 3, "frames must be (B, T, H, W, 3)");
    expect(mean.size() == 3 && std.size() == 3, "mean and std must be (3,)");
    expect_shape(video, {frames.shape(0), 3, frames.shape(1), frames.shape(2), frames.shape(3)},
                 "video must be (B, 3, T, H, W)");
    float* out = video.mutable_data();
    const int64_t clips = frames.shape(0), voxels = clips ? frames.size() / clips / 3 : 0;
    py::gil_scoped_release release;
    aosa::normalize_frames(frames.data(), mean.data(), std.data(), out, clips, voxels, threads);
}

void grey_frames(const Bytes& frames, Bytes& grey, int threads) {
    expect(frames.ndim() == 5 && frames.shape(4) == 3, "frames must be (B, T, H, W, 3)");
    expect_shape(grey, {frames.shape(0), frames.shape(1), frames.shape(2), frames.shape(3)},
                 "grey must be (B, T, H, W)");
    uint8_t* out = grey.mutable_data();
    py::gil_scoped_release release;
    aosa::grey_frames(frames.data(), out, grey.size(), threads);
}

void conditional_mean(const Floats& video, Floats& mean, int64_t radius, int threads) {
    const auto shape = clip_shape(video);
    expect_like(mean, video, "mean must be like video");
    expect_radius(radius);
    float* out = mean.mutable_data();
    py::gil_scoped_release release;
    aosa::conditional_mean(video.data(), out, shape, radius, threads);
}

void field(const Floats& video, const Floats& grad, const py::object& fill, Floats& out, int64_t radius, int relu,
           int threads) {
    const auto shape = clip_shape(video);
    expect_like(grad, video, "grad must be like video");
    expect_shape(out, {shape.B, shape.T, shape.H, shape.W}, "out must be (B, T, H, W)");
    expect_radius(radius);
    expect(relu >= 0 && relu <= static_cast<int>(aosa::Relu::eq8_literal), "relu must be from 0 to 3");
    const float* values = nullptr;
    bool per_channel = false;
    Floats held;
    if (!fill.is_none()) {
        held = fill.cast<Floats>();
        per_channel = held.ndim() == 1;
        if (per_channel)
            expect(held.size() == shape.C, "fill must be (C,) or like video");
        else
            expect_like(held, video, "fill must be (C,) or like video");
        values = held.data();
    }
    float* target = out.mutable_data();
    py::gil_scoped_release release;
    aosa::field(video.data(), grad.data(), values, per_channel, target, shape, radius, static_cast<aosa::Relu>(relu),
                threads);
}

void tube_scores(const Floats& field, const Ints& boxes, const Ints& members, Floats& scores, int threads) {
    const auto shape = tube_shape(field, boxes, members);
    expect_shape(scores, {shape.B, shape.N}, "scores must be (B, N)");
    float* out = scores.mutable_data();
    py::gil_scoped_release release;
    aosa::tube_scores(field.data(), boxes.data(), members.data(), out, shape, threads);
}

void saliency_map(const Floats& scores, const Ints& boxes, const Ints& members, Floats& saliency, Ints& coverage,
                  int threads) {
    const auto shape = tube_shape(saliency, boxes, members);
    expect_shape(scores, {shape.B, shape.N}, "scores must be (B, N)");
    expect_like(coverage, saliency, "coverage must be like saliency");
    float* map = saliency.mutable_data();
    int32_t* counts = coverage.mutable_data();
    py::gil_scoped_release release;
    aosa::saliency_map(scores.data(), boxes.data(), members.data(), map, counts, shape, threads);
}

void tube_overlaps(const Floats& weights, const Ints& boxes, const Ints& members, Floats& overlaps, int64_t cell,
                   int threads) {
    expect(weights.ndim() == 4, "weights must be (B, T, H, W)");
    expect(cell >= 1 && cell <= INT32_MAX / std::max<int64_t>({1, weights.shape(2), weights.shape(3)}),
           "cell must be at least 1, and the frame's sides less than 2^31");
    const auto shape = tube_shape(weights, boxes, members, cell);
    expect_shape(overlaps, {shape.B, shape.N, shape.N}, "overlaps must be (B, N, N)");
    float* out = overlaps.mutable_data();
    py::gil_scoped_release release;
    aosa::tube_overlaps(weights.data(), boxes.data(), members.data(), out, shape, cell, threads);
}

aosa::TubeRows tube_rows(const Ints& boxes, const Ints& members, const Ints& clips, int64_t B, int64_t T, int64_t H,
                         int64_t W) {
    expect(boxes.ndim() == 4 && members.ndim() == 2 && clips.ndim() == 1, "must be (B,N,T,4), (n,K1), (n,)");
    expect(boxes.shape(0) == B && boxes.shape(2) == T && boxes.shape(3) == 4, "boxes must be (B, N, T, 4)");
    expect(clips.shape(0) == members.shape(0), "clips must be one per row of members");
    check_tubes(boxes, members, boxes.shape(1), H, W);
    for (int64_t i = 0; i < clips.size(); ++i)
        expect(clips.data()[i] >= 0 && clips.data()[i] < B, "clips must be rows of video");
    return {boxes.data(), members.data(), clips.data(), boxes.shape(1), members.shape(0), members.shape(1)};
}

void occlude(const Bytes& video, const Bytes& fill, const Ints& boxes, const Ints& members, const Ints& clips,
             Bytes& out, int64_t frames, int threads) {
    expect(video.ndim() == 5, "video must be (B, P, H, W, bytes)");
    const aosa::ByteClip clip{video.shape(1), frames, video.shape(2), video.shape(3), video.shape(4)};
    const auto rows = tube_rows(boxes, members, clips, video.shape(0), frames, clip.H, clip.W);
    expect_like(fill, video, "fill must be like video");
    expect(clip.planes == 0 || (frames > 0 && clip.planes % frames == 0), "planes must be whole clips of frames");
    expect_shape(out, {rows.n, clip.planes, clip.H, clip.W, clip.pixel}, "out must hold a clip per row");
    char* target = reinterpret_cast<char*>(out.mutable_data());
    py::gil_scoped_release release;
    aosa::occlude(reinterpret_cast<const char*>(video.data()), reinterpret_cast<const char*>(fill.data()), rows, target,
                  clip, threads);
}

void occlude_sampled(const Floats& video, const Floats& mean, const Ints& boxes, const Ints& members, const Ints& clips,
                     const Floats& noise, Floats& out, int64_t radius, int threads) {
    const auto shape = clip_shape(video);
    const auto rows = tube_rows(boxes, members, clips, shape.B, shape.T, shape.H, shape.W);
    expect_like(mean, video, "mean must be like video");
    expect(noise.ndim() == 4 && radius == noise.shape(3) / 2, "noise must be (n, T, 2r+1, 2r+1)");
    expect_shape(noise, {rows.n, shape.T, 2 * radius + 1, 2 * radius + 1}, "noise must be (n, T, 2r+1, 2r+1)");
    expect_shape(out, {rows.n, shape.C, shape.T, shape.H, shape.W}, "out must hold a clip per row");
    float* target = out.mutable_data();
    py::gil_scoped_release release;
    aosa::occlude_sampled(video.data(), mean.data(), rows, noise.data(), target, shape, radius, threads);
}

// The table (index, weight), whose indices must be those of `source` values.
aosa::AxisTable axis_table(const py::handle& pair, int64_t source) {
    const auto table = pair.cast<py::tuple>();
    // Anything else would be converted, into a copy that does not outlive this function.
    expect(table.size() == 2 && py::isinstance<Ints>(table[0]) && py::isinstance<Floats>(table[1]),
           "a table must be (int32 index, float32 weight)");
    const auto index = table[0].cast<Ints>();
    const auto weight = table[1].cast<Floats>();
    expect(index.ndim() == 2 && weight.ndim() == 2 && index.shape(0) == weight.shape(0) &&
               index.shape(1) == weight.shape(1),
           "index and weight must be (taps, size)");
    for (int64_t i = 0; i < index.size(); ++i)
        expect(index.data()[i] >= 0 && index.data()[i] < source, "indices must lie inside the axis");
    return {index.data(), weight.data(), index.shape(0), index.shape(1)};
}

// levels: four tables each, of arrays that the caller holds.
void farneback(const Bytes& frames, Floats& flow, const py::list& levels, const Floats& weights, const Floats& inverse,
               int64_t winsize, int64_t iterations, int threads) {
    expect(frames.ndim() == 4, "frames must be (B, T, H, W)");
    const aosa::ClipShape shape{frames.shape(0), 1, frames.shape(1), frames.shape(2), frames.shape(3)};
    expect(shape.T >= 1 && shape.H >= 1 && shape.W >= 1, "frames must not be empty");
    expect(shape.H <= INT32_MAX / shape.W, "frames must have less than 2^31 pixels");
    expect_shape(flow, {shape.B, shape.T - 1, shape.H, shape.W, 2}, "flow must be (B, T-1, H, W, 2)");
    expect(weights.ndim() == 2 && weights.shape(0) == 3 && weights.shape(1) % 2 == 1, "weights must be (3, 2n+1)");
    expect(inverse.size() == 4, "inverse must be (4,)");
    expect(winsize >= 1 && iterations >= 1, "winsize and iterations must be at least 1");
    expect(winsize <= INT32_MAX, "winsize must be less than 2^31");
    std::vector<aosa::PyramidLevel> pyramid;
    int64_t height = 0, width = 0;
    for (const py::handle level : levels) {
        const auto tables = level.cast<py::tuple>();
        expect(tables.size() == 4, "a level must have four tables");
        pyramid.push_back({axis_table(tables[0], shape.H), axis_table(tables[1], shape.W),
                           axis_table(tables[2], height), axis_table(tables[3], width)});
        height = pyramid.back().rows.size;
        width = pyramid.back().columns.size;
        expect(height >= 1 && width >= 1, "a level must not be empty");
        expect(height <= shape.H && width <= shape.W, "a level must not be larger than the frame");
        expect(pyramid.back().flow_rows.size == height && pyramid.back().flow_columns.size == width,
               "tables of a level must have one size");
    }
    expect(height == shape.H && width == shape.W, "the last level must have the size of the frames");
    const aosa::FarnebackOptions options{weights.data(), inverse.data(), weights.shape(1) / 2, winsize, iterations};
    float* target = flow.mutable_data();
    py::gil_scoped_release release;
    aosa::farneback(frames.data(), target, shape, pyramid, options, threads);
}

const char* const kLevels[] = {"baseline", "avx2", "avx512"};

std::string simd_level() {
    return kLevels[static_cast<int>(aosa::simd_level())];
}

void set_simd_level(const std::string& name) {
    for (int level = 0; level <= static_cast<int>(aosa::simd_supported()); ++level)
        if (name == kLevels[level]) return aosa::set_simd_level(static_cast<aosa::Simd>(level));
    throw std::invalid_argument("level must be one that this processor has, up to " +
                                std::string(kLevels[static_cast<int>(aosa::simd_supported())]) + "; got " + name);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "CPU operators of aosa_fast; call them through aosa_fast.kernels.";
    const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
    m.def("normalize_frames", &normalize_frames, strict("frames"), strict("mean"), strict("std"), strict("video"),
          py::arg("threads"));
    m.def("grey_frames", &grey_frames, strict("frames"), strict("grey"), py::arg("threads"));
    m.def("conditional_mean", &conditional_mean, strict("video"), strict("mean"), py::arg("radius"),
          py::arg("threads"));
    m.def("field", &field, strict("video"), strict("grad"), py::arg("fill"), strict("out"), py::arg("radius"),
          py::arg("relu"), py::arg("threads"));
    m.def("tube_scores", &tube_scores, strict("field"), strict("boxes"), strict("members"), strict("scores"),
          py::arg("threads"));
    m.def("saliency_map", &saliency_map, strict("scores"), strict("boxes"), strict("members"), strict("saliency"),
          strict("coverage"), py::arg("threads"));
    m.def("tube_overlaps", &tube_overlaps, strict("weights"), strict("boxes"), strict("members"), strict("overlaps"),
          py::arg("cell"), py::arg("threads"));
    m.def("occlude", &occlude, strict("video"), strict("fill"), strict("boxes"), strict("members"), strict("clips"),
          strict("out"), py::arg("frames"), py::arg("threads"));
    m.def("occlude_sampled", &occlude_sampled, strict("video"), strict("mean"), strict("boxes"), strict("members"),
          strict("clips"), strict("noise"), strict("out"), py::arg("radius"), py::arg("threads"));
    m.def("farneback", &farneback, strict("frames"), strict("flow"), py::arg("levels"), strict("weights"),
          strict("inverse"), py::arg("winsize"), py::arg("iterations"), py::arg("threads"));
    m.def("simd_level", &simd_level, "The instruction set in use: baseline, avx2 or avx512.");
    m.def("set_simd_level", &set_simd_level, py::arg("level"), "Choose a lower one, for tests; results do not change.");
}
