#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/sha256.h"
#include "agent/fetched_ahead.h"
#include "agent/protocol/json.h"
#include "agent/steps/kinds.h"
#include "agent/steps/wheel_lock.h"
#include "agent/steps/wheels_ahead.h"
#include "tests/support/fake_host.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kA(64, 'a'), kB(64, 'b');

// ---- locked files

TEST(WheelLock, ReadsWhatPipCompileAndUvWrite) {
  const auto lock = read_wheel_lock(
      "# made by a tool\n--index-url https://index.example.org/simple\nNumPy==2.1.0 \\\n    --hash=sha256:" + kA +
      " \\\n    --hash=sha256:" + kB + "\n    # via -r requirements.in\nray[default]==2.60.0 --hash=sha256:" + kA + "  # via me\n");
  ASSERT_TRUE(lock.has_value());
  EXPECT_EQ(lock->index, "https://index.example.org/simple");
  ASSERT_EQ(lock->packages.size(), 2U);
  EXPECT_EQ(lock->packages[0].name, "numpy");
  EXPECT_EQ(lock->packages[0].version, "2.1.0");
  EXPECT_THAT(lock->packages[0].sha256, ElementsAre(kA, kB));
  EXPECT_EQ(lock->packages[1].name, "ray");
}

TEST(WheelLock, LeavesLinesWithConditionsToPip) {
  const auto lock = read_wheel_lock("a==1 --hash=sha256:" + kA + "\ncolorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:" + kB + "\n");
  ASSERT_TRUE(lock.has_value());
  EXPECT_EQ(lock->packages.size(), 1U);
}

TEST(WheelLock, IsNoneWhereAnythingIsOpen) {
  for (const std::string& line : std::vector<std::string>{
           "numpy==2.1.0", "numpy>=2 --hash=sha256:" + kA, "numpy==2.* --hash=sha256:" + kA, "numpy==2,<3 --hash=sha256:" + kA,
           "numpy==2 --hash=sha256:short", "numpy==2 --hash=md5:" + kA, "-r other.txt", "-e .", "--extra-index-url https://x.example.org",
           "--find-links /srv", "--no-binary numpy", "./x.whl --hash=sha256:" + kA, ""}) {
    EXPECT_FALSE(read_wheel_lock("a==1 --hash=sha256:" + kA + "\n" + line + "\n").has_value() && !line.empty()) << line;
  }
  EXPECT_FALSE(read_wheel_lock("\n# nothing\n").has_value());
}

// ---- names of wheels

TEST(WheelFitness, PrefersWhatPipPrefers) {
  const WheelTarget target{11, "x86_64", 36};
  const std::vector<std::string> ascending = {"x-1-py3-none-any.whl",
                                              "x-1-py311-none-any.whl",
                                              "x-1-cp39-abi3-manylinux_2_17_x86_64.whl",
                                              "x-1-cp311-none-any.whl",
                                              "x-1-cp311-abi3-manylinux2014_x86_64.whl",
                                              "x-1-cp311-cp311-linux_x86_64.whl",
                                              "x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                                              "x-1-7-cp311-cp311-manylinux_2_28_x86_64.whl"};
  unsigned before = 0;
  for (const std::string& name : ascending) {
    const unsigned fits = wheel_fitness(name, target);
    EXPECT_GT(fits, before) << name;
    before = fits;
  }
}

TEST(WheelFitness, RefusesWhatWouldNotRun) {
  const WheelTarget target{11, "x86_64", 36};
  for (const char* name : {"x-1-cp312-cp312-manylinux_2_17_x86_64.whl", "x-1-cp311-cp311-manylinux_2_17_aarch64.whl",
                           "x-1-cp311-cp311-manylinux_2_39_x86_64.whl", "x-1-cp311-cp311-musllinux_1_2_x86_64.whl",
                           "x-1-cp311-cp311t-manylinux_2_17_x86_64.whl", "x-1-py2-none-any.whl", "x-1-cp312-abi3-manylinux_2_17_x86_64.whl",
                           "x-1-cp311-cp311-win_amd64.whl", "x-1.tar.gz", "x-1-cp311.whl", "../x-1-py3-none-any.whl",
                           "x-1-cp3999999999999-abi3-manylinux_2_17_x86_64.whl"}) {
    EXPECT_EQ(wheel_fitness(name, target), 0U) << name;
  }
  EXPECT_GT(wheel_fitness("torch-2.1.0+cu121-cp311-cp311-linux_x86_64.whl", target), 0U);
}

// ---- pages of an index

TEST(IndexPage, NamesFilesWithDigestsWhereverTheyLie) {
  const auto files = read_index_page(
      "<a href=\"../../files/x-1-py3-none-any.whl#sha256=" + kA +
          "\">x</a><a data-y=1 href='https://f.example.org/a/x-1%2Bcu1-cp311-cp311-linux_x86_64.whl?a=1&amp;b=2#sha256=" + kB +
          "'>y</a><a href=\"/root/x-2-py3-none-any.whl#sha256=" + kA + "\">",
      "https://index.example.org/pypi/simple/x/");
  ASSERT_EQ(files.size(), 3U);
  EXPECT_EQ(files[0].url, "https://index.example.org/pypi/files/x-1-py3-none-any.whl");
  EXPECT_EQ(files[0].name, "x-1-py3-none-any.whl");
  EXPECT_EQ(files[0].sha256, kA);
  EXPECT_EQ(files[1].url, "https://f.example.org/a/x-1%2Bcu1-cp311-cp311-linux_x86_64.whl?a=1&b=2");
  EXPECT_EQ(files[1].name, "x-1+cu1-cp311-cp311-linux_x86_64.whl");
  EXPECT_EQ(files[2].url, "https://index.example.org/root/x-2-py3-none-any.whl");
}

TEST(IndexPage, LeavesOutWhatHasNoDigestOrAnUnsafePlace) {
  for (const std::string& link : std::vector<std::string>{
           "x-1-py3-none-any.whl", "x-1-py3-none-any.whl#sha256=1234", "http://e.org/x-1-py3-none-any.whl#sha256=" + kA,
           "file:///x-1-py3-none-any.whl#sha256=" + kA, "x-1.tar.gz#sha256=" + kA, "%2e%2e%2fx.whl#sha256=" + kA, "#sha256=" + kA}) {
    EXPECT_THAT(read_index_page("<a href=\"" + link + "\">", "https://index.example.org/simple/x/"), IsEmpty()) << link;
  }
}

// ---- a host

const std::string kSmall = "bytes of small", kLarge = "bytes of large";

std::string locked() {
  return fmt::format("large==2.0 --hash=sha256:{} --hash=sha256:{}\nsmall==1.0 --hash=sha256:{}\n", sha256_hex(kLarge), kB,
                     sha256_hex(kSmall));
}

/// A host that a fetcher has been to, where the test says so; and one whose index is what serve() was told.
class AheadHost : public FakeHost {
 public:
  AheadHost() {
    on({"gpustrap-agent", "pages"}, [this](FakeHost&, const Command& command) {
      Json pages = Json::array();
      for (auto url = command.argv.begin() + 2; url != command.argv.end(); ++url) {
        asked_.push_back(*url);
        pages.push_back(pages_.contains(*url) ? Json(pages_.at(*url)) : Json());
      }
      return CommandResult{0, pages.dump(), ""};
    });
    say_python("3.11");
  }
  void serve_page(const std::string& url, const std::string& text) { pages_[url] = text; }
  void say_python(const std::string& python) { answer({"gpustrap-agent", "python-to-come"}, {0, python, ""}); }
  void find_ahead(const std::vector<FetchRequest>& requests, const std::vector<std::string>& came) {
    answer({"gpustrap-agent", "found-ahead"}, {0, requests_to_json(requests), ""});
    came_ = came;
  }
  std::optional<FetchResult> take_fetched(const FetchRequest& request, StepLog& log) override {
    if (std::find(came_.begin(), came_.end(), request.urls.at(0)) == came_.end()) return std::nullopt;
    const Result<FetchResult> taken = fetch(request, log);
    return taken ? std::optional(*taken) : std::nullopt;
  }
  [[nodiscard]] const std::vector<std::string>& asked() const { return asked_; }

 private:
  std::map<std::string, std::string> pages_;
  std::vector<std::string> asked_, came_;
};

std::unique_ptr<AheadHost> host_with_lock(const std::string& index = "https://pypi.org/simple") {
  auto made = std::make_unique<AheadHost>();
  AheadHost& host = *made;
  host.as_user();
  host.put("/home/ubuntu/locked.txt", locked());
  host.answer({"getconf", "GNU_LIBC_VERSION"}, {0, "glibc 2.36\n", ""});
  host.answer({"env"}, {0, "HOME=/home/ubuntu\nPIP_DISABLE_PIP_VERSION_CHECK=1\n", ""});
  host.serve_page(index + "/large/", fmt::format("<a href=\"/f/large-2.0-cp312-cp312-manylinux_2_17_x86_64.whl#sha256={}\">"
                                                 "<a href=\"/f/large-2.0-cp311-cp311-manylinux_2_17_x86_64.whl#sha256={}\">",
                                                 kB, sha256_hex(kLarge)));
  host.serve_page(index + "/small/", fmt::format("<a href=\"/f/small-1.0-py3-none-any.whl#sha256={}\">", sha256_hex(kSmall)));
  return made;
}

PipSpec from_lock() {
  PipSpec spec;
  spec.venv = HostPath{"~/env"};
  spec.requirements = HostPath{"~/locked.txt"};
  return spec;
}

std::vector<std::string> urls_of(const std::vector<FetchRequest>& requests) {
  std::vector<std::string> urls;
  for (const FetchRequest& request : requests) urls.push_back(request.urls.at(0));
  return urls;
}

TEST(WheelsAhead, AreThoseOfTheLockForTheEnvironmentToCome) {
  const auto host_made = host_with_lock();
  AheadHost& host = *host_made;
  const auto wheels = wheels_to_fetch(host, from_lock());
  EXPECT_THAT(urls_of(wheels), ElementsAre("https://pypi.org/f/large-2.0-cp311-cp311-manylinux_2_17_x86_64.whl",
                                           "https://pypi.org/f/small-1.0-py3-none-any.whl"));
  ASSERT_EQ(wheels.size(), 2U);
  EXPECT_EQ(wheels[1].sha256, sha256_hex(kSmall)) << "the lock's own, whatever the index says";
  EXPECT_THAT(wheels[1].to, StartsWith("/home/ubuntu/.cache/gpustrap/wheels-"));
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(WheelsAhead, NoneWhereThePythonIsNotKnown) {
  const PipSpec spec = from_lock();
  const auto host_made = host_with_lock();
  AheadHost& host = *host_made;
  host.say_python("");
  EXPECT_THAT(wheels_to_fetch(host, spec), IsEmpty());
  host.say_python("python3");
  EXPECT_THAT(wheels_to_fetch(host, spec), IsEmpty()) << "it is not there yet";
  host.answer({"python3", "-c"}, {0, "3.11\n", ""});
  EXPECT_EQ(wheels_to_fetch(host, spec).size(), 2U);
  const auto musl_made = host_with_lock();
  AheadHost& musl = *musl_made;
  musl.answer({"getconf", "GNU_LIBC_VERSION"}, {1, "", ""});
  EXPECT_THAT(wheels_to_fetch(musl, from_lock()), IsEmpty());
}

TEST(WheelsAhead, ComeFromTheIndexThatPipWouldAsk) {
  const std::string mirror = "https://mirror.example.org/simple";
  const auto by_variable_made = host_with_lock(mirror);
  AheadHost& by_variable = *by_variable_made;
  by_variable.answer({"env"}, {0, "PIP_INDEX_URL=" + mirror + "/\n", ""});
  EXPECT_EQ(wheels_to_fetch(by_variable, from_lock()).size(), 2U);
  const auto by_file_made = host_with_lock(mirror);
  AheadHost& by_file = *by_file_made;
  by_file.put("/home/ubuntu/.config/pip/pip.conf", "[global]\n# index-url = https://old.example.org\nindex-url = " + mirror + "\n");
  EXPECT_EQ(wheels_to_fetch(by_file, from_lock()).size(), 2U);
  const auto by_recipe_made = host_with_lock(mirror);
  AheadHost& by_recipe = *by_recipe_made;
  PipSpec spec = from_lock();
  spec.index = Url{mirror};
  EXPECT_EQ(wheels_to_fetch(by_recipe, spec).size(), 2U);
}

TEST(WheelsAhead, AreLeftToPipWhereItsSettingsLeadElsewhere) {
  for (const char* line : {"extra-index-url = https://private.example.org", "find-links = /srv/wheels", "no-index = true",
                           "index-url = https://me:secret@private.example.org/simple"}) {
    const auto host_made = host_with_lock();
    AheadHost& host = *host_made;
    host.put("/etc/pip.conf", std::string("[global]\n") + line + "\n");
    EXPECT_THAT(wheels_to_fetch(host, from_lock()), IsEmpty()) << line;
    EXPECT_THAT(host.asked(), IsEmpty()) << line;
  }
  const auto host_made = host_with_lock();
  AheadHost& host = *host_made;
  host.answer({"env"}, {0, "PIP_EXTRA_INDEX_URL=https://private.example.org\n", ""});
  EXPECT_THAT(wheels_to_fetch(host, from_lock()), IsEmpty());
  const auto uv_made = host_with_lock();
  AheadHost& uv = *uv_made;
  uv.put("/home/ubuntu/.config/uv/uv.toml", "[[index]]\nurl = \"https://private.example.org\"\n");
  EXPECT_THAT(wheels_to_fetch(uv, from_lock()), IsEmpty());
}

TEST(WheelsAhead, AreThoseThatUvResolvesWhereNothingIsLocked) {
  const auto host_made = host_with_lock();
  AheadHost& host = *host_made;
  PipSpec spec = from_lock();
  spec.requirements.reset();
  spec.packages.items = {"large>=2", "small"};
  EXPECT_THAT(wheels_to_fetch(host, spec), IsEmpty()) << "there is no uv";
  std::string asked;
  std::vector<std::string> argv;
  host.on({"uv", "pip", "compile"}, [&](FakeHost&, const Command& command) {
    asked = command.input;
    argv = command.argv;
    return CommandResult{0, locked(), ""};
  });
  EXPECT_EQ(wheels_to_fetch(host, spec).size(), 2U);
  EXPECT_EQ(asked, "large>=2\nsmall\n");
  EXPECT_THAT(argv, Contains(":all:")) << "nothing is built ahead of its step";
  EXPECT_THAT(argv, Contains("3.11"));
}

// ---- the step

constexpr const char* kVenv = "/home/ubuntu/env";

void install(FakeHost& host, const std::string& name, const std::string& version) {
  host.put(fmt::format("{}/lib/python3.11/site-packages/{}-{}.dist-info/METADATA", kVenv, name, version),
           fmt::format("Name: {}\nVersion: {}\n", name, version));
}

std::unique_ptr<AheadHost> ready_host() {
  auto made = host_with_lock();
  AheadHost& host = *made;
  host.put("/usr/bin/python3.11", "", 0755);
  host.put(std::string(kVenv) + "/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n");
  host.put_symlink(std::string(kVenv) + "/bin/python", "/usr/bin/python3.11");
  install(host, "pip", "26.1");
  host.serve("https://pypi.org/f/large-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", kLarge);
  host.serve("https://pypi.org/f/small-1.0-py3-none-any.whl", kSmall);
  host.on({std::string(kVenv) + "/bin/python", "-m", "pip", "install"}, [](FakeHost& fake, const Command&) {
    install(fake, "large", "2.0");
    install(fake, "small", "1.0");
    return CommandResult{};
  });
  return made;
}

/// What pip was called with to install from the folder; empty where it was not.
std::string installed_from_folder(const FakeHost& host) {
  for (const std::string& change : host.changes()) {
    if (change.find("--find-links") != std::string::npos) return change;
  }
  return {};
}

/// Puts pip on the host that installs what the list in the folder names, and keeps that list.
void let_pip_read(AheadHost& host, std::string& list) {
  host.on({std::string(kVenv) + "/bin/python", "-m", "pip", "install"}, [&list](FakeHost& fake, const Command& command) {
    if (command.argv.back().ends_with("/wheels.txt")) list = fake.content(command.argv.back());
    install(fake, "large", "2.0");
    install(fake, "small", "1.0");
    return CommandResult{};
  });
}

TEST(WheelsAhead, ALockedFileIsLookedAtLikeAnyOther) {
  const auto made = ready_host();
  AheadHost& host = *made;
  host.put("/home/ubuntu/locked.txt",
           fmt::format("large==2.0 \\\n    --hash=sha256:{}\nsmall==1.0 --hash=sha256:{}  # via large\n", kA, kB));
  const auto step = make_pip_step(StepSpec{from_lock()});
  EXPECT_EQ(step->check(host)->reason, "large==2.0 is not installed; small==1.0 is not installed");
  install(host, "large", "2.0");
  install(host, "small", "1.0");
  EXPECT_EQ(step->check(host)->reason, "large 2.0, small 1.0");
}

TEST(WheelsAhead, AreInstalledWithTheirDigestsBeforeTheStepItself) {
  const auto made = ready_host();
  AheadHost& host = *made;
  std::string list;
  let_pip_read(host, list);
  const auto wheels = wheels_to_fetch(host, from_lock());
  host.find_ahead(wheels, urls_of(wheels));
  RecordingLog log;
  ASSERT_TRUE(make_pip_step(StepSpec{from_lock()})->apply(host, log));
  EXPECT_THAT(installed_from_folder(host), HasSubstr("--no-deps --no-index --find-links /home/ubuntu/.cache/gpustrap/wheels-"));
  EXPECT_EQ(list, fmt::format("large==2.0 --hash=sha256:{}\nsmall==1.0 --hash=sha256:{}\n", sha256_hex(kLarge), sha256_hex(kSmall)));
  EXPECT_THAT(host.changes().back(), HasSubstr("-r /home/ubuntu/locked.txt")) << "pip has the last word, with the lock and the index";
  EXPECT_THAT(log.lines, Contains("2 of 2 wheels came ahead"));
  EXPECT_THAT(host.snapshot(), Not(HasSubstr("/wheels-"))) << "nothing is left behind";
}

TEST(WheelsAhead, WhatIsStillOnItsWayIsFetchedAndWhatIsMissingLeftToPip) {
  const auto made = ready_host();
  AheadHost& host = *made;
  std::string list;
  let_pip_read(host, list);
  const auto wheels = wheels_to_fetch(host, from_lock());
  host.find_ahead(wheels, {wheels[1].urls[0]});
  RecordingLog log;
  ASSERT_TRUE(make_pip_step(StepSpec{from_lock()})->apply(host, log));
  EXPECT_THAT(list, HasSubstr("large==2.0"));
  EXPECT_THAT(log.lines, Contains("1 of 2 wheels came ahead"));

  const auto other_made = ready_host();
  AheadHost& other = *other_made;
  let_pip_read(other, list);
  other.find_ahead(wheels, {wheels[1].urls[0]});
  other.serve(wheels[0].urls[0], "something else");
  ASSERT_TRUE(make_pip_step(StepSpec{from_lock()})->apply(other, log));
  EXPECT_EQ(list, fmt::format("small==1.0 --hash=sha256:{}\n", sha256_hex(kSmall)));
}

TEST(WheelsAhead, NothingThatTheLockDoesNotNameIsInstalled) {
  const auto made = ready_host();
  AheadHost& host = *made;
  auto wheels = wheels_to_fetch(host, from_lock());
  auto elsewhere = wheels;
  for (FetchRequest& wheel : wheels) wheel.sha256 = kA;
  host.find_ahead(wheels, urls_of(wheels));
  RecordingLog log;
  ASSERT_TRUE(make_pip_step(StepSpec{from_lock()})->apply(host, log));
  EXPECT_EQ(installed_from_folder(host), "");
  elsewhere.resize(1);
  elsewhere[0].to = "/home/ubuntu/.bashrc";
  elsewhere[0].name = ".bashrc";
  host.find_ahead(elsewhere, urls_of(elsewhere));
  ASSERT_TRUE(make_pip_step(StepSpec{from_lock()})->apply(host, log));
  EXPECT_EQ(installed_from_folder(host), "");
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("bashrc"))));
}

TEST(WheelsAhead, WhatIsThereStaysUnlessALockOrAnUpgradeWantsAnother) {
  const auto made = ready_host();
  AheadHost& host = *made;
  install(host, "large", "1.0");
  EXPECT_EQ(wheels_to_fetch(host, from_lock()).size(), 2U) << "the lock wants 2.0";
  PipSpec open = from_lock();
  open.requirements.reset();
  open.packages.items = {"large", "small"};
  host.answer({"uv", "pip", "compile"}, {0, locked(), ""});
  EXPECT_THAT(urls_of(wheels_to_fetch(host, open)), ElementsAre(HasSubstr("small-1.0")));
  open.upgrade = true;
  EXPECT_THAT(wheels_to_fetch(host, open), IsEmpty()) << "what an upgrade leaves alone pip knows";
}

TEST(WheelsAhead, AreLeftToPipWhereUvWouldChooseOtherwise) {
  const auto made = ready_host();
  AheadHost& host = *made;
  host.answer({"uv", "pip", "compile"}, {0, locked(), ""});
  PipSpec open = from_lock();
  for (const char* line : {"--index-url https://private.example.org/simple", "--extra-index-url https://download.example.org", "-e .",
                           "small==1.0 --hash=sha512:aa", "--no-binary small", "small @ https://example.org/small.zip"}) {
    host.put("/home/ubuntu/locked.txt", std::string("large\n") + line + "\n");
    EXPECT_THAT(wheels_to_fetch(host, open), IsEmpty()) << line;
  }
  host.put("/home/ubuntu/locked.txt", "large\nsmall  # of late\n");
  EXPECT_EQ(wheels_to_fetch(host, open).size(), 2U);
  host.answer({"env"}, {0, "HOME=/home/ubuntu\nUV_INDEX=https://private.example.org/simple\n", ""});
  EXPECT_THAT(wheels_to_fetch(host, open), IsEmpty()) << "uv has another index";
  host.answer({"env"}, {0, "HOME=/home/ubuntu\n", ""});
  host.put("/etc/pip.conf", "[global]\nextra-index-url =\n    https://private.example.org\n");
  EXPECT_THAT(wheels_to_fetch(host, open), IsEmpty()) << "pip has more than an index";
  host.take_away("/etc/pip.conf");
  host.put(std::string(kVenv) + "/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = true\nversion = 3.11.2\n");
  EXPECT_THAT(wheels_to_fetch(host, open), IsEmpty()) << "what the system has is not seen from here";
}

TEST(WheelsAhead, WhatCannotBeInstalledFromHereIsLeftToPip) {
  const auto made = ready_host();
  AheadHost& host = *made;
  host.on({std::string(kVenv) + "/bin/python", "-m", "pip", "install"}, [](FakeHost& fake, const Command& command) {
    if (command.argv.back().ends_with("/wheels.txt")) return CommandResult{1, "", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n"};
    install(fake, "large", "2.0");
    return CommandResult{};
  });
  const auto wheels = wheels_to_fetch(host, from_lock());
  host.find_ahead(wheels, urls_of(wheels));
  RecordingLog log;
  EXPECT_TRUE(make_pip_step(StepSpec{from_lock()})->apply(host, log));
  EXPECT_THAT(log.lines, Contains(HasSubstr("the index is asked for them")));
  EXPECT_THAT(host.changes().back(), HasSubstr("-r /home/ubuntu/locked.txt"));
}

}  // namespace
}  // namespace gpustrap
