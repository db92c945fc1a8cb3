#include "lib/metrics.hpp"

#include <prometheus/text_serializer.h>

namespace godwit {

prometheus::Counter& Metrics::counter(const std::string& name, const std::string& help,
                                      const Labels& labels) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels);
}

prometheus::Gauge& Metrics::gauge(const std::string& name, const std::string& help,
                                  const Labels& labels) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels);
}

prometheus::Histogram& Metrics::histogram(const std::string& name, const std::string& help,
                                          const std::vector<double>& bounds, const Labels& labels) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels,
                                                                                      bounds);
}

void Metrics::before_text(std::function<void()> refresh) {
    const std::scoped_lock lock(mutex_);
    refreshes_.push_back(std::move(refresh));
}

std::string Metrics::text() {
    std::vector<std::function<void()>> refreshes;
    {
        const std::scoped_lock lock(mutex_);
        refreshes = refreshes_;
    }
    for (const auto& refresh : refreshes) refresh();
    return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace godwit
