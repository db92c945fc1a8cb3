// One run of a program: its output as it comes, its exit status.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

namespace godwit::tests {

class Process {
public:
    enum class Output { pipes, terminal };

    // `environment` is "NAME=VALUE" and replaces the test's own GODWIT_* and NO_COLOR.
    Process(std::vector<std::string> command, std::vector<std::string> environment,
            Output output = Output::pipes);
    ~Process();  // kills what still runs
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    // Reads until stderr (or the terminal) holds `text`; false when it ends before.
    bool wait_for(const std::string& text);
    bool wait_for_out(const std::string& text);  // the same of stdout
    void signal(int number);
    int wait();  // to the end of its output, then its exit status (128 + n when killed)

    std::string out, err;  // on a terminal everything is in err

private:
    bool read_some();  // false at the end of both

    pid_t pid_ = -1;
    int out_fd_ = -1, err_fd_ = -1;
};

}  // namespace godwit::tests
