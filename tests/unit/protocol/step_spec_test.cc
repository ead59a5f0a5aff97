#include "agent/protocol/step_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"
#include "agent/protocol/money.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> problems_of(StepKind kind, const char* json, Placeholders placeholders = Placeholders::refused) {
  std::vector<FieldProblem> problems;
  const Json value = Json::parse(json);
  (void)read_step_spec(kind, value, "/steps/0/x", placeholders, problems);
  std::vector<std::string> texts;
  for (const FieldProblem& problem : problems) texts.push_back(problem.pointer.substr(10) + " " + problem.message);
  return texts;
}

/// A value of every kind that is right and sets as much as possible.
struct Sample {
  StepKind kind;
  const char* json;
};
constexpr Sample kSamples[] = {
    {StepKind::require,
     R"({"os":["ubuntu >= 22.04","debian"],"arch":["x86_64"],"disk_free":"40GiB","memory":"500MB","cpus":2,"gpu":true,"systemd":true})"},
    {StepKind::wait, R"({"cloud_init":true,"apt":true,"port":22,"file":"/run/ready","limit":"90s"})"},
    {StepKind::apt,
     R"({"packages":["git","zip=3.0-13"],"state":"latest","update":true,"max_age":"2h","hold":["linux-aws"],"recommends":false,"fast":true})"},
    {StepKind::download,
     R"({"url":"https://example.org/a.run","mirrors":["http://mirror.example.org/a.run"],"to":"/opt/","sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","mode":"0755","fetch":"shared"})"},
    {StepKind::archive,
     R"({"url":"https://example.org/a.zip","to":"~/a","sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","strip":1,"max_size":"1TiB","fetch":"shared"})"},
    {StepKind::file, R"({"path":"/etc/motd","content":"hi\n","mode":"0600","owner":"root","group":"www-data"})"},
    {StepKind::block, R"({"path":"~/.bashrc","content":"a","marker":"conda","comment":"//"})"},
    {StepKind::directory, R"({"path":"~/notebooks","mode":"0700","owner":"ann","group":"ann"})"},
    {StepKind::symlink, R"({"path":"~/data","target":"/mnt/data"})"},
    {StepKind::environment, R"({"scope":"system","LANG":"C.UTF-8","PATH":{"prepend":["/a","/b"]},"LD_LIBRARY_PATH":{"append":["/c"]}})"},
    {StepKind::command, R"({"run":["ls","-l"],"unless":"true","creates":["/a","~/b"],"chdir":"/tmp"})"},
    {StepKind::service, R"({"name":"web","unit":"[Service]\nExecStart=/bin/true\n","enabled":false,"port":8080})"},
    {StepKind::venv, R"({"path":"~/env","python":"3.11","system_site_packages":true})"},
    {StepKind::pip,
     R"({"venv":"~/env","packages":["torch","numpy>=1,<2"],"requirements":"~/r.txt","index":"https://pypi.example.org/simple","upgrade":true})"},
    {StepKind::nvidia_smi, R"({"min_gpus":2,"min_memory":"16GiB","min_driver":"550","probe":true})"},
    {StepKind::jupyter, R"({"venv":"~/env","dir":"~/notebooks","port":9999,"name":"notebook"})"},
    {StepKind::git, R"({"url":"git@example.org:course.git","to":"~/course","ref":"v1.0","update":false,"depth":1,"submodules":true})"},
    {StepKind::deb,
     R"({"url":"https://example.org/a.deb","mirrors":["http://mirror.example.org/a.deb"],"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","package":"tool","version":"1:2.0-1","fetch":"shared"})"},
    {StepKind::apt_repository,
     R"({"name":"cuda","url":"https://example.org/repo","suites":["noble"],"components":["main"],"architectures":["amd64"],"key":"https://example.org/key.asc","sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","priority":600,"pin":"release l=Example"})"},
    {StepKind::reboot, R"({"mode":"always","message":"back in a minute","allow_disruption":true,"limit":"2m"})"},
    {StepKind::conda,
     R"({"distribution":"miniconda","version":"py313_26.3.2-2","prefix":"/opt/conda","init":false,"accept_tos":true,"url":"https://example.org/a.sh","mirrors":["http://mirror.example.org/a.sh"],"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","fetch":"shared"})"},
    {StepKind::conda_env,
     R"({"name":"d2l","conda":"/opt/conda","python":"3.11","packages":["numpy>=1,<2","zlib"],"channels":["conda-forge"],"pip":["d2l==1.0.3"]})"},
    {StepKind::nvidia_driver,
     R"({"branch":"580","cuda":"12.4","modules":"open","source":"nvidia","reboot":"never","hold":false,"persistence":false,"fabric_manager":"always","mirror":"https://mirror.example.org/cuda","fingerprint":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","allow_disruption":true,"limit":"2m"})"},
    {StepKind::cuda,
     R"({"version":"12.4","from":"runfile","url":"https://example.org/cuda.run","mirrors":["http://mirror.example.org/cuda.run"],"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","fetch":"shared","default":false})"},
    {StepKind::idle_stop, R"({"after":"30m","warn":"10m","budget":"5 USD","price":"0.526 USD/h"})"},
};

TEST(StepSpec, EveryKindReadsWhatItWrites) {
  ASSERT_EQ(std::size(kSamples), kStepKindCount);
  for (const Sample& sample : kSamples) {
    std::vector<FieldProblem> problems;
    const Json value = Json::parse(sample.json);
    const StepSpec spec = read_step_spec(sample.kind, value, "", Placeholders::refused, problems);
    ASSERT_THAT(problems_of(sample.kind, sample.json), IsEmpty());
    const Json written = write_step_spec(spec);
    EXPECT_EQ(nlohmann::json::parse(written.dump()), nlohmann::json::parse(sample.json));
    const StepSpec again = read_step_spec(sample.kind, written, "", Placeholders::refused, problems);
    EXPECT_TRUE(problems.empty());
    EXPECT_EQ(write_step_spec(again), written);
  }
}

TEST(StepSpec, KindsKnowTheirNames) {
  EXPECT_EQ(step_kind_from_name("nvidia_smi"), StepKind::nvidia_smi);
  EXPECT_EQ(step_kind_name(StepKind::jupyter), "jupyter");
  EXPECT_FALSE(step_kind_from_name("npm").has_value());
  EXPECT_EQ(step_kind_names().size(), kStepKindCount);
}

TEST(StepSpec, UnknownFieldsNameTheNearest) {
  EXPECT_THAT(problems_of(StepKind::apt, R"({"packges":["git"]})"),
              ElementsAre("/packges `packges` is not a field of apt; did you mean `packages`?"));
  EXPECT_THAT(problems_of(StepKind::apt, "{}"), ElementsAre(" apt has nothing to do: expected at least one of packages, update, hold"));
  EXPECT_THAT(problems_of(StepKind::nvidia_smi, R"({"min_gpu":1})"),
              ElementsAre("/min_gpu `min_gpu` is not a field of nvidia_smi; did you mean `min_gpus`?"));
  EXPECT_THAT(problems_of(StepKind::venv, R"({"paht":"~/e"})"), ElementsAre("/paht `paht` is not a field of venv; did you mean `path`?"));
  EXPECT_THAT(problems_of(StepKind::symlink, R"({"path":"/a","target":"/b","weather":1})"),
              ElementsAre("/weather `weather` is not a field of symlink; its fields are path, target"));
}

TEST(StepSpec, WrongValuesSayWhatIsExpected) {
  EXPECT_THAT(problems_of(StepKind::wait, R"({"port":99999})"),
              ElementsAre("/port `port` of wait is `99999`: expected a port number, 1 to 65535"));
  EXPECT_THAT(problems_of(StepKind::wait, R"({"apt":"yes"})"), ElementsAre("/apt `apt` of wait is `yes`: expected true or false"));
  EXPECT_THAT(problems_of(StepKind::wait, R"({"file":null})"),
              ElementsAre("/file `file` of wait is empty: expected an absolute path, ~ or a path that starts with ~/; a bare ~ is empty in "
                          "YAML, write \"~\""));
  EXPECT_THAT(problems_of(StepKind::venv, R"({"path":"env"})"),
              ElementsAre("/path `path` of venv is `env`: expected an absolute path, ~ or a path that starts with ~/"));
  EXPECT_THAT(problems_of(StepKind::apt, R"({"packages":["git","-y"]})"),
              ElementsAre("/packages/1 `packages` of apt holds `-y`: expected a Debian package's name or name=version"));
  EXPECT_THAT(problems_of(StepKind::apt, R"({"packages":"git","state":"presnt"})"),
              ElementsAre("/state `state` of apt is `presnt`: expected one of present, latest, absent; did you mean `present`?"));
  EXPECT_THAT(problems_of(StepKind::directory, R"({"path":"/a","mode":644})"),
              ElementsAre("/mode `mode` of directory is `644`: expected permissions in octal, such as \"0644\"; put it in quotes"));
}

TEST(StepSpec, MoneyHasACurrencyAndAPriceAnHour) {
  for (const auto& [text, millionths] :
       {std::pair{"5 USD", 5'000'000}, std::pair{"0.25EUR", 250'000}, std::pair{" 12.500001 CNY ", 12'500'001}})
    EXPECT_EQ(parse_money(text)->millionths, millionths) << text;
  for (const char* text : {"5", "USD 5", "5 usd", "-5 USD", "5. USD", ".5 USD", "1234567 USD", "0.1234567 USD", "5 USD/h", "1e3 USD", ""})
    EXPECT_FALSE(parse_money(text)) << text;
  EXPECT_EQ(price_text(*parse_price("0.5260 USD/h")), "0.526 USD/h");
  EXPECT_EQ(price_text(*parse_price("12 USD /h")), "12 USD/h");
  EXPECT_FALSE(parse_price("0.526 USD"));
  EXPECT_EQ(rounded_money({1'005'001, "USD"}), "1.01 USD");
  const PriceList list{"2026-07-20", {{"g4dn.xlarge", *parse_price("0.526 USD/h")}}};
  EXPECT_EQ(write_price_list(*read_price_list(write_price_list(list))), write_price_list(list));
  for (const char* text : {"{}", "[]", R"({"as_of":"x","types":{"a":"free"}})", R"({"as_of":1,"types":{}})"})
    EXPECT_FALSE(read_price_list(Json::parse(text))) << text;
}

TEST(StepSpec, AnIdleStopSaysWhenAndForHowMuch) {
  const auto problems = [](const char* json) { return problems_of(StepKind::idle_stop, json); };
  EXPECT_THAT(problems(R"("30m")"), IsEmpty());
  EXPECT_THAT(problems("{}"), ElementsAre(" idle_stop would stop nothing: expected `after`, `budget`, or both"));
  EXPECT_THAT(
      problems(R"({"after":"5m","warn":"5m"})"),
      ElementsAre("/warn `warn` of idle_stop is `5m`: expected less than `after`, since the warning comes so long before the stop"));
  EXPECT_THAT(problems(R"({"after":"5m","warn":"0s"})"),
              ElementsAre("/warn `warn` of idle_stop is 0s: expected some minutes, or nobody is told before the host stops"));
  EXPECT_THAT(problems(R"({"budget":5})"),
              ElementsAre("/budget `budget` of idle_stop is `5`: expected an amount with its currency, such as 5 USD"));
  EXPECT_THAT(problems(R"({"budget":"5 USD","price":"0.2"})"),
              ElementsAre("/price `price` of idle_stop is `0.2`: expected what an hour costs, such as 0.526 USD/h"));
  EXPECT_THAT(problems(R"({"budget":"5 USD","price":"0.2 EUR/h"})"),
              ElementsAre("/price `price` of idle_stop is in EUR, and `budget` in USD: expected one currency"));
  EXPECT_THAT(problems(R"({"after":"30m","price":"0.2 EUR/h"})"), ElementsAre("/price `price` of idle_stop goes with `budget` only"));
  EXPECT_THAT(problems(R"({"absent":true,"after":"30m"})"), ElementsAre("/after `after` of idle_stop does not go with `absent: true`"));
  EXPECT_EQ(problems(R"({"after":"soon"})").size(), 1U);
  EXPECT_THAT(problems(R"({"budget":"0 USD"})"), ElementsAre("/budget `budget` of idle_stop is nothing: expected more than 0"));
}

TEST(StepSpec, WhatIsSharedNeedsADigest) {
  EXPECT_THAT(problems_of(StepKind::download, R"({"url":"https://example.org/a","to":"/a","fetch":"shared"})"),
              ElementsAre("/fetch `fetch` of download is shared, which needs `sha256`: what another host sends is believed by its digest "
                          "alone; give that, or leave `fetch` out"));
  EXPECT_THAT(problems_of(StepKind::download, R"({"url":"https://example.org/a","to":"/a","fetch":"origin"})"), IsEmpty());
  EXPECT_THAT(problems_of(StepKind::archive, R"({"path":"/a.zip","to":"/a","fetch":"origin"})"),
              ElementsAre("/fetch `fetch` of archive goes with `url` only"));
  EXPECT_THAT(problems_of(StepKind::conda, R"({"fetch":"shared"})"), IsEmpty());  // gpustrap knows the digest
  std::vector<FieldProblem> problems;
  EXPECT_TRUE(is_shared(read_step_spec(StepKind::conda, Json{{"fetch", "shared"}}, "", Placeholders::refused, problems)));
  EXPECT_FALSE(is_shared(read_step_spec(StepKind::conda, Json::object(), "", Placeholders::refused, problems)));
  EXPECT_FALSE(is_shared(read_step_spec(StepKind::directory, Json("/a"), "", Placeholders::refused, problems)));
}

TEST(StepSpec, ANumberWhereATextIsWantedMustNotLoseDigits) {
  EXPECT_THAT(problems_of(StepKind::venv, R"({"path":"~/e","python":3})"), IsEmpty());
  EXPECT_THAT(
      problems_of(StepKind::venv, R"({"path":"~/e","python":3.1})"),
      ElementsAre(
          "/python `python` of venv is `3.1`: expected a text; it reads as a number here, and 3.10 would become 3.1: put it in quotes"));
}

TEST(StepSpec, RequiredFieldsAndShorthands) {
  EXPECT_THAT(problems_of(StepKind::pip, R"({})"),
              ElementsAre(" pip needs a field `venv` or `env`", " pip has nothing to do: expected `packages` or `requirements`"));
  EXPECT_THAT(problems_of(StepKind::apt, R"(["git","unzip"])"), IsEmpty());
  EXPECT_THAT(problems_of(StepKind::command, R"("make install")"), IsEmpty());
  EXPECT_THAT(problems_of(StepKind::directory, R"("notes")"),
              ElementsAre(" `path` of directory is `notes`: expected an absolute path, ~ or a path that starts with ~/"));
  EXPECT_THAT(problems_of(StepKind::download, R"("https://example.org")"),
              ElementsAre(" download is `https://example.org`: expected a mapping with url, mirrors, to, sha256, mode, fetch"));
  EXPECT_THAT(problems_of(StepKind::nvidia_smi, "null"), IsEmpty());
  EXPECT_THAT(problems_of(StepKind::command, R"({"run":" "})"), ElementsAre("/run `run` of command is empty: expected a command to run"));
  EXPECT_THAT(problems_of(StepKind::command, R"({"run":[]})"),
              ElementsAre("/run `run` of command is `[]`: expected a shell text or a list of arguments"));
}

TEST(StepSpec, CombinationsAreChecked) {
  EXPECT_THAT(problems_of(StepKind::archive, R"({"to":"/a"})"), ElementsAre(" archive needs a field `url` or `path`"));
  EXPECT_THAT(problems_of(StepKind::archive, R"({"to":"/a","url":"https://x.org/a.zip","path":"/a.zip"})"),
              ElementsAre(" archive has `url` and `path`: expected one of them"));
  EXPECT_THAT(problems_of(StepKind::file, R"({"path":"/a"})"), ElementsAre(" file needs a field `content`, or `absent: true`"));
  EXPECT_THAT(problems_of(StepKind::file, R"({"path":"/a","content":"","absent":true})"),
              ElementsAre("/absent `absent` of file is true, but there is `content`: expected one of them"));
  EXPECT_THAT(problems_of(StepKind::require, "{}"),
              ElementsAre(" require asks for nothing: expected at least one of os, arch, disk_free, memory, cpus, gpu, systemd"));
  EXPECT_THAT(
      problems_of(StepKind::require, R"({"os":"ubuntu => 22"})"),
      ElementsAre(
          "/os `os` of require holds `ubuntu => 22`: expected an os-release ID and a comparison, such as `ubuntu >= 22.04` or `debian`"));
  EXPECT_THAT(problems_of(StepKind::wait, "{}"),
              ElementsAre(" wait waits for nothing: expected at least one of cloud_init, apt, port, file"));
  EXPECT_THAT(problems_of(StepKind::environment, R"({"scope":"login"})"),
              ElementsAre(" environment changes nothing: expected at least one variable"));
}

TEST(StepSpec, EnvironmentChangesAreStrict) {
  EXPECT_THAT(
      problems_of(StepKind::environment, R"({"PATH":{"prepnd":"/a"}})"),
      ElementsAre(
          "/PATH `PATH` of environment is `{\"prepnd\":\"/a\"}`: expected a text, {prepend: …} or {append: …}; did you mean `prepend`?"));
  EXPECT_THAT(
      problems_of(StepKind::environment, R"({"1X":"a"})"),
      ElementsAre("/1X `1X` is not a name for a variable of environment: expected letters, digits and _, not beginning with a digit"));
}

TEST(StepSpec, PlaceholdersDeferTheCheckWhereTheyAreAllowed) {
  constexpr const char* kSpec = R"({"venv":"${{ facts.x }}/env","port":"${{ facts.port }}"})";
  EXPECT_THAT(problems_of(StepKind::jupyter, kSpec, Placeholders::allowed), IsEmpty());
  EXPECT_EQ(problems_of(StepKind::jupyter, kSpec).size(), 2U);
  EXPECT_THAT(problems_of(StepKind::apt, R"({"packages":["${{ facts.os }}"]})", Placeholders::allowed), IsEmpty());
}

TEST(StepSpec, UrlsWithCredentialsAreRefusedWithoutQuotingThem) {
  const auto problems = problems_of(StepKind::download, R"({"url":"https://ann:s3cret@example.org/a","to":"/a"})");
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].find("s3cret"), std::string::npos);
  EXPECT_EQ(problems_of(StepKind::download, R"({"url":"ftp://example.org/a","to":"/a"})").size(), 1U);
  EXPECT_EQ(problems_of(StepKind::download, R"({"url":"https:///a","to":"/a"})").size(), 1U);
}

TEST(StepSpec, SizesAndTimes) {
  const auto size_of = [](const char* text) {
    std::vector<FieldProblem> problems;
    const Json value = {{"disk_free", text}};
    const StepSpec spec = read_step_spec(StepKind::require, value, "", Placeholders::refused, problems);
    return problems.empty() ? std::get<RequireSpec>(spec).disk_free->bytes : 0;
  };
  EXPECT_EQ(size_of("40GiB"), std::uint64_t{40} << 30U);
  EXPECT_EQ(size_of("1.5 GB"), 1'500'000'000U);
  EXPECT_EQ(size_of("40"), 0U);
  EXPECT_EQ(size_of("99999999999TiB"), 0U);
  EXPECT_EQ(size_of("1.2.3GiB"), 0U);
  const auto seconds_of = [](const char* text) {
    std::vector<FieldProblem> problems;
    const Json value = {{"apt", true}, {"limit", text}};
    const StepSpec spec = read_step_spec(StepKind::wait, value, "", Placeholders::refused, problems);
    return problems.empty() ? std::get<WaitSpec>(spec).limit.time.count() : -1;
  };
  EXPECT_EQ(seconds_of("1h30m"), 5400);
  EXPECT_EQ(seconds_of("1d"), 86400);
  EXPECT_EQ(seconds_of("10"), -1);
  EXPECT_EQ(seconds_of("99999999999999999999s"), -1);
  EXPECT_EQ(seconds_of("10 minutes"), -1);
}

TEST(StepSpec, DocumentationComesFromTheFields) {
  const StepKindDoc doc = describe_step_kind(StepKind::jupyter);
  ASSERT_EQ(doc.fields.size(), 9U);
  EXPECT_EQ(doc.fields[0].name, "venv");
  EXPECT_EQ(doc.fields[0].presence, Presence::optional);
  EXPECT_EQ(doc.fields[4].default_text, "8888");
  EXPECT_EQ(describe_step_kind(StepKind::conda_env).fields[0].presence, Presence::required);
  EXPECT_EQ(describe_step_kind(StepKind::wait).fields[4].default_text, "\"10m\"");
  EXPECT_EQ(describe_step_kind(StepKind::archive).fields[6].default_text, "\"64GiB\"");
}

TEST(StepSpec, GitTakesUrlsThatRunNothingAndHoldNoPassword) {
  for (const char* url : {"https://example.org/a.git", "ssh://git@example.org/a", "git@example.org:a.git", "/srv/a.git", "file:///srv/a"}) {
    EXPECT_THAT(problems_of(StepKind::git, Json({{"url", url}, {"to", "~/a"}}).dump().c_str()), IsEmpty()) << url;
  }
  for (const char* url : {"ext::sh -c id", "ext::id", "-u", "a", "ftp://example.org/a", "dir/a:b", "https://"}) {
    EXPECT_THAT(problems_of(StepKind::git, Json({{"url", url}, {"to", "~/a"}}).dump().c_str()),
                ElementsAre(::testing::HasSubstr("expected https://…, ssh://…, user@host:path")))
        << url;
  }
  EXPECT_THAT(
      problems_of(StepKind::git, R"({"url":"https://ann:secret@example.org/a","to":"~/a"})"),
      ElementsAre("/url `url` of git holds a password or token: expected a URL without credentials, since recipes and logs are shared"));
  EXPECT_THAT(problems_of(StepKind::git, R"({"url":"/srv/a","to":"~/a","ref":"--upload-pack=id","depth":0})"),
              ElementsAre("/ref `ref` of git is `--upload-pack=id`: expected the name of a branch or tag, or a commit",
                          "/depth `depth` of git is `0`: expected 1 or more"));
  EXPECT_THAT(problems_of(StepKind::git, R"({"url":"/srv/a","to":"~/a","ref":"main..next"})"), ElementsAre(::testing::HasSubstr("/ref")));
}

TEST(StepSpec, ADebIsPinnedAndNamedWhole) {
  EXPECT_THAT(problems_of(StepKind::deb, R"({"url":"https://example.org/a.deb"})"),
              ElementsAre(" deb needs a field `sha256`: a package's scripts run as root"));
  EXPECT_THAT(problems_of(StepKind::deb, R"({"path":"/srv/a.deb","package":"a1"})"), ElementsAre(" deb has `package` without `version`"));
  EXPECT_THAT(problems_of(StepKind::deb, R"({})"), ElementsAre(" deb needs a field `url` or `path`"));
  EXPECT_THAT(problems_of(StepKind::deb, R"({"path":"/srv/a.deb","package":"a1=2","version":"-1"})"),
              ElementsAre("/package `package` of deb is `a1=2`: expected a Debian package's name",
                          "/version `version` of deb is `-1`: expected a Debian version such as 1.1-1"));
}

TEST(StepSpec, ARepositoryHasOneKeyAndTheSuitesOfItsForm) {
  Json value = Json::parse(R"({"name":"cuda","url":"https://example.org/r","key":"https://example.org/k","sha256":""})");
  value["sha256"] = std::string(64, 'a');
  EXPECT_THAT(problems_of(StepKind::apt_repository, value.dump().c_str()), IsEmpty());
  value["suites"] = "noble";
  EXPECT_THAT(problems_of(StepKind::apt_repository, value.dump().c_str()),
              ElementsAre(" apt_repository needs a field `components` with these suites"));
  value["components"] = "main\nSigned-By: /tmp/k";
  EXPECT_THAT(problems_of(StepKind::apt_repository, value.dump().c_str()),
              ElementsAre(::testing::HasSubstr("expected a component such as main")));
  value["suites"] = "/";
  value["components"] = "main";
  value["keyring"] = "https://example.org/k.deb";
  value["name"] = "../cuda";
  value["pin"] = "release l=X";
  EXPECT_THAT(problems_of(StepKind::apt_repository, value.dump().c_str()),
              ElementsAre("/name `name` of apt_repository is `../cuda`: expected lower-case letters, digits, _ and -",
                          " apt_repository has `key` and `keyring`: expected one of them",
                          "/components `components` of apt_repository does not go with a flat repository (a suite that ends with /)",
                          "/pin `pin` of apt_repository goes with `priority` only"));
}

}  // namespace
}  // namespace gpustrap
