// The part of Machine that gives its disks their overlays.
#include "vm_agent/vm/disks.hpp"
#include "vm_agent/vm/machine.hpp"
#include "vm_agent/vm/process.hpp"

namespace godwit::agent {

namespace bj = json::bj;
using std::chrono::seconds;

namespace {

// The node the device writes to now, after however many forks.
std::string node_of(const bj::value& blocks, std::size_t disk) {
    const std::string device = "/machine/peripheral/vdisk" + std::to_string(disk) + "/";
    if (!blocks.is_array()) return {};
    for (const bj::value& block : blocks.get_array()) {
        boost::system::error_code none;
        const bj::value* qdev = block.find_pointer("/qdev", none);
        const bj::value* node = block.find_pointer("/inserted/node-name", none);
        const bool named = qdev && node && qdev->is_string() && node->is_string();
        if (named && std::string_view(qdev->get_string()).starts_with(device))
            return std::string(node->get_string());
    }
    return {};
}

}  // namespace

Task<void> Machine::make_disks() {
    std::shared_ptr<Machine> self = shared_from_this();
    if (record_.spec.disks.empty()) co_return Result<void>{};
    Result<void> done = plan_overlays(record_, host_.config.disk_dir, host_.config.id);
    if (done) done = save();
    if (!done) co_return done;
    // A copy: this thread goes on reading the record meanwhile.
    std::shared_ptr<VmRecord> made = std::make_shared<VmRecord>(record_);
    std::function<Result<void>()> work = [self, made]() -> Result<void> {
        const seconds deadline(self->host_.config.qemu.start_timeout_s);
        return make_overlays(*made, [&](std::vector<std::string> words) {
            words.insert(words.begin(), self->host_.config.qemu.image_tool);
            return start_detached(words, self->paths_.qemu_log(), deadline);
        });
    };
    done = co_await run_on<void>(host_.pool, std::move(work));
    if (!done) co_return done;
    record_.disks = std::move(made->disks);
    done = save();
    co_return done;
}

Task<void> Machine::make_next_overlays() {
    share_overlays(record_);
    Result<void> done = co_await make_disks();
    co_return done;
}

Task<void> Machine::turn_to_next_overlays() {
    std::shared_ptr<Machine> self = shared_from_this();
    const std::string doing = "give " + name() + " its next overlays";
    if (record_.spec.disks.empty()) co_return Result<void>{};
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error().within(doing));
    Result<bj::value> blocks = co_await (*client)->execute("query-block");
    if (!blocks) co_return std::unexpected(std::move(blocks).error().within(doing));
    bj::array actions;  // one transaction: all disks at one instant, or none
    for (std::size_t i = 0; i < record_.spec.disks.size(); ++i) {
        if (record_.spec.disks[i].writable) continue;
        const std::string node = node_of(*blocks, i);
        if (node.empty())
            co_return fail(Fault::Lost, doing, "QEMU shows no disk " + std::to_string(i),
                           "qemu-failed");
        const std::size_t depth = overlays_of(record_, i).size();
        bj::object snapshot{
            {"node-name", node},
            {"snapshot-file", top_of(record_, i)},
            {"snapshot-node-name", "disk" + std::to_string(i) + "-" + std::to_string(depth)},
            {"format", "qcow2"},
            {"mode", "existing"}};
        actions.push_back(
            bj::object{{"type", "blockdev-snapshot-sync"}, {"data", std::move(snapshot)}});
    }
    bj::object arguments{{"actions", std::move(actions)}};
    Result<bj::value> turned = co_await (*client)->execute("transaction", std::move(arguments));
    if (!turned) co_return std::unexpected(std::move(turned).error().within(doing));
    co_return Result<void>{};
}

}  // namespace godwit::agent
