// QEMU as a process that outlives the agent: started detached, found again by its pid file, checked
// to be the one we mean before anything is sent to it.
#pragma once

#include "lib/error.hpp"

#include <chrono>
#include <string>
#include <sys/types.h>
#include <vector>

namespace godwit::agent {

// Runs the words and waits until the started program has daemonized itself or failed; what it said
// on stderr is the cause. Blocking: call it on a worker thread.
Result<void> start_detached(const std::vector<std::string>& words, const std::string& log_file,
                            std::chrono::seconds deadline);

// The process of `pid_file` whose command line holds `mark` as one word, or 0. A pid that was
// reused by another program since is not it.
pid_t find_process(const std::string& pid_file, const std::string& mark);

// SIGKILL and the wait until it is gone (pidfd); blocking. Not there already is fine.
Result<void> kill_process(pid_t pid, std::chrono::milliseconds deadline);
// Until it ended by itself: true, or false at the deadline. Blocking.
bool wait_for_end(pid_t pid, std::chrono::milliseconds deadline);

// "7.2.22" from `BINARY --version`.
Result<std::string> qemu_version_of(const std::string& binary);

// "kvm" if a virtual CPU really executes an instruction here, else "tcg".
std::string probe_accelerator();

}  // namespace godwit::agent
