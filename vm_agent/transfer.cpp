#include "vm_agent/transfer.hpp"

#include "lib/http/address.hpp"
#include "lib/log.hpp"

#include "vm_agent/memory/handshake.hpp"

#include <fcntl.h>

#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>

namespace godwit::agent {

namespace asio = boost::asio;
using asio::ip::tcp;
using memory::FrameChannel;
using memory::FrameType;
using protocol::wire::Hello;
using protocol::wire::Purpose;

namespace {

constexpr std::size_t kConversationsMax = 16;
constexpr std::chrono::seconds kFrameDeadline{30};
constexpr std::chrono::seconds kGreetingDeadline{5};
// A cut connection is waited for a little longer than the source tries (memory/frame.hpp).
constexpr std::chrono::seconds kPatience{25}, kLinger{10}, kSeatDeadline{3};
// Shorter than the caller's patience: who speaks no TLS waits for us, and shall hear why we hang up.
constexpr std::chrono::seconds kTlsDeadline{3};
// A held copy waits for the controller's decision to stop the source, which gives up before that.
constexpr std::chrono::seconds kHeldDeadline{60};

// Both QEMUs must be built alike, or device state of the one means something else to the other.
Result<void> check_alike(const Hello& theirs, Machine& machine) {
    const Hello ours = hello_for(machine, theirs.purpose, theirs.command);
    const std::string doing = "compare both hosts' VM " + theirs.vm;
    auto differs = [&](const std::string& what, const std::string& there, const std::string& here) {
        return fail(Fault::Rejected, doing, what + " is " + there + " there and " + here + " here",
                    "hosts-differ");
    };
    // Where no device state is read the machines may differ, the blocks may not.
    const bool alike = theirs.purpose == Purpose::copy || theirs.purpose == Purpose::whole;
    if (alike && theirs.machine != ours.machine)
        return differs("machine", theirs.machine, ours.machine);
    if (alike && theirs.cpu != ours.cpu) return differs("cpu", theirs.cpu, ours.cpu);
    if (alike && theirs.vcpus != ours.vcpus)
        return differs("vcpus", std::to_string(theirs.vcpus), std::to_string(ours.vcpus));
    if (alike && theirs.qemu_version != ours.qemu_version)
        return differs("QEMU", theirs.qemu_version, ours.qemu_version);
    if (alike && theirs.accelerator != ours.accelerator)
        return differs("accelerator", theirs.accelerator, ours.accelerator);
    if (theirs.blocks.size() != ours.blocks.size())
        return differs("the number of memory blocks", std::to_string(theirs.blocks.size()),
                       std::to_string(ours.blocks.size()));
    for (std::size_t i = 0; i < ours.blocks.size(); ++i)
        if (theirs.blocks[i].name != ours.blocks[i].name ||
            theirs.blocks[i].bytes != ours.blocks[i].bytes)
            return differs("block " + std::to_string(i),
                           theirs.blocks[i].name + " of " + std::to_string(theirs.blocks[i].bytes),
                           ours.blocks[i].name + " of " + std::to_string(ours.blocks[i].bytes));
    return {};
}

Result<void> check_waits(const Machine& machine) {
    if (!machine.is_alive())
        return fail(Fault::Lost, "take in memory", "its QEMU is gone: prepare it afresh",
                    "qemu-failed");
    if (machine.record().origin == Origin::incoming && !machine.record().loaded) return {};
    return fail(Fault::Conflict, "take in memory",
                "the VM here does not wait for a copy: prepare it afresh", "wrong-state");
}

}  // namespace

TransferServer::TransferServer(Agent& agent) : agent_(agent), acceptor_(agent.host().executor) {}

Result<std::string> TransferServer::listen(const std::string& address) {
    const std::string doing = "listen for other agents at " + address;
    Result<http::Address> parsed = http::parse_address(address);
    if (!parsed) return std::unexpected(std::move(parsed).error().within(doing));
    boost::system::error_code error;
    const asio::ip::address ip = asio::ip::make_address(parsed->host, error);
    if (error) return fail(Fault::Rejected, doing, "write an IP address and a port");
    const tcp::endpoint where(ip, parsed->port);
    acceptor_.open(where.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(where, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return fail(Fault::Retry, doing, error.message());
    asio::co_spawn(agent_.host().executor, accept_loop(), asio::detached);
    http::Address bound{"", acceptor_.local_endpoint().address().to_string(),
                        acceptor_.local_endpoint().port()};
    return bound.text();
}

void TransferServer::stop() {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    for (const std::weak_ptr<FrameChannel>& one : channels_)
        if (std::shared_ptr<FrameChannel> channel = one.lock()) channel->cancel();
    agent_.sessions().end_all();
}

asio::awaitable<void> TransferServer::accept_loop() {
    while (acceptor_.is_open()) {
        boost::system::error_code error;
        tcp::socket socket =
            co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (error == asio::error::operation_aborted) co_return;
        if (error) continue;
        std::erase_if(channels_, [](const auto& one) { return one.expired(); });
        // Strangers must not take every worker thread.
        if (channels_.size() >= kConversationsMax) continue;
        // The channel works on its own copy of the descriptor, outside of Asio.
        const int fd = fcntl(socket.native_handle(), F_DUPFD_CLOEXEC, 0);
        if (fd < 0) continue;
        auto channel = std::make_shared<FrameChannel>(memory::Descriptor(fd));
        channels_.push_back(channel);
        asio::co_spawn(agent_.host().executor, serve(channel), asio::detached);
    }
}

asio::awaitable<void> TransferServer::serve(std::shared_ptr<FrameChannel> channel) {
    Result<void> done = co_await converse(channel);
    if (!done) log::warning("transfer", done.error().text());
    std::function<Result<void>()> goodbye = [channel, done]() -> Result<void> {
        if (!done) channel->abort(done.error());
        if (!done) return {};
        // The last word may have been lost with the connection.
        channel->set_patience(kLinger);
        return channel->flush();
    };
    if (!done) agent_.sessions().remove(channel, done.error().text());
    Result<void> said = co_await run_on<void>(agent_.host().pool, std::move(goodbye));
    if (!said) log::warning("transfer", said.error().text());
    agent_.sessions().remove(channel, "");
}

Task<void> TransferServer::take_up(std::shared_ptr<FrameChannel> channel, memory::Caller caller) {
    const Hello& hello = caller.hello;
    Result<memory::Session> session = agent_.sessions().find(hello.session);
    if (session && (session->vm != hello.vm || session->job != hello.command.job))
        session = fail(Fault::Conflict, "take a session up again", "it is of another VM or job",
                       "session-gone");
    if (!session) co_return std::unexpected(std::move(session).error());
    // Where only the source has noticed the cut, the thread here is woken and comes to its seat.
    session->channel->disconnect();
    const std::string host = agent_.host().config.id, secret = agent_.credentials().secret;
    std::function<Result<void>()> meet = [=, seat = session->seat]() -> Result<void> {
        Result<void> met = memory::take_up_at(*seat, *channel, caller, host, secret,
                                              std::chrono::steady_clock::now() + kSeatDeadline);
        if (!met) channel->disconnect();  // without a word: it comes again
        return {};
    };
    Result<void> done = co_await run_on<void>(agent_.host().pool, std::move(meet));
    if (done) log::info("transfer", hello.vm + ": a cut connection was taken up again");
    co_return done;
}

Task<void> TransferServer::converse(std::shared_ptr<FrameChannel> channel) {
    const memory::Credentials credentials = agent_.credentials();
    const std::string secret = credentials.secret;
    channel->set_deadline(kGreetingDeadline);
    std::function<Result<memory::Caller>()> listen = [=]() -> Result<memory::Caller> {
        Result<void> secured =
            credentials.tls ? channel->take_tls(credentials.tls, kTlsDeadline) : Result<void>{};
        if (!secured) return std::unexpected(std::move(secured).error());
        return memory::hear_hello(*channel, secret);
    };
    Result<memory::Caller> caller =
        co_await run_on<memory::Caller>(agent_.host().pool, std::move(listen));
    if (!caller) co_return std::unexpected(std::move(caller).error());
    const Hello& hello = caller->hello;
    const std::string doing = "take VM " + hello.vm + " for " + hello.command.job;
    Result<void> admitted = agent_.fencing().admit(hello.command);
    if (!admitted) co_return std::unexpected(std::move(admitted).error().within(doing));
    Result<std::shared_ptr<Machine>> machine = agent_.find(hello.vm);
    if (!machine) co_return std::unexpected(std::move(machine).error().within(doing));
    if ((*machine)->record().owner_job != hello.command.job)
        co_return fail(Fault::Conflict, doing, "the VM here is not owned by this job", "not-owner");
    const std::string& source_host = (*machine)->record().source_host;
    Result<void> expected = source_host.empty() ? Result<void>{} : channel->check_peer(source_host);
    if (!expected) co_return std::unexpected(std::move(expected).error().within(doing));
    Result<void> alike = check_alike(hello, **machine);
    if (!alike) co_return std::unexpected(std::move(alike).error().within(doing));
    if (hello.resume) {
        Result<void> taken_up = co_await take_up(channel, *caller);
        co_return taken_up;
    }
    // A source that begins anew does not come back to what it began before.
    if ((*machine)->lock().is_held() && !agent_.sessions().end_cut(hello.vm))
        co_return fail(Fault::Conflict, doing, "something else is being done to this VM",
                       "wrong-state");
    Lock::Guard guard = co_await (*machine)->lock().acquire();
    channel->set_deadline(kFrameDeadline);
    const std::string host = agent_.host().config.id;
    const memory::Caller greeted = *caller;
    auto seat = std::make_shared<memory::Seat>();
    agent_.sessions().add(hello.session, {hello.vm, hello.command.job, channel, seat});
    std::function<Result<void>()> answer = [=]() -> Result<void> {
        channel->set_patience(kPatience);
        return memory::begin_at(seat, *channel, greeted, host, secret);
    };
    Result<void> done = co_await run_on<void>(agent_.host().pool, std::move(answer));
    if (done && hello.purpose == Purpose::copy)
        done = co_await take_copy(channel, *machine);
    else if (done && hello.purpose == Purpose::whole)
        done = co_await take_whole(channel, *machine);
    else if (done && hello.purpose == Purpose::regions)
        done = co_await take_regions(channel, *machine);
    else if (done)
        done = co_await take_merge(channel, *machine, hello.command.job);
    if (!done) co_return std::unexpected(std::move(done).error().within(doing));
    co_return done;
}

Task<void> TransferServer::take_copy(std::shared_ptr<FrameChannel> channel,
                                     std::shared_ptr<Machine> machine) {
    Result<void> waits = check_waits(*machine);
    if (!waits) co_return waits;
    auto landing = std::make_shared<memory::CopyLanding>();
    auto devices = std::make_shared<memory::Descriptor>();
    const std::vector<memory::BlockFile> blocks = blocks_of(*machine, Purpose::copy);
    std::function<Result<void>()> receive = [=]() -> Result<void> {
        Result<memory::Image> image = memory::Image::open(blocks);
        if (!image) return std::unexpected(std::move(image).error());
        Result<memory::CopyLanding> landed = memory::receive_copy(*channel, *image);
        if (!landed) return std::unexpected(std::move(landed).error());
        *landing = *landed;
        // Kept before PATCHED is said: from then on the source relies on both sides having them.
        const std::vector<protocol::RegionSpec>& regions = machine->record().spec.regions;
        for (std::size_t i = 0; i < regions.size(); ++i) {
            Result<void> kept = memory::copy_to_file(image->blocks()[i + 1],
                                                     machine->paths().region_base(regions[i].name));
            if (!kept) return kept;
        }
        Result<void> said = channel->send(FrameType::patched, memory::bytes_of(landed->root));
        if (!said) return said;
        Result<memory::Descriptor> state = memory::receive_devices(*channel);
        if (!state) return std::unexpected(std::move(state).error());
        *devices = std::move(*state);
        return {};
    };
    Result<void> done = co_await run_on<void>(agent_.host().pool, std::move(receive));
    if (done) done = co_await load(channel, machine, landing->epoch, devices);
    co_return done;
}

// The last step of every copy: QEMU reads the device state, and the source hears so.
Task<void> TransferServer::load(std::shared_ptr<FrameChannel> channel,
                                std::shared_ptr<Machine> machine, std::uint64_t epoch,
                                std::shared_ptr<memory::Descriptor> devices) {
    Result<void> done = co_await machine->load_devices(devices->get());
    if (!done) co_return done;
    machine->record().loaded = true;
    machine->record().epoch = epoch;
    done = machine->save();
    if (!done) co_return done;
    std::function<Result<void>()> answer = [channel]() {
        return channel->send(FrameType::loaded, {});
    };
    done = co_await run_on<void>(agent_.host().pool, std::move(answer));
    if (done) log::info("transfer", machine->name() + " is loaded, epoch " + std::to_string(epoch));
    co_return done;
}

// Method whole: the base and its rounds while the source runs; what can be slow here is done before
// the source is stopped; then the rest, proven before QEMU hears of it.
Task<void> TransferServer::take_whole(std::shared_ptr<FrameChannel> channel,
                                      std::shared_ptr<Machine> machine) {
    Result<void> done = check_waits(*machine);
    if (!done) co_return done;
    auto image = std::make_shared<memory::Image>();
    auto landing = std::make_shared<memory::CopyLanding>();
    auto devices = std::make_shared<memory::Descriptor>();
    const std::vector<memory::BlockFile> blocks = blocks_of(*machine, Purpose::whole);
    std::function<Result<void>()> hold = [=]() -> Result<void> {
        Result<memory::Image> opened = memory::Image::open(blocks);
        if (!opened) return std::unexpected(std::move(opened).error());
        *image = std::move(*opened);
        Result<void> base = memory::receive_base(*channel, *image);
        if (!base) return base;
        channel->set_deadline(kHeldDeadline);
        Result<void> rounds = memory::receive_rounds(*channel, *image);
        channel->set_deadline(kFrameDeadline);
        return rounds;
    };
    done = co_await run_on<void>(agent_.host().pool, std::move(hold));
    if (done) done = check_waits(*machine);
    // Frames that arrive once the switch has turned wait in the tap until QEMU reads them.
    if (done) done = co_await machine->set_link(true);
    if (done) done = co_await machine->wait_for_link();
    std::function<Result<void>()> finish = [=]() -> Result<void> {
        Result<void> said = channel->send(FrameType::standing_by, {});
        if (!said) return said;
        Result<memory::CopyLanding> landed = memory::receive_changes(*channel, *image);
        if (!landed) return std::unexpected(std::move(landed).error());
        *landing = *landed;
        said = channel->send(FrameType::patched, memory::bytes_of(landed->root));
        if (!said) return said;
        Result<memory::Descriptor> state = memory::receive_devices(*channel);
        if (!state) return std::unexpected(std::move(state).error());
        *devices = std::move(*state);
        return {};
    };
    if (done) done = co_await run_on<void>(agent_.host().pool, std::move(finish));
    if (done) done = co_await load(channel, machine, landing->epoch, devices);
    if (!done) (void)co_await machine->set_link(false);
    co_return done;
}

// Method boot: the regions come before there is a QEMU, and are kept as the merge's base as well.
Task<void> TransferServer::take_regions(std::shared_ptr<FrameChannel> channel,
                                        std::shared_ptr<Machine> machine) {
    if (machine->is_alive() || machine->record().activated)
        co_return fail(Fault::Conflict, "take in regions",
                       "the VM here runs already: prepare it afresh", "wrong-state");
    auto landing = std::make_shared<memory::CopyLanding>();
    const std::vector<memory::BlockFile> blocks = blocks_of(*machine, Purpose::regions);
    std::function<Result<void>()> receive = [=]() -> Result<void> {
        for (const memory::BlockFile& one : blocks) {
            Result<memory::MappedFile> made = memory::MappedFile::create(one.path, one.block.bytes);
            if (!made) return std::unexpected(std::move(made).error());
        }
        Result<memory::Image> image = memory::Image::open(blocks);
        if (!image) return std::unexpected(std::move(image).error());
        Result<memory::CopyLanding> landed = memory::receive_copy(*channel, *image);
        if (!landed) return std::unexpected(std::move(landed).error());
        *landing = *landed;
        const std::vector<protocol::RegionSpec>& regions = machine->record().spec.regions;
        for (std::size_t i = 0; i < regions.size(); ++i) {
            Result<void> kept = memory::copy_to_file(image->blocks()[i],
                                                     machine->paths().region_base(regions[i].name));
            if (!kept) return kept;
        }
        return {};
    };
    Result<void> done = co_await run_on<void>(agent_.host().pool, std::move(receive));
    if (!done) co_return done;
    machine->record().holds_regions = true;
    machine->record().epoch = landing->epoch;
    done = machine->save();
    if (!done) co_return done;
    std::function<Result<void>()> answer = [=]() {
        return channel->send(FrameType::patched, memory::bytes_of(landing->root));
    };
    done = co_await run_on<void>(agent_.host().pool, std::move(answer));
    co_return done;
}

Task<void> TransferServer::take_merge(std::shared_ptr<FrameChannel> channel,
                                      std::shared_ptr<Machine> machine, std::string job) {
    auto incoming = std::make_shared<IncomingMerge>();
    std::function<Result<void>()> receive = [=]() -> Result<void> {
        Result<IncomingMerge> received = receive_merge(*channel, *machine);
        if (!received) return std::unexpected(std::move(received).error());
        *incoming = std::move(*received);
        return {};
    };
    Result<void> done = co_await run_on<void>(agent_.host().pool, std::move(receive));
    if (!done) co_return done;
    Result<protocol::wire::MergeOutcome> outcome = co_await merge_into(machine, job, incoming);
    if (!outcome) co_return std::unexpected(std::move(outcome).error());
    const std::string text = json::to_text(*outcome);
    std::function<Result<void>()> answer = [=]() {
        return channel->send_text(FrameType::merged, text);
    };
    done = co_await run_on<void>(agent_.host().pool, std::move(answer));
    co_return done;
}

}  // namespace godwit::agent
