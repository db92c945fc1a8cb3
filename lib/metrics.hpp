// Counters, gauges and histograms in Prometheus' text format (0.0.4). Names are "godwit_*" in base
// units; labels are few and bounded, never ids.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace godwit {

class Metrics {
public:
    using Labels = std::map<std::string, std::string>;

    // The returned metric lives as long as this object; the same name and labels give the same one.
    prometheus::Counter& counter(const std::string& name, const std::string& help,
                                 const Labels& labels = {});
    prometheus::Gauge& gauge(const std::string& name, const std::string& help,
                             const Labels& labels = {});
    prometheus::Histogram& histogram(const std::string& name, const std::string& help,
                                     const std::vector<double>& bounds, const Labels& labels = {});
    // Runs before each text(): for figures that are read from elsewhere.
    void before_text(std::function<void()> refresh);
    std::string text();

private:
    prometheus::Registry registry_;
    std::mutex mutex_;
    std::vector<std::function<void()>> refreshes_;
};

}  // namespace godwit
