#include "controller/recipe_schema.h"

#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/recipe.h"
#include "agent/protocol/secrets.h"
#include "agent/protocol/step_spec.h"
#include "controller/recipe_reference.h"

namespace gpustrap {
namespace {

Json defined(std::string_view name) { return {{"$ref", fmt::format("#/definitions/{}", name)}}; }
Json any_of(std::vector<Json> choices) {
  Json schema = Json::object();
  schema["anyOf"] = std::move(choices);
  return schema;
}
Json list_of(const Json& item) {
  Json schema = {{"type", "array"}};
  schema["items"] = item;
  return schema;
}
Json pattern(std::string_view regex) { return {{"type", "string"}, {"pattern", regex}}; }

constexpr std::string_view kPlaceholder = R"(\$\{\{.*\}\})";
/// A text of that shape, or one that is not whole before its placeholders are filled in.
Json text_like(std::string_view regex) { return {{"type", "string"}, {"pattern", fmt::format("(?:{})|{}", regex, kPlaceholder)}}; }
Json or_placeholder(Json schema) { return any_of({std::move(schema), defined("placeholder")}); }

/// The value types of agent/protocol/fields.h, by the names that FieldDoc has for them.
Json type_definitions() {
  Json types = Json::object();
  types["placeholder"] = pattern(kPlaceholder);
  types["boolean"] = or_placeholder({{"type", "boolean"}});
  types["number"] = or_placeholder({{"type", "integer"}, {"minimum", 0}, {"maximum", 1'000'000}});
  types["text"] = {{"type", Json::array({"string", "integer"})}};
  types["path"] = text_like("^/|^~$|^~/");
  types["URL"] = text_like("^https?://[^/?#@]+(?:[/?#]|$)");
  types["SHA-256"] = text_like("^(?:sha256:)?[0-9a-fA-F]{64}$");
  types["mode"] = text_like("^[0-7]{3,5}$");
  types["size"] = text_like("^[0-9][0-9.]* *(?:TiB|GiB|MiB|KiB|TB|GB|MB|kB|B)$");
  types["time"] = text_like("^(?:[0-9]+[dhms])+$");
  types["money"] = text_like("^[0-9]{1,6}(?:\\.[0-9]{1,6})? *[A-Z]{3}$");
  types["price"] = text_like("^[0-9]{1,6}(?:\\.[0-9]{1,6})? *[A-Z]{3} */h$");
  types["port"] = or_placeholder({{"type", "integer"}, {"minimum", 1}, {"maximum", 65535}});
  types["list of texts"] = any_of({defined("text"), list_of(defined("text"))});
  types["list of URLs"] = any_of({defined("URL"), list_of(defined("URL"))});
  types["command"] = any_of({{{"type", "string"}}, list_of(defined("text"))});
  types["command"]["anyOf"][1]["minItems"] = 1;
  types["mapping"] = {{"type", "object"}};
  types["mapping"]["additionalProperties"] = defined("text");
  Json change = {{"type", "object"}, {"minProperties", 1}, {"maxProperties", 1}, {"additionalProperties", false}};
  change["properties"]["prepend"] = change["properties"]["append"] = defined("list of texts");
  types["text or mapping"] = any_of({defined("text"), std::move(change)});
  // Names with a space would have to be escaped in every reference.
  Json named = Json::object();
  for (auto& [name, schema] : types.items()) {
    std::string text = schema.dump();
    for (const std::string_view spaced : {"list of texts", "list of URLs", "text or mapping"}) {
      std::string plain(spaced);
      for (char& c : plain) c = c == ' ' ? '_' : c;
      for (std::size_t at = text.find("/" + std::string(spaced)); at != std::string::npos;
           at = text.find("/" + std::string(spaced), at + 1))
        text.replace(at + 1, spaced.size(), plain);
    }
    std::string key = name;
    for (char& c : key) c = c == ' ' ? '_' : c;
    named[key] = Json::parse(text);
  }
  return named;
}

/// "one of present, latest, absent" names the values.
std::vector<std::string> choices_of(const FieldDoc& doc) {
  constexpr std::string_view kStart = "one of ";
  std::vector<std::string> names;
  for (const std::string& name : split(doc.expected.substr(kStart.size()), ',')) names.emplace_back(trim(name));
  return names;
}

Json schema_of(const FieldDoc& doc) {
  Json schema;
  if (doc.type == "choice") {
    schema = any_of({{{"enum", choices_of(doc)}}, defined("placeholder")});
  } else {
    std::string name = doc.type;
    for (char& c : name) c = c == ' ' ? '_' : c;
    // Beside a $ref draft 7 ignores everything, and with it the words for hovering.
    schema["allOf"] = Json::array({defined(name)});
  }
  std::string words = doc.help.empty() ? "" : doc.help + ".\n\n";
  words += fmt::format("Expected: {}.", doc.expected);
  if (!doc.default_text.empty()) {
    words += fmt::format(" Default: `{}`.", doc.default_text);
    schema["default"] = Json::parse(doc.default_text);
  }
  schema["description"] = words;
  return schema;
}

Json object_of(const std::vector<FieldDoc>& fields) {
  Json schema = {{"type", "object"}, {"additionalProperties", false}};
  schema["properties"] = Json::object();
  for (const FieldDoc& doc : fields) {
    schema["properties"][doc.name] = schema_of(doc);
    if (doc.presence == Presence::required) schema["required"].push_back(doc.name);
  }
  return schema;
}

Json kind_schema(const std::string& name) {
  const StepKindDoc doc = describe_step_kind(*step_kind_from_name(name));
  std::vector<FieldDoc> fields = doc.fields;
  Json rest = false;
  if (!fields.empty() && fields.back().type == "text or mapping") {  // NAME: any other name
    rest = schema_of(fields.back());
    fields.pop_back();
  }
  Json mapping = object_of(fields);
  mapping["additionalProperties"] = std::move(rest);
  std::vector<Json> forms = {mapping};
  if (!mapping.contains("required")) forms.push_back({{"type", "null"}});
  for (const FieldDoc& field : fields) {
    if (field.name == doc.shorthand) forms.push_back(schema_of(field));
  }
  Json schema = any_of(std::move(forms));
  schema["description"] = explain_kind(name).value_or(doc.help);
  return schema;
}

Json step_schema() {
  Json schema = {{"type", "object"}, {"additionalProperties", false}};
  schema["description"] = "One step: exactly one kind, and fields that every step may have.";
  Json& properties = schema["properties"];
  properties = object_of(describe_common_fields())["properties"];
  Json when = object_of(describe_condition());
  when["properties"]["group"] = {{"description", "Only on hosts of these groups or names of the hosts file (docs/hosts.md)."}};
  when["properties"]["group"]["allOf"] = Json::array({defined("list_of_texts")});
  when["description"] = "The step is skipped where one of these does not hold.";
  properties["when"] = std::move(when);
  properties["include"] = {{"type", "string"},
                           {"description", "All steps of another recipe: its name, or a file beside this one. Never a URL."}};
  properties["vars"] = {{"type", "object"}, {"description", "With include: values for the vars of that recipe."}};
  Json one_of = Json::array();
  for (const std::string& name : step_kind_names()) {
    properties[name] = kind_schema(name);
    one_of.push_back({{"required", Json::array({name})}});
  }
  one_of.push_back({{"required", Json::array({"include"})}});
  schema["oneOf"] = std::move(one_of);
  schema["dependencies"]["vars"] = Json::array({"include"});
  return schema;
}

Json var_schema() {
  const Json plain = {{"type", Json::array({"string", "integer", "boolean", "null"})}};
  Json choice = {{"type", "object"}, {"required", Json::array({"by"})}, {"minProperties", 2}};
  choice["properties"]["by"] = {
      {"type", "string"}, {"description", "The var that this one goes by; the other members are its values and what they stand for."}};
  Json schema = any_of({plain, list_of({{"type", Json::array({"string", "integer", "boolean"})}}), std::move(choice)});
  schema["description"] = "A default, which --var NAME=VALUE replaces; ~ where it must be given.";
  return schema;
}

}  // namespace

std::string recipe_schema() {
  Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                 {"title", "gpustrap recipe"},
                 {"description", "How a host is to be: gpustrap up RECIPE HOST makes it so."},
                 {"type", "object"},
                 {"additionalProperties", false},
                 {"required", Json::array({"name", "steps"})}};
  Json& properties = schema["properties"];
  properties["name"] = {{"type", Json::array({"string", "integer"})},
                        {"pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
                        {"description", "Letters, digits, `.`, `_` and `-`."}};
  properties["description"] = {{"type", "string"}, {"description", "One line, shown by `gpustrap recipe list`."}};
  properties["vars"] = {{"type", Json::array({"object", "null"})},
                        {"description", "Values with names: `${{ vars.NAME }}`, and --var on the command line."}};
  properties["vars"]["additionalProperties"] = var_schema();
  properties["secrets"] = {{"type", "object"}, {"description", "Values that stand in no file of the recipe: `${{ secrets.NAME }}`."}};
  properties["secrets"]["propertyNames"] = {{"pattern", "^[A-Za-z_][A-Za-z0-9_]*$"}};
  properties["secrets"]["additionalProperties"] = object_of(describe_secret_source());
  properties["secrets"]["additionalProperties"]["description"] = "Where you have its value: the first of these that has one.";
  properties["steps"] = {
      {"type", "array"}, {"minItems", 1}, {"description", "Run in order; one with `needs` starts as soon as those are done."}};
  properties["steps"]["items"] = step_schema();
  properties["next"] = {{"type", "string"}, {"description", "What people are shown once all is done."}};
  schema["definitions"] = type_definitions();
  // Not of JSON Schema: yaml-language-server says this instead of the pattern.
  for (const std::string& name : step_kind_names()) {
    for (const FieldDoc& field : describe_step_kind(*step_kind_from_name(name)).fields) {
      const auto type = schema["definitions"].find(field.type);
      if (type != schema["definitions"].end() && type->contains("pattern"))
        (*type)["patternErrorMessage"] = "Expected: " + field.expected + ".";
    }
  }
  return schema.dump(2) + "\n";
}

}  // namespace gpustrap
