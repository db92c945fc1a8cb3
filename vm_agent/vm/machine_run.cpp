// The part of Machine that pauses, resumes, and moves device state and role words.
#include "lib/log.hpp"

#include "vm_agent/memory/mapped_file.hpp"
#include "vm_agent/region/godwit_region.h"
#include "vm_agent/vm/machine.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <sys/stat.h>

#include <boost/asio/steady_timer.hpp>

namespace godwit::agent {

namespace bj = json::bj;
namespace asio = boost::asio;
using memory::MappedFile;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kMigrationDeadline{20'000};
constexpr int kSettlePollsMax = 5000;
constexpr std::uint64_t kMib = 1 << 20;
constexpr std::string_view kDeviceFd = "godwit-devices";

std::string text_at(const bj::value& value, const char* pointer) {
    boost::system::error_code none;
    const bj::value* found = value.find_pointer(pointer, none);
    return found && found->is_string() ? std::string(found->get_string()) : std::string();
}

std::int64_t unix_now_ms() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<milliseconds>(now).count();
}

godwit_role role_of(const std::string& role) {
    if (role == "clone") return GODWIT_CLONE;
    return role == "source" ? GODWIT_SOURCE : GODWIT_SOLE;
}

// The role word of a mapped region file: one aligned 64-bit word a running guest reads.
std::atomic_ref<std::uint64_t> role_word(const MappedFile& region) {
    return std::atomic_ref<std::uint64_t>(
        *reinterpret_cast<std::uint64_t*>(region.data() + GODWIT_LABEL_BYTES + GODWIT_ROLE_OFFSET));
}

}  // namespace

double Machine::standstill_ms() const {
    return static_cast<double>(unix_now_ms() - record_.paused_at_ms);
}

Task<void> Machine::pause(PausedFor why) {
    std::shared_ptr<Machine> self = shared_from_this();
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error());
    // Written first: an agent that dies right after `stop` must know whom to let run again.
    record_.paused_for = why;
    record_.paused_at_ms = unix_now_ms();
    Result<void> kept = save();
    if (!kept) co_return kept;
    paused_at_ = std::chrono::steady_clock::now();
    Result<bj::value> stopped = co_await (*client)->execute("stop");
    if (!stopped) co_return std::unexpected(std::move(stopped).error().within("pause " + name()));
    co_return Result<void>{};
}

Task<void> Machine::resume() {
    std::shared_ptr<Machine> self = shared_from_this();
    const std::string doing = "resume " + name();
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error().within(doing));
    Result<bj::value> told = co_await (*client)->execute("cont");
    if (!told) co_return std::unexpected(std::move(told).error().within(doing));
    const auto paused = std::chrono::steady_clock::now() - paused_at_;
    pause_ms_ = std::chrono::duration<double, std::milli>(paused).count();
    Result<std::string> status = co_await query_status();
    if (!status) co_return std::unexpected(std::move(status).error().within(doing));
    if (*status != "running")
        co_return fail(Fault::Lost, doing, "QEMU says it is " + *status, "qemu-failed");
    record_.paused_for = PausedFor::nobody;
    Result<void> kept = save();
    co_return kept;
}

Task<void> Machine::prepare_migration(bool incoming) {
    std::shared_ptr<Machine> self = shared_from_this();
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error());
    bj::array wanted;
    for (const char* capability : {"x-ignore-shared", "events"})
        wanted.push_back(bj::object{{"capability", capability}, {"state", true}});
    // Until it is let run it locks no disk: the source may have to go on with them.
    if (incoming)
        wanted.push_back(bj::object{{"capability", "late-block-activate"}, {"state", true}});
    bj::object capabilities{{"capabilities", std::move(wanted)}};
    Result<bj::value> set =
        co_await (*client)->execute("migrate-set-capabilities", std::move(capabilities));
    if (!set) co_return std::unexpected(std::move(set).error());
    // A clone that announced itself would draw the hosted IP's traffic to its port.
    bj::object quiet{{"announce-rounds", 0}};
    if (incoming) set = co_await (*client)->execute("migrate-set-parameters", std::move(quiet));
    if (!set) co_return std::unexpected(std::move(set).error());
    co_return Result<void>{};
}

// QEMU tells by event when a migration ended; the wait is armed before it begins.
Task<void> Machine::await_migration(std::string doing, std::function<Task<void>()> begin) {
    Result<std::shared_ptr<qmp::Client>> client = co_await qmp();
    if (!client) co_return std::unexpected(std::move(client).error().within(doing));
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    auto timer = std::make_shared<asio::steady_timer>(executor, kMigrationDeadline);
    auto ended = std::make_shared<std::string>();
    (*client)->on_event([timer, ended](const std::string& event, const bj::object& content) {
        if (event != "MIGRATION") return;
        const bj::value* status = content.if_contains("status");
        if (!status || (*status != "completed" && *status != "failed")) return;
        *ended = std::string(status->get_string());
        timer->cancel();
    });
    Result<void> begun = co_await begin();
    boost::system::error_code ignored;
    if (begun && ended->empty())
        co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    (*client)->on_event({});
    if (!begun) co_return std::unexpected(std::move(begun).error().within(doing));
    if (*ended == "completed") co_return Result<void>{};
    Result<bj::value> details = co_await (*client)->execute("query-migrate");
    const std::string why = details ? text_at(*details, "/error-desc") : details.error().text();
    co_return fail(Fault::Lost, doing,
                   ended->empty() ? "QEMU did not finish in time" : "QEMU failed: " + why,
                   "qemu-failed");
}

Task<void> Machine::save_devices(int fd) {
    std::shared_ptr<Machine> self = shared_from_this();
    std::function<Task<void>()> begin = [self, fd]() -> Task<void> {
        Result<std::shared_ptr<qmp::Client>> client = co_await self->qmp();
        if (!client) co_return std::unexpected(std::move(client).error());
        Result<void> passed = co_await (*client)->pass_fd(std::string(kDeviceFd), fd);
        if (!passed) co_return passed;
        bj::object where{{"uri", "fd:" + std::string(kDeviceFd)}};
        Result<bj::value> begun = co_await (*client)->execute("migrate", std::move(where));
        if (!begun) co_return std::unexpected(std::move(begun).error());
        co_return Result<void>{};
    };
    Result<void> done =
        co_await await_migration("save the device state of " + name(), std::move(begin));
    Result<void> settled = co_await await_settled();
    co_return done ? settled : done;
}

// QEMU says "completed" a moment before it may go on, and has no event for that moment: until then
// `cont` is refused with "Migration is not finalized yet" (seen in 7.2, on a loaded host).
Task<void> Machine::await_settled() {
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (int polls = 0; polls < kSettlePollsMax; ++polls) {
        Result<std::string> status = co_await query_status();
        if (!status) co_return std::unexpected(std::move(status).error());
        if (*status != "finish-migrate") co_return Result<void>{};
        timer.expires_after(milliseconds(1));
        co_await timer.async_wait(asio::use_awaitable);
    }
    co_return fail(Fault::Lost, "finish saving " + name(), "QEMU does not come to an end",
                   "qemu-failed");
}

Task<void> Machine::load_devices(int fd) {
    std::shared_ptr<Machine> self = shared_from_this();
    std::function<Task<void>()> begin = [self, fd]() -> Task<void> {
        Result<std::shared_ptr<qmp::Client>> client = co_await self->qmp();
        if (!client) co_return std::unexpected(std::move(client).error());
        Result<void> passed = co_await (*client)->pass_fd(std::string(kDeviceFd), fd);
        if (!passed) co_return passed;
        bj::object where{{"uri", "fd:" + std::string(kDeviceFd)}};
        Result<bj::value> begun = co_await (*client)->execute("migrate-incoming", std::move(where));
        if (!begun) co_return std::unexpected(std::move(begun).error());
        co_return Result<void>{};
    };
    Result<void> done =
        co_await await_migration("load the device state of " + name(), std::move(begin));
    co_return done;
}

Result<void> Machine::write_role(const std::string& role, std::uint64_t epoch) {
    for (const protocol::RegionSpec& one : record_.spec.regions) {
        Result<MappedFile> region = MappedFile::open(paths_.region(one.name), one.size_mib * kMib);
        if (!region)
            return std::unexpected(
                std::move(region).error().within("tell " + name() + " its role"));
        role_word(*region).store(godwit_role_word(epoch, role_of(role)), std::memory_order_release);
    }
    record_.role = role;
    record_.epoch = epoch;
    return {};
}

Result<std::uint64_t> Machine::region_epoch() const {
    std::uint64_t epoch = record_.epoch;
    for (const protocol::RegionSpec& one : record_.spec.regions) {
        Result<MappedFile> region = MappedFile::open(paths_.region(one.name), one.size_mib * kMib);
        if (!region) return std::unexpected(std::move(region).error());
        epoch = std::max(epoch, role_word(*region).load() >> 8);
    }
    return epoch;
}

}  // namespace godwit::agent
