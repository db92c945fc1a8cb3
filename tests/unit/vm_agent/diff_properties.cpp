// For any two pages, at any alignment the engine is given: every kernel of this machine names exactly
// the same lines, and for any two images the diff of every kernel is the same bytes on the wire.
#include "vm_agent/memory/diff.hpp"

#include <cstring>

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

namespace {

using namespace godwit::memory;

constexpr Kernel kKernels[] = {Kernel::scalar, Kernel::avx2, Kernel::avx512};
constexpr std::uint64_t kPages = 8;

std::vector<Kernel> kernels_here() {
    std::vector<Kernel> here;
    for (Kernel kernel : kKernels)
        if (is_supported(kernel)) here.push_back(kernel);
    return here;
}

struct Change {
    std::uint64_t at;
    std::uint8_t flip;  // 0: no change after all
};

rc::Gen<std::vector<Change>> changes(std::uint64_t bytes) {
    return rc::gen::container<std::vector<Change>>(
        rc::gen::construct<Change>(rc::gen::inRange<std::uint64_t>(0, bytes),
                                   rc::gen::element<std::uint8_t>(0, 1, 0x80, 0xff)));
}

// What the engine must say, byte by byte.
std::uint64_t naive_mask(const std::byte* a, const std::byte* b) {
    std::uint64_t mask = 0;
    for (std::size_t at = 0; at < kPageBytes; ++at)
        if (a[at] != b[at]) mask |= std::uint64_t{1} << at / kLineBytes;
    return mask;
}

RC_GTEST_PROP(DiffProperties, EveryKernelNamesTheSameLines, ()) {
    const auto offset_a = *rc::gen::inRange<std::size_t>(0, 8) * 8;
    const auto offset_b = *rc::gen::inRange<std::size_t>(0, 8) * 8;
    const auto fill = *rc::gen::arbitrary<std::uint8_t>();
    std::vector<std::byte> a(kPageBytes + 64, std::byte{fill}), b = a;
    for (const Change& one : *changes(kPageBytes)) b[offset_b + one.at] ^= std::byte{one.flip};
    const std::byte *left = a.data() + offset_a, *right = b.data() + offset_b;
    const std::uint64_t expected = naive_mask(left, right);
    for (Kernel kernel : kernels_here()) {
        RC_ASSERT(page_compare(kernel)(left, right) == expected);
        RC_ASSERT(page_compare(kernel)(right, left) == expected);
    }
}

MappedFile blank() {
    godwit::Result<MappedFile> file = MappedFile::anonymous("gwt", kPages * kPageBytes);
    if (!file) throw std::runtime_error(file.error().text());
    return std::move(*file);
}

RC_GTEST_PROP(DiffProperties, EveryKernelSendsTheSameBytesAndTheyAreEnough, ()) {
    MappedFile base = blank(), now = blank();
    for (const Change& one : *changes(base.size())) base.data()[one.at] = std::byte{one.flip};
    // Some pages stay holes on this side, some are the same, some differ.
    for (std::uint64_t page = 0; page < kPages; ++page)
        if (*rc::gen::arbitrary<bool>())
            std::memcpy(now.data() + page * kPageBytes, base.data() + page * kPageBytes,
                        kPageBytes);
    for (const Change& one : *changes(now.size())) now.data()[one.at] ^= std::byte{one.flip};
    Lines expected;
    RC_ASSERT(diff(base, now, expected, Kernel::scalar).has_value());
    for (Kernel kernel : kernels_here()) {
        Lines found;
        RC_ASSERT(diff(base, now, found, kernel).has_value());
        RC_ASSERT(std::ranges::equal(found.bytes(), expected.bytes()));
    }
    RC_ASSERT(for_each_record(expected.bytes(), base.size(), [&](auto& record, auto* lines) {
                  apply_record(record, lines, base.data());
                  return godwit::Result<void>{};
              }).has_value());
    RC_ASSERT(std::memcmp(base.data(), now.data(), base.size()) == 0);
}

TEST(DiffKernels, TheBestOneHereIsSupportedAndNoBetterOneIs) {
    EXPECT_TRUE(is_supported(best_kernel()));
    for (Kernel kernel : kKernels)
        if (kernel > best_kernel()) EXPECT_FALSE(is_supported(kernel));
}

}  // namespace
