#include "controller/lint_upstream.h"

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <mutex>

#include "agent/base/sha256.h"
#include "controller/compat_loader.h"
#include "controller/package_index.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A few servers, and what they were asked.
struct Internet {
  std::function<Result<HttpResponse>(const HttpRequest&)> answer;
  std::vector<std::string> asked;
  std::mutex mutex;
};

class FakeHttp : public Http {
 public:
  explicit FakeHttp(Internet& internet) : internet_(internet) {}
  Result<HttpResponse> send(const HttpRequest& request) override {
    const std::lock_guard lock(internet_.mutex);
    internet_.asked.push_back(request.method + " " + request.url);
    return internet_.answer(request);
  }

 private:
  Internet& internet_;
};

HttpResponse with(int status, std::string body = {}, HttpHeaders headers = {}) { return {status, std::move(headers), std::move(body)}; }

/// "4 upstream-gone https://… is not there any more (HTTP 404)": of the rules about servers only.
class Upstream : public ::testing::Test {
 protected:
  std::vector<std::string> findings(const std::string& steps, UpstreamOptions::Depth depth = UpstreamOptions::Depth::headers) {
    const std::string file = directory_ / "lab.yaml";
    std::ofstream(file) << "name: lab\ndescription: d\nsteps:\n" << steps;
    UpstreamOptions options;
    options.depth = depth;
    options.limit = limit_;
    options.mirror = mirror_;
    options.connect = [this]() -> std::unique_ptr<Http> { return std::make_unique<FakeHttp>(internet_); };
    options.look_at_key = [this](const std::string& key) { return key_(key); };
    const Result<Compat> compat = load_builtin_compat();
    const Result<LintReport> report = lint_recipe(file, {}, *compat, &options);
    EXPECT_TRUE(report);
    std::vector<std::string> found;
    for (const LintFinding& finding : report->findings) {
      if (finding.rule->id.starts_with("upstream-") || finding.rule->id.starts_with("allow-") || finding.rule->id == "recipe-error")
        found.push_back(fmt::format("{} {} {}", finding.place.line, finding.rule->id, finding.message));
    }
    return found;
  }

  TemporaryDirectory directory_;
  Internet internet_;
  std::chrono::seconds limit_{60};
  Mirror mirror_;
  std::function<Result<std::string>(const std::string&)> key_ = [](const std::string&) { return Result<std::string>(""); };
};

TEST_F(Upstream, WhatIsThereIsNoFinding) {
  internet_.answer = [](const HttpRequest&) { return with(200); };
  EXPECT_THAT(findings("  - download: { url: https://a.example/x, mirrors: [https://b.example/x], to: ~/x }\n"
                       "  - git: { url: https://c.example/r.git, to: ~/r }\n"),
              IsEmpty());
  EXPECT_THAT(internet_.asked, AllOf(Contains("HEAD https://a.example/x"), Contains("HEAD https://b.example/x"),
                                     Contains("HEAD https://c.example/r.git/info/refs?service=git-upload-pack")));
}

TEST_F(Upstream, WhatIsGoneIsNamedWithItsPlace) {
  internet_.answer = [](const HttpRequest& request) { return with(request.url.find("old") != std::string::npos ? 404 : 200); };
  EXPECT_THAT(findings("  - download: { url: https://a.example/new, to: ~/x }\n"
                       "  - id: two\n    archive: { url: https://a.example/old.zip, to: ~/y }\n"),
              ElementsAre("6 upstream-gone https://a.example/old.zip is not there any more (HTTP 404)"));
}

TEST_F(Upstream, AServerThatAnswersOnlyGetIsAskedForOneByte) {
  internet_.answer = [](const HttpRequest& request) {
    const bool small =
        std::any_of(request.headers.begin(), request.headers.end(), [](const auto& one) { return one.second == "bytes=0-0"; });
    return with(request.method == "HEAD" ? 405 : small ? 206 : 500);
  };
  EXPECT_THAT(findings("  - download: { url: https://a.example/x, to: ~/x }\n"), IsEmpty());
}

TEST_F(Upstream, RedirectsAreFollowedButNotOutOfEncryption) {
  internet_.answer = [](const HttpRequest& request) {
    if (request.url == "https://a.example/x") return with(302, "", {{"Location", "/y"}});
    if (request.url == "https://a.example/plain") return with(301, "", {{"location", "http://a.example/plain"}});
    if (request.url == "https://a.example/round") return with(302, "", {{"Location", "round"}});
    return with(request.url == "https://a.example/y" ? 200 : 404);
  };
  EXPECT_THAT(findings("  - download: { url: https://a.example/x, to: ~/x }\n"), IsEmpty());
  EXPECT_THAT(findings("  - download: { url: https://a.example/plain, to: ~/x }\n"),
              ElementsAre(AllOf(HasSubstr("upstream-gone"), HasSubstr("which is not encrypted"))));
  EXPECT_THAT(findings("  - download: { url: https://a.example/round, to: ~/x }\n"),
              ElementsAre(AllOf(HasSubstr("upstream-silent"), HasSubstr("more than 10 redirects"))));
}

TEST_F(Upstream, SilenceIsNoAnswer) {
  internet_.answer = [](const HttpRequest& request) -> Result<HttpResponse> {
    if (request.url.find("broken") != std::string::npos) return with(503);
    return fail(ErrorCode::unreachable, "nobody answers");
  };
  EXPECT_THAT(findings("  - download: { url: https://a.example/broken, to: ~/x }\n"),
              ElementsAre(HasSubstr("upstream-silent https://a.example/broken answers HTTP 503")));
  EXPECT_THAT(findings("  - download: { url: https://a.example/x, to: ~/x }\n"),
              ElementsAre(HasSubstr("upstream-silent https://a.example/x: nobody answers")));
  limit_ = std::chrono::seconds(0);
  EXPECT_THAT(findings("  - download: { url: https://a.example/x, to: ~/x }\n"), ElementsAre(HasSubstr("was not asked: the time ran out")));
}

TEST_F(Upstream, ADigestIsComparedOnlyWhereThatIsAskedFor) {
  const std::string body(20U << 20U, 'x');  // more than a piece
  internet_.answer = [&](const HttpRequest& request) {
    std::size_t from = 0, to = body.size() - 1;
    for (const auto& [name, value] : request.headers) {
      if (name == "Range") std::sscanf(value.c_str(), "bytes=%zu-%zu", &from, &to);
    }
    if (request.method == "HEAD") return with(200);
    return from >= body.size() ? with(416) : with(206, body.substr(from, to - from + 1));
  };
  const auto recipe = [](const std::string& digest) {
    return "  - download: { url: https://a.example/x, to: ~/x, sha256: " + digest + " }\n";
  };
  const std::string other(64, 'a');
  EXPECT_THAT(findings(recipe(sha256_hex(body)), UpstreamOptions::Depth::whole), IsEmpty());
  EXPECT_THAT(findings(recipe(other)), IsEmpty());
  EXPECT_THAT(findings(recipe(other), UpstreamOptions::Depth::whole),
              ElementsAre("4 upstream-changed https://a.example/x has sha256 " + sha256_hex(body) + " now, and the recipe names " + other));
}

TEST_F(Upstream, ARepositoryIsAskedForItsReleaseAndItsKey) {
  internet_.answer = [](const HttpRequest&) { return with(200, "KEY"); };
  key_ = [](const std::string& key) { return Result<std::string>(key == "KEY" ? "expired on 2020-01-01" : "?"); };
  EXPECT_THAT(findings("  - apt_repository:\n      name: tool\n      url: https://apt.example/debian\n      suites: [bookworm]\n      "
                       "components: [main]\n"
                       "      key: https://apt.example/key.asc\n      fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567\n"),
              ElementsAre("9 upstream-key the key https://apt.example/key.asc expired on 2020-01-01"));
  EXPECT_THAT(internet_.asked, Contains("HEAD https://apt.example/debian/dists/bookworm/Release"));
  key_ = [](const std::string&) -> Result<std::string> { return fail(ErrorCode::not_found, "gpg is not installed"); };
  EXPECT_THAT(findings("  - apt_repository: { name: tool, url: https://apt.example/flat, key: https://apt.example/key.asc, fingerprint: "
                       "0123456789ABCDEF0123456789ABCDEF01234567 }\n"),
              ElementsAre(HasSubstr("was not looked into: gpg is not installed")));
  EXPECT_THAT(internet_.asked, Contains("HEAD https://apt.example/flat/Release"));
}

constexpr const char* kIdna = R"({"meta":{"api-version":"1.1"},"name":"idna","files":[
  {"filename":"idna-3.9-py3-none-any.whl","yanked":"wrong tables"},{"filename":"idna-3.9.tar.gz","yanked":"wrong tables"},
  {"filename":"idna-3.10-py3-none-any.whl","yanked":false},{"filename":"idna-3.10.tar.gz"}]})";

TEST_F(Upstream, TheIndexIsAskedForPackagesAndTheirPinnedVersions) {
  internet_.answer = [](const HttpRequest& request) {
    if (request.url == "https://pypi.org/simple/idna/") return with(200, kIdna, {{"Content-Type", "application/vnd.pypi.simple.v1+json"}});
    if (request.url == "https://wheels.example/whl/torch/")
      return with(200,
                  "<!DOCTYPE html><html><body><a href=\"x#sha256=1\" data-requires-python=\"&gt;=3.9\">"
                  "torch-2.9.0+cu126-cp311-cp311-linux_x86_64.whl</a>\n<a data-yanked=\"a &lt;bug&gt;\" "
                  "href='y'>torch-2.8.0+cu126-cp311-cp311-linux.whl</a></body></html>");
    return with(404);
  };
  EXPECT_THAT(
      findings("  - pip: { venv: ~/env, packages: [idna==3.10, 'Idna[all]', 'idna==3.9', idna==2.0, no-such] }\n"
               "  - id: two\n    pip:\n      venv: ~/env\n      index: https://wheels.example/whl\n      packages: [torch==2.9.0, "
               "torch==2.9.*, torch==2.8.0+cu126, torch==2.9.0+cpu]\n"),
      ElementsAre("4 upstream-yanked idna 3.9 was withdrawn: wrong tables",
                  "4 upstream-gone the index has no idna 2.0 (https://pypi.org/simple/idna/, which pip asks unless the host's own settings "
                  "name another)",
                  HasSubstr("4 upstream-gone the index has no package no-such"),
                  "9 upstream-yanked torch 2.8.0+cu126 was withdrawn: a <bug>",
                  "9 upstream-gone the index has no torch 2.9.0+cpu (https://wheels.example/whl/torch/)"));
}

TEST_F(Upstream, APageThatIsNoIndexIsSilence) {
  internet_.answer = [](const HttpRequest&) { return with(200, "Please log in to the network"); };
  EXPECT_THAT(findings("  - pip: { venv: ~/env, packages: [idna==3.10] }\n"), ElementsAre(HasSubstr("upstream-silent")));
  internet_.answer = [](const HttpRequest&) { return with(200, "{\"message\": 1}", {{"Content-Type", "application/json"}}); };
  EXPECT_THAT(findings("  - pip: { venv: ~/env, packages: [idna==3.10] }\n"), ElementsAre(HasSubstr("is no page of a package index")));
}

TEST_F(Upstream, ChannelsOfCondaAreAskedForByName) {
  internet_.answer = [](const HttpRequest& request) { return with(request.url.find("gone") != std::string::npos ? 404 : 200); };
  EXPECT_THAT(findings("  - conda_env:\n      name: lab\n      channels: [conda-forge, gone, 'https://c.example/chan/']\n      packages: "
                       "['bioconda::x', 'conda-forge::y=1']\n      pip: [idna]\n"),
              ElementsAre("6 upstream-gone the channel gone is not there: no https://conda.anaconda.org/gone/noarch/repodata.json"));
  EXPECT_THAT(internet_.asked, AllOf(Contains("HEAD https://conda.anaconda.org/conda-forge/noarch/repodata.json"),
                                     Contains("HEAD https://c.example/chan/noarch/repodata.json"),
                                     Contains("HEAD https://conda.anaconda.org/bioconda/noarch/repodata.json"),
                                     Contains("GET https://pypi.org/simple/idna/")));
}

TEST_F(Upstream, AddressesInCommandsAreAskedForByTheirHeads) {
  internet_.answer = [](const HttpRequest& request) { return with(request.url.find("old") != std::string::npos ? 404 : 200); };
  const std::vector<std::string> found = findings(
      "  - command:\n      run: |\n        curl -fsSL https://a.example/old.sh -o x.sh\n        wget -q https://a.example/new.tgz\n"
      "        git clone https://a.example/r.git r\n        curl -X POST -d '{}' https://a.example/hook-old\n"
      "        curl http://169.254.169.254/latest http://localhost:8080/x \"https://a.example/$NAME\"\n"
      "        # curl https://a.example/old-comment\n        echo see https://a.example/page\n"
      "      creates: /x\n");
  EXPECT_THAT(found, ElementsAre("6 upstream-gone https://a.example/old.sh is not there any more (HTTP 404)",
                                 "9 upstream-gone https://a.example/hook-old is not there any more (HTTP 404)"));
  EXPECT_THAT(internet_.asked, AllOf(Contains("HEAD https://a.example/r.git/info/refs?service=git-upload-pack"),
                                     Contains("HEAD https://a.example/new.tgz"), Contains("HEAD https://a.example/hook-old")));
  for (const std::string& one : internet_.asked) {
    EXPECT_EQ(one.find("169.254"), std::string::npos) << one;
    EXPECT_EQ(one.find("localhost"), std::string::npos) << one;
    EXPECT_EQ(one.find("comment"), std::string::npos) << one;
    EXPECT_NE(one, "GET https://a.example/hook-old") << "what the command sends there is its own business";
  }
}

TEST_F(Upstream, MirrorsAreAskedFirstAsHostsDo) {
  mirror_.name = "uni";
  mirror_.places = {{"downloads", "https://a.example/", "https://mirror.example/a/"},
                    {"pypi", "", "https://mirror.example/simple"},
                    {"conda", "", "https://mirror.example/conda"}};
  internet_.answer = [](const HttpRequest& request) {
    const bool there = request.url == "https://mirror.example/a/one" || request.url == "https://a.example/two" ||
                       request.url.starts_with("https://mirror.example/simple/idna") ||
                       request.url.starts_with("https://mirror.example/conda/");
    return with(there ? 200 : 404, kIdna);
  };
  EXPECT_THAT(
      findings("  - download: { url: https://a.example/one, to: ~/x }\n  - id: b\n    download: { url: https://a.example/two, to: ~/y }\n"
               "  - id: c\n    download: { url: https://a.example/three, to: ~/z }\n  - pip: { venv: ~/e, packages: [idna==3.10] }\n"
               "  - conda_env: { name: lab, python: \"3.11\", channels: [conda-forge] }\n"),
      ElementsAre("8 upstream-gone https://a.example/three is not there any more (HTTP 404), and not at the mirror uni either"));
  EXPECT_EQ(std::count(internet_.asked.begin(), internet_.asked.end(), "HEAD https://a.example/one"), 0);
}

TEST(PackageIndex, ComparesVersionsAsTheyArePinned) {
  EXPECT_TRUE(is_version_of("1.2.0", "1.2"));
  EXPECT_TRUE(is_version_of("2.9.0+cu126", "2.9.0"));
  EXPECT_FALSE(is_version_of("2.9.0", "2.9.0+cu126"));
  EXPECT_TRUE(is_version_of("1.2.10", "1.2.*"));
  EXPECT_FALSE(is_version_of("1.20", "1.2.*"));
  EXPECT_FALSE(is_version_of("1.2rc1", "1.2"));
  EXPECT_TRUE(is_version_of("1.2rc1", "1.2-RC1"));
  EXPECT_FALSE(is_version_of("", ""));
}

TEST(PackageIndex, ReadsFileNamesAndRequirements) {
  EXPECT_EQ(version_of_file("torch-2.9.0+cu126-cp311-cp311-manylinux_2_28_x86_64.whl"), "2.9.0+cu126");
  EXPECT_EQ(version_of_file("python-dateutil-2.9.tar.gz"), "2.9");
  EXPECT_EQ(version_of_file("thing.exe"), "");
  const auto read = [](std::string_view text) {
    const std::optional<PinnedPackage> package = read_pinned(text);
    return package ? package->name + " " + package->version : "none";
  };
  EXPECT_EQ(read("Typing_Extensions == 4.1 ; python_version < '3.9'"), "typing-extensions 4.1");
  EXPECT_EQ(read("a[b,c]===1"), "a 1");
  EXPECT_EQ(read("a>=1,==1.*"), "a ");
  EXPECT_EQ(read("a @ https://x"), "none");
  EXPECT_EQ(read("--pre"), "none");
  EXPECT_EQ(read("${{ vars.x }}"), "none");
  EXPECT_EQ(read("x==${{ vars.x }}"), "none");
}

TEST_F(Upstream, CanBeAllowedAndIsNotCalledUnusedWithoutBeingAsked) {
  const std::string steps = "  - download: { url: https://a.example/x, to: ~/x }   # lint: allow upstream-gone it is served on Mondays\n";
  internet_.answer = [](const HttpRequest&) { return with(404); };
  EXPECT_THAT(findings(steps), IsEmpty());
  const std::string file = directory_ / "lab.yaml";
  const Result<LintReport> unasked = lint_recipe(file, {}, *load_builtin_compat());
  for (const LintFinding& finding : unasked->findings) EXPECT_NE(finding.rule->id, "allow-unused");
}

TEST(RedirectTarget, IsWhatABrowserWouldOpen) {
  EXPECT_EQ(redirect_target("https://a.example/b/c?d", "https://e.example/f"), "https://e.example/f");
  EXPECT_EQ(redirect_target("https://a.example/b/c", "//e.example/f"), "https://e.example/f");
  EXPECT_EQ(redirect_target("https://a.example/b/c", "/f?u=https://x"), "https://a.example/f?u=https://x");
  EXPECT_EQ(redirect_target("https://a.example/b/c?x=/y/", "f"), "https://a.example/b/f");
  EXPECT_EQ(redirect_target("https://a.example", "f"), "https://a.example/f");
  EXPECT_EQ(redirect_target("nonsense", "f"), "f");
}

TEST(FaultOfKey, ReadsWhatGpgSays) {
  const std::int64_t now = 1'700'000'000;
  EXPECT_EQ(fault_of_key("pub:-:255:22:0123456789ABCDEF:1600000000:::-:::scESC::::::23::0:\n", now), "");
  EXPECT_EQ(fault_of_key("pub:e:255:22:0123456789ABCDEF:1600000000:1650000000::-:\n", now), "expired on 2022-04-15");
  EXPECT_EQ(fault_of_key("pub:-:255:22:0123456789ABCDEF:1600000000:1700086400::-:\n", now), "expires on 2023-11-15");
  EXPECT_EQ(fault_of_key("pub:-:255:22:0123456789ABCDEF:1600000000:1800000000::-:\n", now), "");
  EXPECT_EQ(fault_of_key("pub:r:255:22:0123456789ABCDEF:1600000000:::-:\n", now), "is revoked");
  EXPECT_EQ(fault_of_key("", now), "holds no key that gpg can read");
  EXPECT_EQ(fault_of_key("sub:e:::::1:::\n\x01:", now), "holds no key that gpg can read");
}

}  // namespace
}  // namespace gpustrap
