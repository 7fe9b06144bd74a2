// The header in C++: types, calls, and a lock guard as C++ programs write one.
#include <dsm/dsm.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

static_assert(std::is_standard_layout_v<dsm_config_t> && std::is_trivial_v<dsm_stats_t>);
static_assert(std::is_same_v<decltype(dsm_get_node_id()), node_id_t>);

static void check(int result) {
    if (result != DSM_SUCCESS) throw std::runtime_error(dsm_last_error());
}

class Guard {
public:
    explicit Guard(lock_id_t id) : id_(id) { check(dsm_mutex_lock(id_)); }
    ~Guard() { dsm_mutex_unlock(id_); }
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;

private:
    lock_id_t id_;
};

int main() {
    dsm_config_t config{};
    config.num_nodes = 1;
    config.is_manager = true;
    check(dsm_init(&config));
    auto *count = static_cast<int *>(dsm_malloc(sizeof(int)));
    std::vector<std::thread> threads;
    for (int at = 0; at < 4; at++) {
        threads.emplace_back([count] {
            for (int round = 0; round < 100; round++) {
                Guard guard{5};
                *count += 1;
            }
        });
    }
    for (auto &thread : threads) thread.join();
    if (*count != 400) return EXIT_FAILURE;
    bool refused = false;
    try {
        check(dsm_mutex_unlock(5));
    } catch (const std::runtime_error &error) {
        refused = std::strstr(error.what(), "does not hold") != nullptr;
    }
    if (!refused) return EXIT_FAILURE;
    check(dsm_finalize());
    std::puts("@@ done");
    return EXIT_SUCCESS;
}
