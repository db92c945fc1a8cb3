#include "vm_agent/vm/disks.hpp"

#include "lib/secret.hpp"

#include <filesystem>
#include <unistd.h>

namespace godwit::agent {

using protocol::DiskSpec;

namespace {

bool is_there(const std::string& file) {
    return access(file.c_str(), R_OK) == 0;
}

std::unexpected<Error> unseen(const std::string& vm, const std::string& file) {
    return fail(Fault::Rejected, "make the disks of VM " + vm,
                file +
                    " is not visible on this host: put it, and disk_dir, on storage that both "
                    "hosts share at the same path",
                "disk-unseen");
}

// The new file builds on `below`, which another QEMU may be writing: so it is made on the base, whose size
// it takes, and then told about `below` without opening it.
Result<void> make_overlay(const DiskSpec& disk, const std::string& below, const std::string& top,
                          const RunCommand& run) {
    Result<void> made =
        run({"create", "-q", "-f", "qcow2", "-F", disk.format, "-b", disk.base, top});
    if (!made || below == disk.base) return made;
    return run({"rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below, top});
}

}  // namespace

std::vector<std::string> overlays_of(const VmRecord& record, std::size_t index) {
    if (index >= record.disks.size()) return {};
    std::vector<std::string> chain = record.disks[index].shared;
    const std::vector<std::string>& own = record.disks[index].own;
    chain.insert(chain.end(), own.begin(), own.end());
    return chain;
}

std::string top_of(const VmRecord& record, std::size_t index) {
    const std::vector<std::string> chain = overlays_of(record, index);
    return chain.empty() ? record.spec.disks[index].base : chain.back();
}

protocol::VmSpec with_overlays(const VmRecord& record) {
    protocol::VmSpec spec = record.spec;
    for (std::size_t i = 0; i < spec.disks.size(); ++i)
        spec.disks[i].overlays = overlays_of(record, i);
    return spec;
}

std::string new_overlay(const std::string& disk_dir, const std::string& host, const std::string& vm,
                        std::size_t index) {
    return disk_dir + "/" + vm + ".disk" + std::to_string(index) + "." + host + "." +
           random_token().substr(7, 12) + ".qcow2";
}

Result<void> plan_overlays(VmRecord& record, const std::string& disk_dir, const std::string& host) {
    record.disks.resize(record.spec.disks.size());
    for (std::size_t i = 0; i < record.disks.size(); ++i) {
        const DiskSpec& disk = record.spec.disks[i];
        DiskState& state = record.disks[i];
        if (disk.writable || !state.own.empty()) continue;
        if (disk_dir.empty())
            return fail(Fault::Rejected, "make the disks of VM " + record.spec.id,
                        "the agent's configuration names no disk_dir for their overlays",
                        "no-disk-dir");
        if (state.shared.empty()) state.shared = disk.overlays;
        state.own.push_back(new_overlay(disk_dir, host, record.spec.id, i));
        state.made = false;
    }
    return {};
}

Result<void> make_overlays(VmRecord& record, const RunCommand& run) {
    for (std::size_t i = 0; i < record.disks.size(); ++i) {
        const DiskSpec& disk = record.spec.disks[i];
        const std::vector<std::string> chain = overlays_of(record, i);
        if (!is_there(disk.base)) return unseen(record.spec.id, disk.base);
        // What was made once is never made anew: a file that is gone is data that is gone.
        for (const std::string& file : chain)
            if ((record.disks[i].made || file != chain.back()) && !is_there(file))
                return unseen(record.spec.id, file);
        if (chain.empty() || record.disks[i].made) continue;
        const std::string below = chain.size() > 1 ? chain[chain.size() - 2] : disk.base;
        Result<void> made = make_overlay(disk, below, chain.back(), run);
        if (!made)
            return std::unexpected(std::move(made).error().within("make disk " + std::to_string(i) +
                                                                  " of VM " + record.spec.id));
        record.disks[i].made = true;
    }
    return {};
}

Result<void> check_disks_can_move(const protocol::VmSpec& spec) {
    for (std::size_t i = 0; i < spec.disks.size(); ++i)
        if (spec.disks[i].writable)
            return fail(Fault::Rejected, "move VM " + spec.id,
                        "disk " + std::to_string(i) + " (" + spec.disks[i].base +
                            ") is writable itself, and source and destination would both write "
                            "it: leave writable out, so that it is the read-only base of an "
                            "overlay for each, or use method steer",
                        "shared-disk");
    return {};
}

Result<void> check_overlays_are_ours(const protocol::VmSpec& spec, const std::string& disk_dir) {
    const std::filesystem::path place = std::filesystem::path(disk_dir + "/.").parent_path();
    for (std::size_t i = 0; i < spec.disks.size(); ++i)
        for (const std::string& file : spec.disks[i].overlays) {
            const std::filesystem::path path(file);
            const std::string begin = spec.id + ".disk" + std::to_string(i) + ".";
            if (path.parent_path() == place && path.filename().string().starts_with(begin))
                continue;
            return fail(Fault::Rejected, "take VM " + spec.id,
                        "overlay " + file + " is not " + begin + "... in " + disk_dir +
                            ", which every host's disk_dir must be",
                        "foreign-overlay");
        }
    return {};
}

void share_overlays(VmRecord& record) {
    for (DiskState& disk : record.disks) {
        disk.shared.insert(disk.shared.end(), disk.own.begin(), disk.own.end());
        disk.own.clear();
    }
}

void reclaim_overlays(VmRecord& record) {
    for (DiskState& disk : record.disks) {
        disk.shared.insert(disk.shared.end(), disk.own.begin(), disk.own.end());
        disk.own = std::move(disk.shared);
        disk.shared.clear();
        if (!disk.made && !disk.own.empty()) disk.own.pop_back();
        disk.made = !disk.own.empty();
    }
}

std::vector<std::string> own_overlays(const VmRecord& record) {
    std::vector<std::string> files;
    for (const DiskState& disk : record.disks)
        files.insert(files.end(), disk.own.begin(), disk.own.end());
    return files;
}

}  // namespace godwit::agent
