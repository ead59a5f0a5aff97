#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/protocol/json.h"
#include "controller/doctor/patient.h"
#include "controller/lint.h"

namespace gpustrap {

struct DoctorClass;

/// What is wrong with a host, by one class.
struct Finding {
  const DoctorClass* of = nullptr;
  Severity severity = Severity::error;
  std::vector<std::string> evidence;        ///< as the host said it
  std::string cause;                        ///< one sentence, without the dot
  std::vector<std::string> commands;        ///< what a person types on the host; a line that is no command begins with #
  std::vector<Json> steps{};                ///< the same as steps of a recipe; empty: a person has to do it
  std::vector<const DoctorClass*> hides{};  ///< what was found as well and follows from this
};

/// What came of one look.
struct Verdict {
  enum class State {
    fine,
    found,
    unknown,     ///< could not be looked at: `why` says what was missing
    irrelevant,  ///< the host has nothing that it is about
  } state = State::fine;
  std::string why{};
  Finding finding{};
  std::optional<Severity> severity{};  ///< where it is another one than its class's
};

/// One thing that may be wrong with a host. The id is for ever: `--fix` and programs name it.
struct DoctorClass {
  std::string_view id;
  Severity severity;          ///< of most of its findings
  std::string_view subject;   ///< driver, gpu, cuda, python, system, packages, network, notebook
  std::string_view summary;   ///< what it is, a sentence
  std::string_view advice;    ///< what to do in general, without a dot
  std::string_view explains;  ///< ids of classes that are its consequences, with spaces
  Verdict (*look)(const Patient&);
  bool rests_on_nothing = false;  ///< it is about what keeps the host from answering: its finding stands where nothing else is known
};
/// All of them, causes before what follows from them.
[[nodiscard]] const std::vector<DoctorClass>& doctor_classes();
/// nullptr for an id that none has.
[[nodiscard]] const DoctorClass* find_doctor_class(std::string_view id);

struct Diagnosis {
  std::vector<Finding> findings;  ///< errors first, causes first
  struct Unknown {
    const DoctorClass* of;
    std::string why;
  };
  std::vector<Unknown> unknown;
  std::size_t looked_at = 0;  ///< classes that could be decided
  [[nodiscard]] bool has_errors() const;
  /// No error and no warning.
  [[nodiscard]] bool is_healthy() const;
};
[[nodiscard]] Diagnosis diagnose(const Patient& patient);

// diagnosis_output.cc: all end with a newline.

/// For people, broken at `columns`; 0 leaves lines as they are. `host` stands in the commands that it recommends.
[[nodiscard]] std::string diagnosis_text(const Diagnosis& diagnosis, const Patient& patient, const std::string& host, std::size_t columns,
                                         bool unicode);
/// One document, in one line: docs/doctor.md describes it.
[[nodiscard]] std::string diagnosis_json(const Diagnosis& diagnosis, const Patient& patient, const std::string& host);
/// The classes, a line each.
[[nodiscard]] std::string doctor_class_list(std::size_t columns);
/// The same for programs: one line of JSON (docs/doctor.md).
[[nodiscard]] std::string doctor_class_json();
/// Markdown of all classes: the part of docs/doctor.md below its marker.
[[nodiscard]] std::string doctor_reference();

}  // namespace gpustrap
