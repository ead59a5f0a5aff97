#include <optional>
#include <utility>
#include <vector>

#include "agent/steps/deb_package.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

class DebStep : public Step {
 public:
  explicit DebStep(DebSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override { return check_deb(host, wanted(host)); }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<DebName> installed = install_deb(host, log, wanted(host));
    if (!installed) return fail(installed.error());
    return {};
  }

  [[nodiscard]] std::vector<FetchRequest> downloads(const Host& host) const override {
    const std::optional<FetchRequest> file = deb_download(host, wanted(host));
    return file ? std::vector<FetchRequest>{*file} : std::vector<FetchRequest>();
  }

 private:
  [[nodiscard]] WantedDeb wanted(const Host& host) const {
    WantedDeb deb;
    if (spec_.url) deb.urls.push_back(spec_.url->text);
    for (const Url& mirror : spec_.mirrors) deb.urls.push_back(mirror.text);
    if (spec_.path) deb.path = host.expand(spec_.path->text);
    if (spec_.sha256) deb.sha256 = spec_.sha256->hex;
    deb.package = spec_.package;
    deb.version = spec_.version;
    return deb;
  }

  DebSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_deb_step(const StepSpec& spec) { return std::make_unique<DebStep>(std::get<DebSpec>(spec)); }

}  // namespace gpustrap
