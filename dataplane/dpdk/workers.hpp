// All workers on their lcores, the rings between them, and how the control thread reaches in: configuration changes
// between two bursts, frames of the switch's own leave with the next one.
#pragma once

#include "dataplane/dpdk/worker.hpp"

#include "dataplane/dpdk/loop.hpp"
#include "dataplane/dpdk/quiet.hpp"
#include "dataplane/dpdk/table_file.hpp"

#include <cstdint>
#include <memory>
#include <vector>

struct rte_mbuf;
struct rte_ring;

namespace godwit::dpdk {

inline constexpr unsigned kHandedOverMax = 256;   // frames of the switch's own
inline constexpr unsigned kBetweenWorkers = 512;  // frames on the way from one worker to another

class Workers {
public:
    // One Worker per lcore from kFirstWorkerLcore on, by its number; they and `file` outlive this. `events_fd`: an
    // eventfd, raised when a VM may be drained.
    static Result<std::unique_ptr<Workers>> make(std::vector<Worker*> workers, TableFile& file,
                                                 int events_fd);
    ~Workers();
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;

    // Until stop(). Both by the control thread.
    Result<void> start();
    void stop();

    Quiet& quiet() { return *quiet_; }

    // Takes the frame over, also when it fails. False: too many are waiting already.
    bool hand_over(rte_mbuf* frame, std::uint16_t port);

private:
    Workers(std::vector<Worker*> workers, TableFile& file, int events_fd)
        : workers_(std::move(workers)), file_(file), events_fd_(events_fd) {}
    Result<void> make_rings();
    Result<rte_ring*> make_ring(unsigned frames);
    void make_loops();
    void beat();
    void take_handed_over();
    void ask_neighbours();
    void tell_drained();

    std::vector<Worker*> workers_;
    TableFile& file_;
    int events_fd_;
    std::unique_ptr<Quiet> quiet_;
    std::vector<rte_ring*> rings_;              // all of them
    std::vector<std::vector<rte_ring*>> from_;  // by the worker that reads them
    rte_ring* handed_over_ = nullptr;
    std::vector<std::unique_ptr<WorkerLoop>> loops_;
    std::uint32_t drained_told_ = 0;  // the first worker's
    unsigned running_ = 0;
};

}  // namespace godwit::dpdk
