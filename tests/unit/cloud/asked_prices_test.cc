#include "controller/cloud/asked_prices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"
#include "tests/support/fake_cloud.h"
#include "tests/support/fake_http.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string product(const std::string& usd, const std::string& unit = "Hrs") {
  return Json{{"product", {{"sku", "S"}}},
              {"terms",
               {{"OnDemand", {{"S.T", {{"priceDimensions", {{"S.T.R", {{"unit", unit}, {"pricePerUnit", {{"USD", usd}}}}}}}}}}},
                {"Reserved", {{"S.O", {{"priceDimensions", {{"S.O.R", {{"unit", "Hrs"}, {"pricePerUnit", {{"USD", "900"}}}}}}}}}}}}}}
      .dump();
}
Json answer_with(std::initializer_list<std::string> products) { return {{"FormatVersion", "aws_v1"}, {"PriceList", products}}; }

TEST(PriceAnswers, HoldTheHighestPriceOnDemand) {
  EXPECT_DOUBLE_EQ(*read_price(answer_with({product("0.5260000000")})), 0.526);
  EXPECT_DOUBLE_EQ(*read_price(answer_with({product("0.5"), product("0.7")})), 0.7) << "nobody is promised less than the bill";
  EXPECT_DOUBLE_EQ(*read_price(answer_with({product("0"), product("0.7")})), 0.7);
  for (const Json& bad : {answer_with({}), answer_with({product("0.0")}), answer_with({product("1", "Quantity")}),
                          answer_with({"not JSON"}), answer_with({product("inf")}), Json{{"PriceList", "x"}}, Json::array(),
                          Json{{"PriceList", {1, nullptr}}}, Json{{"PriceList", {Json{{"terms", {{"OnDemand", {1, 2}}}}}.dump()}}}})
    EXPECT_FALSE(read_price(bad)) << bad;
}

class AskedPricesTest : public ::testing::Test {
 protected:
  explicit AskedPricesTest(const std::string& region = "us-east-1") {
    client_ = std::make_unique<AwsClient>(account_settings(region), std::make_unique<FakeHttp>(log_), time_.clock());
  }
  TemporaryDirectory folder_;
  FakeHttp::Log log_;
  FakeTime time_;
  std::unique_ptr<AwsClient> client_;
};

class PricesInEurope : public AskedPricesTest {
 protected:
  PricesInEurope() : AskedPricesTest("eu-west-1") {}
};
class PricesInChina : public AskedPricesTest {
 protected:
  PricesInChina() : AskedPricesTest("cn-north-1") {}
};

TEST_F(PricesInEurope, AreAskedWhereAwsTellsThemAndKeptForADay) {
  log_.answers.emplace_back(answer_of(200, answer_with({product("0.587")}).dump()));
  const std::optional<Price> price = AskedPrices(*client_, folder_.path()).price_of("g4dn.xlarge");
  ASSERT_TRUE(price);
  EXPECT_DOUBLE_EQ(price->usd_per_hour, 0.587);
  EXPECT_EQ(price->source, "AWS's price list for eu-west-1, 2026-11-21");
  ASSERT_THAT(log_.requests, SizeIs(1));
  EXPECT_EQ(log_.requests[0].url, "https://api.pricing.us-east-1.amazonaws.com/");
  const std::string signature = HttpResponse{0, log_.requests[0].headers, ""}.header("Authorization");
  EXPECT_THAT(signature, HasSubstr("/us-east-1/pricing/aws4_request"));
  const Json asked = Json::parse(log_.requests[0].body);
  EXPECT_THAT(asked.dump(), AllOf(HasSubstr("\"eu-west-1\""), HasSubstr("\"g4dn.xlarge\""), HasSubstr("\"Shared\"")));
  EXPECT_LT(log_.requests[0].timeout, std::chrono::seconds(10)) << "nobody waits long for what is only good to know";

  EXPECT_DOUBLE_EQ(AskedPrices(*client_, folder_.path()).price_of("g4dn.xlarge")->usd_per_hour, 0.587);
  EXPECT_THAT(log_.requests, SizeIs(1)) << "kept";
  time_.now += std::chrono::hours(25);
  log_.answers.emplace_back(answer_of(200, answer_with({product("0.6")}).dump()));
  EXPECT_DOUBLE_EQ(AskedPrices(*client_, folder_.path()).price_of("g4dn.xlarge")->usd_per_hour, 0.6);
}

TEST_F(AskedPricesTest, FallsBackToTheTableAndSaysWhy) {
  log_.answers.emplace_back(answer_of(400, R"({"__type":"AccessDeniedException","message":"no"})"));
  AskedPrices prices(*client_, folder_.path());
  const std::optional<Price> price = prices.price_of("g4dn.xlarge");
  ASSERT_TRUE(price);
  EXPECT_DOUBLE_EQ(price->usd_per_hour, 0.526);
  EXPECT_THAT(price->source, HasSubstr("table of us-east-1, 2026-"));
  EXPECT_THAT(prices.trouble(), HasSubstr("pricing:GetProducts"));
  EXPECT_TRUE(prices.price_of("g5.xlarge"));
  EXPECT_FALSE(prices.price_of("x99.huge")) << "neither knows it";
  AskedPrices next(*client_, folder_.path());
  EXPECT_TRUE(next.price_of("g4dn.xlarge"));
  EXPECT_THAT(next.trouble(), HasSubstr("pricing:GetProducts"));
  EXPECT_THAT(log_.requests, SizeIs(1)) << "it is not asked again at once, by no command";
  time_.now += std::chrono::minutes(11);
  EXPECT_TRUE(AskedPrices(*client_, folder_.path()).price_of("g4dn.xlarge"));
  EXPECT_THAT(log_.requests, SizeIs(2));
}

TEST_F(AskedPricesTest, IsAskedOnceThoughNobodyAnswers) {
  AskedPrices prices(*client_, folder_.path());
  EXPECT_TRUE(prices.price_of("g4dn.xlarge"));
  EXPECT_THAT(log_.requests, SizeIs(1));
  EXPECT_TRUE(time_.pauses.empty());
  Ec2Instance spot;
  spot.type = "g4dn.xlarge";
  spot.lifecycle = "spot";
  EXPECT_FALSE(prices.price_of(spot));
}

TEST_F(PricesInChina, AreInAnotherCurrencySoNobodyIsAsked) {
  AskedPrices prices(*client_, folder_.path());
  EXPECT_TRUE(prices.price_of("g4dn.xlarge"));
  EXPECT_THAT(log_.requests, SizeIs(0));
}

}  // namespace
}  // namespace gpustrap
