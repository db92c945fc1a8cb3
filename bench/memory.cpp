// The memory engine beside what bounds it: memory_bench [OUT.json] [ROUNDS] [MIB]
// Two images of one guest are compared; the limit is a loop that only reads both, in the same round, because
// the machine's bandwidth wanders. Rates are of ONE image. 5 % of the pages are dirty, three bytes each.
#include "vm_agent/memory/diff.hpp"
#include "vm_agent/memory/root.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <immintrin.h>
#include <map>
#include <optional>
#include <random>
#include <string>

#include <boost/json.hpp>
#include <openssl/evp.h>

namespace godwit::bench {
namespace {

namespace bj = boost::json;
using namespace memory;

// What was read goes here, so that nothing is optimised away.
volatile std::uint64_t sink;

struct Images {
    MappedFile base, now;
    Extents data;  // of both
    std::uint64_t changed_lines = 0;
};

MappedFile anonymous(std::uint64_t bytes) {
    Result<MappedFile> file = MappedFile::anonymous("godwit-bench", bytes);
    if (!file) throw std::runtime_error(file.error().text());
    return std::move(*file);
}

// `lines` changed in each dirty page, three bytes in each line.
Images make_images(std::uint64_t bytes, std::uint64_t lines) {
    Images images{anonymous(bytes), anonymous(bytes), {{0, bytes}}};
    std::mt19937_64 random(7);
    for (std::uint64_t at = 0; at < bytes; at += 8) {
        const std::uint64_t word = random();
        std::memcpy(images.base.data() + at, &word, 8);
    }
    std::memcpy(images.now.data(), images.base.data(), bytes);
    for (std::uint64_t page = 0; page < bytes; page += kPageBytes) {
        if (random() % 20 != 0) continue;
        const std::uint64_t first = random() % (64 - lines + 1);
        for (std::uint64_t line = first; line < first + lines; ++line)
            for (int i = 0; i < 3; ++i)
                images.now.data()[page + line * kLineBytes + random() % kLineBytes] ^=
                    std::byte{255};
    }
    for (std::uint64_t at = 0; at < bytes; at += kLineBytes)
        images.changed_lines +=
            std::memcmp(images.base.data() + at, images.now.data() + at, kLineBytes) != 0;
    return images;
}

// ---- what is measured

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
std::uint64_t sum_of(__m256i all) {
    alignas(32) std::uint64_t words[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), all);
    return words[0] ^ words[1] ^ words[2] ^ words[3];
}

// Two streams, nothing kept: the roof of any compare.
void read_both(const Images& images) {
    __m256i one = _mm256_setzero_si256(), two = one, three = one, four = one;
    for (std::uint64_t at = 0; at < images.base.size(); at += 64) {
        const auto* a = reinterpret_cast<const __m256i*>(images.base.data() + at);
        const auto* b = reinterpret_cast<const __m256i*>(images.now.data() + at);
        one = _mm256_or_si256(one, _mm256_load_si256(a));
        two = _mm256_or_si256(two, _mm256_load_si256(a + 1));
        three = _mm256_or_si256(three, _mm256_load_si256(b));
        four = _mm256_or_si256(four, _mm256_load_si256(b + 1));
    }
    sink = sum_of(_mm256_or_si256(_mm256_or_si256(one, two), _mm256_or_si256(three, four)));
}

void read_one(const Images& images) {
    __m256i one = _mm256_setzero_si256(), two = one;
    for (std::uint64_t at = 0; at < images.base.size(); at += 64) {
        const auto* a = reinterpret_cast<const __m256i*>(images.base.data() + at);
        one = _mm256_or_si256(one, _mm256_load_si256(a));
        two = _mm256_or_si256(two, _mm256_load_si256(a + 1));
    }
    sink = sum_of(_mm256_or_si256(one, two));
}
#pragma clang attribute pop

void compare_with_libc(const Images& images) {
    std::uint64_t differing = 0;
    for (std::uint64_t at = 0; at < images.base.size(); at += kPageBytes)
        differing += std::memcmp(images.base.data() + at, images.now.data() + at, kPageBytes) != 0;
    sink = differing;
}

void find(const Images& images, Kernel kernel) {
    static Lines lines;  // its room is kept, as it is before a pause
    lines.clear();
    // As in a pause: where data was is known, where it is new is looked for.
    Result<Extents> data = grown_extents(images.now.fd(), images.now.size(), images.data);
    if (!data) throw std::runtime_error(data.error().text());
    Result<DiffCount> count = diff({images.base, images.data}, {images.now, *data}, lines, kernel);
    if (!count) throw std::runtime_error(count.error().text());
    sink = count->bytes_changed;
}

void prove(const Images& images) {
    Result<Root> root = root_of({&images.base});
    if (!root) throw std::runtime_error(root.error().text());
    sink = root->low;
}

void prove_with_sha256(const Images& images) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    for (std::uint64_t at = 0; at < images.base.size(); at += kLeafBytes)
        EVP_Digest(images.base.data() + at, std::min(kLeafBytes, images.base.size() - at), digest,
                   &length, EVP_sha256(), nullptr);
    sink = digest[0];
}

// ---- rounds and results

using Work = std::function<void(const Images&)>;

double gb_per_s(const Work& work, const Images& images) {
    const auto begin = std::chrono::steady_clock::now();
    work(images);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return static_cast<double>(images.base.size()) / took.count() / 1e9;
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

std::map<std::string, std::vector<double>> measure(const std::map<std::string, Work>& works,
                                                   const Images& images, int rounds) {
    std::map<std::string, std::vector<double>> rates;
    for (const auto& [name, work] : works) work(images);  // page tables, frequency
    for (int round = 0; round < rounds; ++round)
        for (const auto& [name, work] : works) rates[name].push_back(gb_per_s(work, images));
    return rates;
}

struct Row {
    std::string name, peer_name;
    double ours, peer;
    std::string unit = "GB/s of one image";
    std::optional<double> goal;
    bool less_is_better = false;
};

bj::object report(const Row& row, int rounds) {
    const double ratio = row.ours / row.peer;
    const bool met = row.goal && (row.less_is_better ? ratio <= *row.goal : ratio >= *row.goal);
    std::printf("%-26s %10.2f   %-28s %10.2f   %5.2f  %s\n", row.name.c_str(), row.ours,
                row.peer_name.c_str(), row.peer, ratio,
                !row.goal ? ""
                : met     ? "met"
                          : "NOT MET");
    bj::object one{
        {"case", row.name}, {"ours", row.ours}, {"peer", row.peer}, {"peer_name", row.peer_name},
        {"unit", row.unit}, {"ratio", ratio},   {"rounds", rounds}};
    if (row.goal) {
        one["goal"] = *row.goal;
        one["met"] = met;
    }
    return one;
}

// A ratio of each round, then their median: both halves saw the same machine.
double ratio_of(const std::vector<double>& ours, const std::vector<double>& peer) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < ours.size(); ++i) ratios.push_back(ours[i] / peer[i]);
    return median(ratios);
}

void compare_all(bj::array& out, const Images& images, int rounds) {
    std::map<std::string, Work> works{{"read two streams", read_both},
                                      {"read one stream", read_one},
                                      {"libc memcmp", compare_with_libc},
                                      {"root", prove},
                                      {"SHA-256", prove_with_sha256}};
    const std::pair<const char*, Kernel> kernels[] = {{"diff scalar", Kernel::scalar},
                                                      {"diff avx2", Kernel::avx2},
                                                      {"diff avx512", Kernel::avx512}};
    for (const auto& [name, kernel] : kernels)
        if (is_supported(kernel))
            works[name] = [kernel](const Images& both) { find(both, kernel); };
    auto rates = measure(works, images, rounds);
    const auto row = [&](const std::string& ours, const std::string& peer) {
        const double limit = median(rates[peer]);
        return Row{ours, peer, ratio_of(rates[ours], rates[peer]) * limit, limit};
    };
    for (const auto& [name, kernel] : kernels) {
        if (!is_supported(kernel)) continue;
        Row one = row(name, "read two streams");
        if (kernel == best_kernel()) one.goal = 0.9;
        out.push_back(report(one, rounds));
        if (kernel == best_kernel()) out.push_back(report(row(name, "libc memcmp"), rounds));
    }
    out.push_back(report(row("libc memcmp", "read two streams"), rounds));
    out.push_back(report(row("root", "read one stream"), rounds));
    out.push_back(report(row("root", "SHA-256"), rounds));
}

// What goes over the wire for what really changed, in whole lines.
void count_bytes(bj::array& out, std::uint64_t bytes) {
    for (const std::uint64_t lines : {1, 4, 16}) {
        const Images images = make_images(bytes, lines);
        Lines found;
        Result<DiffCount> count = diff(images.base, images.now, found);
        if (!count || found.line_count() != images.changed_lines)
            throw std::runtime_error("the diff is wrong");
        Row row{"bytes, " + std::to_string(lines) + " lines a page", "lines that changed",
                static_cast<double>(found.bytes().size()),
                static_cast<double>(images.changed_lines * kLineBytes)};
        row.unit = "bytes";
        row.goal = 1.1;
        row.less_is_better = true;
        out.push_back(report(row, 1));
    }
}

}  // namespace
}  // namespace godwit::bench

int main(int argc, char** argv) {
    using namespace godwit::bench;
    const std::filesystem::path out = argc > 1 ? argv[1] : "bench/out/memory.json";
    const int rounds = argc > 2 ? std::atoi(argv[2]) : 11;
    const std::uint64_t mib = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1024;
    if (rounds < 1 || mib < 16) {
        std::fprintf(stderr, "usage: memory_bench [OUT.json] [ROUNDS >= 1] [MIB >= 16]\n");
        return 2;
    }
    if (!godwit::memory::is_supported(godwit::memory::Kernel::avx2)) {
        std::fprintf(stderr, "skipped: the read scan it is measured by needs AVX2\n");
        return 77;
    }
    try {
        std::printf("%-26s %10s   %-28s %10s   %5s\n", "case", "ours", "beside", "", "ratio");
        bj::array rows;
        compare_all(rows, make_images(mib << 20, 1), rounds);
        count_bytes(rows, 64 << 20);
        std::filesystem::create_directories(out.parent_path());
        std::ofstream(out) << bj::serialize(rows) << "\n";
    } catch (const std::exception& error) {
        std::fprintf(stderr, "memory_bench: %s\n", error.what());
        return 1;
    }
    return 0;
}
