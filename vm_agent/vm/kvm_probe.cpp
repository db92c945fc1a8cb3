// Does KVM work here? /dev/kvm is often there and cannot run anything, so a virtual CPU executes
// one HLT in real mode (Linux, Documentation/virt/kvm/api.rst).
#include "vm_agent/memory/mapped_file.hpp"
#include "vm_agent/vm/process.hpp"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace godwit::agent {

namespace {

using memory::Descriptor;
constexpr unsigned char kHlt = 0xf4;
constexpr std::size_t kPage = 4096;

class Mapping {
public:
    Mapping(std::size_t bytes, int flags, int fd)
        : bytes_(bytes), at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0)) {}
    ~Mapping() {
        if (at_ != MAP_FAILED) munmap(at_, bytes_);
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    void* get() const { return at_ == MAP_FAILED ? nullptr : at_; }

private:
    std::size_t bytes_;
    void* at_;
};

bool set_start(int vcpu) {
    kvm_sregs special{};
    if (ioctl(vcpu, KVM_GET_SREGS, &special) != 0) return false;
    special.cs.base = 0;
    special.cs.selector = 0;
    if (ioctl(vcpu, KVM_SET_SREGS, &special) != 0) return false;
    kvm_regs registers{};
    registers.rflags = 2;  // bit 1 is always set
    return ioctl(vcpu, KVM_SET_REGS, &registers) == 0;
}

bool runs_code() {
    Descriptor kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm || ioctl(kvm.get(), KVM_GET_API_VERSION, 0) != KVM_API_VERSION) return false;
    Descriptor vm(ioctl(kvm.get(), KVM_CREATE_VM, 0));
    if (!vm) return false;
    Mapping memory(kPage, MAP_SHARED | MAP_ANONYMOUS, -1);
    if (!memory.get()) return false;
    *static_cast<unsigned char*>(memory.get()) = kHlt;
    kvm_userspace_memory_region slot{};
    slot.memory_size = kPage;
    slot.userspace_addr = reinterpret_cast<std::uint64_t>(memory.get());
    if (ioctl(vm.get(), KVM_SET_USER_MEMORY_REGION, &slot) != 0) return false;
    Descriptor vcpu(ioctl(vm.get(), KVM_CREATE_VCPU, 0));
    const int run_bytes = ioctl(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (!vcpu || run_bytes < static_cast<int>(sizeof(kvm_run))) return false;
    Mapping run(static_cast<std::size_t>(run_bytes), MAP_SHARED, vcpu.get());
    if (!run.get() || !set_start(vcpu.get())) return false;
    return ioctl(vcpu.get(), KVM_RUN, 0) == 0 &&
           static_cast<kvm_run*>(run.get())->exit_reason == KVM_EXIT_HLT;
}

}  // namespace

std::string probe_accelerator() {
    return runs_code() ? "kvm" : "tcg";
}

}  // namespace godwit::agent
