# The one list of the agent's sources: the libraries of agent/CMakeLists.txt and the static build in packaging/ both read it.
# Paths are relative to the repository root.
set(GPUSTRAP_BASE_SOURCES
  agent/base/file.cc
  agent/base/result.cc
  agent/base/sha256.cc
  agent/base/subprocess.cc
  agent/base/text.cc
)
set(GPUSTRAP_PROTOCOL_SOURCES
  agent/protocol/event.cc
  agent/protocol/facts.cc
  agent/protocol/fields.cc
  agent/protocol/fields_visit.cc
  agent/protocol/line.cc
  agent/protocol/members.cc
  agent/protocol/placeholders.cc
  agent/protocol/recipe.cc
  agent/protocol/request.cc
  agent/protocol/step_spec.cc
)
set(GPUSTRAP_AGENT_LIBRARY_SOURCES
  agent/control_socket.cc
  agent/fetch.cc
  agent/gather_facts.cc
  agent/host.cc
  agent/http_transfer.cc
  agent/identity.cc
  agent/journal.cc
  agent/log.cc
  agent/plan.cc
  agent/real_host.cc
  agent/removal.cc
  agent/run_store.cc
  agent/runner.cc
  agent/runner_process.cc
  agent/serve.cc
  agent/shown_url.cc
  agent/step_process.cc
  agent/steps/directory.cc
  agent/steps/ownership.cc
  agent/steps/symlink.cc
  agent/steps/table.cc
  agent/token.cc
  agent/transfer_child.cc
)
set(GPUSTRAP_AGENT_MAIN agent/main.cc)
set(GPUSTRAP_AGENT_SOURCES ${GPUSTRAP_BASE_SOURCES} ${GPUSTRAP_PROTOCOL_SOURCES} ${GPUSTRAP_AGENT_LIBRARY_SOURCES} ${GPUSTRAP_AGENT_MAIN})
