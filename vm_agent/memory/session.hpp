// The destination's ends of the sessions that other agents bring memory in: where a connection that
// takes one up again meets the thread whose connection was cut.
#pragma once

#include "vm_agent/memory/handshake.hpp"

#include <map>

namespace godwit::memory {

// Any thread; one waits, others bring it a connection.
class Seat {
public:
    // The session's own thread: until somebody offers a connection. Lost at the deadline,
    // Conflict/cancelled once it is closed.
    Result<Rejoined> wait(std::uint32_t received, Deadline deadline);

    struct Waiting {
        std::uint32_t received = 0;  // frames of the session that came here
        std::uint64_t turn = 0;
    };
    // The thread that heard a hello: Lost when nobody waits by the deadline, because it still works.
    Result<Waiting> waiting(Deadline deadline);
    // Taken only by the very wait that `turn` is of.
    void offer(Rejoined connection, std::uint64_t turn);
    void close();

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<Waiting> waiting_;
    std::optional<Rejoined> offered_;
    std::uint64_t turns_ = 0;
    bool is_closed_ = false;
};

struct Session {
    std::string vm, job;
    std::shared_ptr<FrameChannel> channel;
    std::shared_ptr<Seat> seat;
    void end() const;
};

// Answers a hello with WELCOME and begins its session: from now on the channel waits at its seat when
// its connection is cut.
Result<void> begin_at(const std::shared_ptr<Seat>& seat, FrameChannel& channel,
                      const Caller& caller, const std::string& host, const std::string& secret);
// Answers a hello that takes a session up again and hands the connection over; Lost when the
// session's thread has not come to its seat by then, and nothing was said.
Result<void> take_up_at(Seat& seat, FrameChannel& channel, const Caller& caller,
                        const std::string& host, const std::string& secret, Deadline deadline);

// The agent's thread only.
class Sessions {
public:
    void add(const std::string& id, Session session) { open_[id] = std::move(session); }
    // Conflict/session-gone, with the reason where it is known.
    Result<Session> find(const std::string& id) const;
    void remove(const std::shared_ptr<FrameChannel>& channel, const std::string& reason);
    // Ends what brings memory into this VM; or only what waits for a connection to come back.
    void end_of(const std::string& vm) const;
    bool end_cut(const std::string& vm) const;
    void end_all() const;

private:
    std::map<std::string, Session> open_;
    std::deque<std::pair<std::string, std::string>> reasons_;  // of the last ones that failed
};

}  // namespace godwit::memory
