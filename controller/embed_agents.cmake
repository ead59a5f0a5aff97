# embed_agent(ARCH FILE): FILE is a static agent; packaging/pack.sh packs it at configure time and taken in with .incbin.
set(AGENT_BLOBS "")
set(AGENT_ROWS "")
function(embed_agent arch file)
  if(NOT file)
    return()
  endif()
  if(NOT EXISTS ${file})
    message(FATAL_ERROR "The agent to embed for ${arch} does not exist: ${file}. packaging/build-agents.sh ${arch} makes it.")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(SHA256 ${file} digest)
  set(packed ${CMAKE_CURRENT_BINARY_DIR}/agent-${arch}-${digest}.gz)
  if(NOT EXISTS ${packed})
    execute_process(COMMAND ${CMAKE_SOURCE_DIR}/packaging/pack.sh ${file} ${packed} COMMAND_ERROR_IS_FATAL ANY)
  endif()
  string(APPEND AGENT_BLOBS "asm(R\"(
  .section .rodata
  .balign 16
agent_${arch}_begin:
  .incbin \"${packed}\"
agent_${arch}_end:
  .byte 0
  .previous
  .globl agent_${arch}_begin
  .globl agent_${arch}_end
)\");
extern \"C\" const char agent_${arch}_begin[];
extern \"C\" const char agent_${arch}_end[];
")
  string(APPEND AGENT_ROWS "
      {\"${arch}\", \"${digest}\", {agent_${arch}_begin, static_cast<std::size_t>(agent_${arch}_end - agent_${arch}_begin)}},")
  set(AGENT_BLOBS "${AGENT_BLOBS}" PARENT_SCOPE)
  set(AGENT_ROWS "${AGENT_ROWS}" PARENT_SCOPE)
endfunction()

embed_agent(x86_64 "${AGENT_X86_64}")
embed_agent(aarch64 "${AGENT_AARCH64}")
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/embedded_agents.cc.in ${CMAKE_CURRENT_BINARY_DIR}/embedded_agents.cc @ONLY)
