// Threads of the standard library, made for one call and joined before it returns: nothing survives into a fork, and
// several Python threads may be inside at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace aosa {

// Starting and joining a thread costs about 30 us; below this many elementary steps a thread it is not worth it.
constexpr int64_t kStepsPerThread = 200'000;

// Calls body(begin, end) on contiguous ranges that partition [0, count). `steps` is the work of the whole call. What
// body writes for an index must not depend on the partition: results are then the same at any number of threads.
template <class Body>
void parallel_for(int64_t count, int threads, int64_t steps, const Body& body) {
    const int64_t useful = std::max<int64_t>(1, steps / kStepsPerThread);
    const int64_t n = std::max<int64_t>(1, std::min<int64_t>({count, static_cast<int64_t>(threads), useful}));
    if (n == 1) {
        if (count > 0) body(0, count);
        return;
    }
    std::vector<std::exception_ptr> failures(n);
    const auto run = [&](int64_t k) {
        try {
            body(count * k / n, count * (k + 1) / n);
        } catch (...) {
            failures[k] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(n - 1);
    int64_t started = 1;
    try {
        for (; started < n; ++started) others.emplace_back(run, started);
    } catch (const std::system_error&) {
        // The system gives no more threads: this one does the ranges that are left.
    }
    run(0);
    for (int64_t k = started; k < n; ++k) run(k);
    for (std::thread& thread : others) thread.join();
    for (const std::exception_ptr& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

}  // namespace aosa
