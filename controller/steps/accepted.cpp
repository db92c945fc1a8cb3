// accepted: the job is written, together with its key; there is nothing to do in the world.
#include "controller/steps/step.hpp"

namespace godwit::controller {

namespace {

Task<void> apply(JobRun&) {
    co_return Result<void>{};
}

}  // namespace

const Step kAccepted{.apply = apply};

}  // namespace godwit::controller
