#include "dataplane/dpdk/left.hpp"

#include "dataplane/dpdk/table_file.hpp"

#include <algorithm>
#include <unistd.h>

namespace godwit::dpdk {
namespace {

using dataplane::TableImage;

// Its worker died with its process; the lock on the file says that it has.
class LeftByDpdk final : public dataplane::LeftTables {
public:
    LeftByDpdk(std::string path, std::unique_ptr<TableFile> file)
        : path_(std::move(path)), file_(std::move(file)) {}

    std::uint64_t generation() const override { return file_->generation(); }
    const struct steer_config& config() const override { return file_->tables().config; }

    Result<TableImage> stop() override {
        const Tables& tables = file_->tables();
        TableImage image;
        image.config = tables.config;
        image.clock = {tick_now(), kTicksPerSecond};
        std::ranges::copy(tables.lines, image.lines.begin());
        image.vms = tables.vms;
        image.resets = tables.resets->all();
        std::ranges::copy(file_->port_names(), image.port_names.begin());
        image.tallies.resize(STEER_TALLY_PORTS);
        for (const CounterSet& worker : tables.counters)
            for (std::uint32_t number = 0; number < STEER_TALLY_PORTS; ++number)
                for (std::size_t cell = 0; cell < std::size(image.tallies[0].packets); ++cell)
                    image.tallies[number].packets[cell] += worker.tallies[number].packets[cell];
        for (std::uint32_t i = 0; i < tables.vms.size() * STEER_SLOTS; ++i) {
            if (!(tables.vms[i / STEER_SLOTS].steer & STEER_VALID)) continue;
            auto& sum = image.backends.emplace_back(i).counters;
            for (const CounterSet& worker : tables.counters) {
                sum.packets_to += worker.backends[i].to;
                sum.packets_from += worker.backends[i].from;
                sum.fenced += worker.backends[i].fenced;
            }
        }
        return image;
    }

    void remove() override { unlink(path_.c_str()); }

private:
    std::string path_;
    std::unique_ptr<TableFile> file_;
};

}  // namespace

Result<std::uint64_t> generation_of(const std::string& path, std::uint64_t owner) {
    return TableFile::generation_of(path, owner);
}

Result<std::unique_ptr<dataplane::LeftTables>> find_left(const std::string& path,
                                                         std::uint64_t owner) {
    Result<std::uint64_t> generation = TableFile::generation_of(path, owner);
    if (!generation) return std::unexpected(std::move(generation).error());
    if (*generation == 0) return nullptr;
    Result<std::unique_ptr<TableFile>> file = TableFile::open(path, {}, owner);
    if (!file) return std::unexpected(std::move(file).error());
    return std::make_unique<LeftByDpdk>(path, std::move(*file));
}

}  // namespace godwit::dpdk
