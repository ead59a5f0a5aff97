#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/driver_facts.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/compat_resolver.h"
#include "agent/steps/cuda_sources.h"
#include "agent/steps/cuda_toolkits.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/kinds.h"
#include "agent/steps/nvidia_repository.h"

namespace gpustrap {
namespace {

class CudaStep : public Step {
 public:
  explicit CudaStep(CudaSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<Wanted> wanted = look(host);
    if (!wanted) return fail(wanted.error());
    const std::string& version = wanted->answer.cuda->version;
    const std::string& reason = wanted->answer.reason;
    std::vector<std::string> missing;
    if (!wanted->installed) missing.push_back(fmt::format("CUDA {} is not installed", version));
    if (spec_.is_default && wanted->now_default != version) {
      missing.push_back(wanted->now_default.empty() ? "there is no /usr/local/cuda"
                                                    : fmt::format("/usr/local/cuda is {}{}", wanted->now_default, beside(*wanted)));
    }
    const Result<std::vector<std::string>> packages = missing_packages(host, *wanted);
    if (!packages) return fail(packages.error());
    if (missing.empty() && !packages->empty()) missing.push_back(join(*packages, " ") + " not installed");
    if (!missing.empty()) return StepState::unsatisfied(fmt::format("{}; {}", join(missing, "; "), reason), changes(*wanted, *packages));
    return StepState::satisfied(fmt::format("CUDA {} at {}{}{}; {}", version, toolkit_folder(version),
                                            spec_.is_default ? ", where /usr/local/cuda leads" : "", beside(*wanted), reason));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<Wanted> wanted = look(host);
    if (!wanted) return fail(wanted.error());
    const std::string& version = wanted->answer.cuda->version;
    log.say(wanted->answer.reason);
    for (const std::string& warning : wanted->answer.warnings) log.say("note: " + warning);
    if (Result<void> installed = install(host, log, *wanted); !installed) return installed;
    const Result<std::string> says = compiler_version(host, version);
    if (!says) return fail(says.error());
    if (*says != version) {
      return fail(ErrorCode::command, fmt::format("the compiler in {} says that it is {}", toolkit_folder(version), *says),
                  "is that what `url` holds? `version` in the recipe must be the file's");
    }
    // Packages and installers make the newest, or the last, the default by themselves.
    const Result<std::string> now = default_toolkit(host);
    if (!now && spec_.is_default) return fail(now.error());
    const std::string to = spec_.is_default ? version : wanted->now_default;
    if (!now || to.empty() || *now == to) return {};
    return set_default_toolkit(host, log, to);
  }

  [[nodiscard]] std::vector<FetchRequest> downloads(const Host& host) const override {
    const Result<Wanted> wanted = look(host);
    if (!wanted || wanted->installed) return {};
    const std::optional<FetchRequest> file = toolkit_download(host, spec_);
    return file ? std::vector<FetchRequest>{*file} : std::vector<FetchRequest>();
  }

 private:
  struct Wanted {
    CompatAnswer answer;
    bool installed = false;
    std::string now_default;
    std::vector<std::string> there;  ///< every toolkit, oldest first
  };

  /// ", beside 11.8 and 12.1": the toolkits that neither the step nor /usr/local/cuda means.
  [[nodiscard]] static std::string beside(const Wanted& wanted) {
    std::vector<std::string> others;
    for (const std::string& version : wanted.there) {
      if (version != wanted.answer.cuda->version && version != wanted.now_default) others.push_back(version);
    }
    return others.empty() ? "" : ", beside " + join(others, " and ");
  }

  [[nodiscard]] Result<CompatAnswer> resolve(const Host& host, const std::string& version) const {
    CompatQuestion question = question_of(host.facts(), gather_driver_facts(host));
    question.cuda = version;
    if (!spec_.driver_branch.empty()) question.branch = spec_.driver_branch;
    // With a file in hand it does not count what the repository has.
    if (spec_.from != CudaSpec::From::repository) question.toolkit = ToolkitFrom::runfile;
    return resolve_compat(*spec_.tables, question);
  }

  [[nodiscard]] Result<Wanted> look(const Host& host) const {
    if (!spec_.tables) {
      return fail(ErrorCode::recipe, "the recipe came without the tables of GPUs and drivers",
                  "start it with `gpustrap up`, which sends them along");
    }
    const Result<std::vector<std::string>> there = installed_toolkits(host);
    if (!there) return fail(there.error());
    Result<std::string> now_default = default_toolkit(host);
    if (!now_default && spec_.is_default) return fail(std::move(now_default).error());
    Wanted wanted;
    wanted.now_default = now_default.value_or("");
    wanted.there = *there;
    const auto is_there = [&](const std::string& version) { return std::find(there->begin(), there->end(), version) != there->end(); };
    // Where any will do, or any of a major version, one that is there and runs is as good as the newest, and stays.
    const bool open = spec_.version.find('.') == std::string::npos;
    std::vector<std::string> candidates;
    if (open && is_there(wanted.now_default)) candidates.push_back(wanted.now_default);
    if (open) candidates.insert(candidates.end(), there->rbegin(), there->rend());
    for (const std::string& version : candidates) {
      if (spec_.version != "auto" && branch_of(version) != spec_.version) continue;
      Result<CompatAnswer> answer = resolve(host, version);
      if (!answer || answer->cuda->runs == CudaAnswer::Runs::forward) continue;
      wanted.answer = *std::move(answer);
      wanted.installed = true;
      return wanted;
    }
    Result<CompatAnswer> answer = resolve(host, spec_.version);
    if (answer && spec_.from == CudaSpec::From::repository && !answer->cuda->from_repository && !is_there(answer->cuda->version)) {
      // Asked again for the repository's reason against it.
      CompatQuestion question = question_of(host.facts(), gather_driver_facts(host));
      question.cuda = spec_.version;
      question.toolkit = ToolkitFrom::repository;
      if (!spec_.driver_branch.empty()) question.branch = spec_.driver_branch;
      answer = resolve_compat(*spec_.tables, question);
    }
    if (!answer) return fail(std::move(answer).error());
    wanted.answer = *std::move(answer);
    wanted.installed = is_there(wanted.answer.cuda->version);
    return wanted;
  }

  /// The toolkit's package where its compiler is not there, and that of forward compatibility where it is needed.
  [[nodiscard]] static Result<std::vector<std::string>> missing_packages(const Host& host, const Wanted& wanted) {
    std::vector<std::string> packages;
    const CudaAnswer& cuda = *wanted.answer.cuda;
    if (!wanted.installed && !cuda.package.empty()) packages.push_back(cuda.package);
    if (cuda.compat_package.empty()) return packages;
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    if (status->installed(cuda.compat_package) == nullptr) packages.push_back(cuda.compat_package);
    return packages;
  }

  [[nodiscard]] std::string changes(const Wanted& wanted, const std::vector<std::string>& packages) const {
    std::vector<std::string> lines;
    if (spec_.from == CudaSpec::From::repository && !packages.empty()) {
      lines.push_back(fmt::format("install {} from {}", join(packages, " "), repository(wanted.answer).url()));
    } else if (!wanted.installed) {
      const std::string file = spec_.url ? spec_.url->text : spec_.path ? spec_.path->text : std::string();
      lines.push_back(fmt::format("install CUDA {} from {}", wanted.answer.cuda->version, file));
    }
    if (spec_.is_default && wanted.now_default != wanted.answer.cuda->version)
      lines.push_back(fmt::format("/usr/local/cuda → {}", toolkit_folder(wanted.answer.cuda->version)));
    for (const std::string& warning : wanted.answer.warnings) lines.push_back("note: " + warning);
    return join(lines, "\n");
  }

  [[nodiscard]] NvidiaRepository repository(const CompatAnswer& answer) const {
    return {answer.repository.value_or(RepositoryAnswer{}), spec_.tables->repository.base, spec_.mirror, spec_.fingerprint};
  }

  Result<void> install(Host& host, StepLog& log, const Wanted& wanted) const {
    const Result<std::vector<std::string>> packages = missing_packages(host, wanted);
    if (!packages) return fail(packages.error());
    if (spec_.from == CudaSpec::From::repository) {
      if (packages->empty()) return {};
      return install_toolkit_from_repository(host, log, repository(wanted.answer), *packages);
    }
    if (wanted.installed) return {};
    if (spec_.from == CudaSpec::From::runfile) return install_toolkit_from_runfile(host, log, spec_);
    const std::vector<std::string> parts = split(wanted.answer.cuda->version, '.');
    return install_toolkit_from_deb(host, log, spec_,
                                    {filled_in(spec_.tables->repository.toolkit, {{"major", parts.at(0)}, {"minor", parts.at(1)}})});
  }

  CudaSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_cuda_step(const StepSpec& spec) { return std::make_unique<CudaStep>(std::get<CudaSpec>(spec)); }

}  // namespace gpustrap
