# shellcheck shell=bash disable=SC2154 # host_name and the like come from the frame
# The agent alone, as cloud-init or an image build runs it: no controller, no connection.

standalone_needs() { [ -x "$bin/gpustrap-agent" ] || echo "$bin/gpustrap-agent is not built"; }

standalone_cases() {
    case_ "the agent runs a resolved recipe on a bare host"
    boot_host box
    put "$bin/gpustrap-agent" /opt/gpustrap-agent 0755
    recipe
    agent_run
    expect_exit 0
    on_host cat /etc/gpustrap-test
    expect_output "by hand"
    on_host cat /home/ubuntu/made
    expect_output "from ubuntu"

    case_ "a second run finds nothing to do and touches nothing"
    take_listing
    agent_run
    expect_exit 0
    expect_unchanged
    expect_same_listing

    case_ "a step that fails ends the run with its output and exit 1"
    echo '{"name": "fails", "steps": [{"id": "bad", "command": {"run": "echo on the way; exit 7", "unless": "false"}}, {"id": "after", "command": {"run": "touch /run/after", "unless": "false"}}]}' >recipe.json
    put recipe.json /opt/recipe.json 0644
    agent_run
    expect_exit 1
    expect_output "on the way"
    ! on_host test -e /run/after
    expect_exit 1

    case_ "a recipe with a mistake is refused before anything is done"
    echo '{"name": "wrong", "steps": [{"id": "bad", "command": {"runn": "true"}}]}' >recipe.json
    put recipe.json /opt/recipe.json 0644
    agent_run
    expect_exit 2
    expect_output runn

    case_ "without a login user it says which it could be"
    recipe
    on_host useradd --create-home --uid 1001 second
    ! on_host /opt/gpustrap-agent run /opt/recipe.json
    expect_exit 2
    expect_output --login-user
    expect_output "several users could be meant: ubuntu, second"
    on_host sed -i.kept 's/:x:1[0-9][0-9][0-9]:/:x:900:/' /etc/passwd
    ! on_host /opt/gpustrap-agent run /opt/recipe.json
    expect_exit 2
    expect_output "no user with a uid of 1000 or more exists"
    on_host mv /etc/passwd.kept /etc/passwd

    case_ "a recipe that is not there, and one that is not JSON"
    ! on_host /opt/gpustrap-agent run /opt/nothing.json --login-user ubuntu
    expect_different "$status" 0
    expect_output /opt/nothing.json
    echo '{"name": ' >broken.json
    put broken.json /opt/broken.json 0644
    ! on_host /opt/gpustrap-agent run /opt/broken.json --login-user ubuntu
    expect_exit 2
    expect_output /opt/broken.json
}

# Whether it succeeds is for `expect_exit` to say.
agent_run() { run_recorded testbed exec "$host_name" /opt/gpustrap-agent run /opt/recipe.json --login-user ubuntu; }

recipe() {
    cat >recipe.json <<'JSON'
{"name": "alone", "steps": [
  {"id": "motd", "file": {"path": "/etc/gpustrap-test", "content": "by hand\n", "mode": "0644"}},
  {"id": "data", "directory": {"path": "~/data", "mode": "0700"}},
  {"id": "made", "command": {"run": "echo from $(id -un) >~/made", "creates": ["~/made"]}}
]}
JSON
    put recipe.json /opt/recipe.json 0644
}

# Copies a file onto the host.
put() { testbed exec "$host_name" sh -c "cat >$2 && chmod $3 $2" <"$1"; }
