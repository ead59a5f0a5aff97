# shellcheck shell=bash disable=SC2154 # host, address and the like come from the frame
# Containers rented as machines: root logs in, nothing but sshd runs, and driver and restarts are somebody else's.

containers_needs() { needs_gpustrap; }

containers_cases() {
    case_ "one command leads from a container without systemd to a notebook that answers"
    boot_host box --no-systemd --root-login --gpu t4
    on_host test ! -e /run/systemd/system
    expect_exit 0
    up jupyter --json
    expect_exit 0
    expect_output "not restarted after a reboot, as there is no systemd"
    on_host ss -ltnH 'sport = :8888'
    expect_output 127.0.0.1:8888

    case_ "the same command again changes nothing"
    up jupyter --json
    expect_exit 0
    expect_unchanged

    case_ "a server that is killed is started again by itself"
    local before
    before=$(notebook_process)
    on_host kill -KILL "$before"
    expect_exit 0
    await_notebook "$before"
    on_host cat "$services/gpustrap-jupyter.log"
    expect_output "gpustrap-jupyter.service: ended by signal 9, starts again in 5.0s"
    up jupyter --json
    expect_exit 0
    expect_unchanged

    case_ "a supervisor that is killed takes the server along, and a rerun starts both"
    # shellcheck disable=SC2016 # expanded on the host
    on_host sh -c 'read -r pid _ <"$1" && kill -KILL "$pid"' - "$services/gpustrap-jupyter.status"
    expect_exit 0
    await_that nobody_listens
    heals

    case_ "after a restart of the container the notebook is down, and a rerun starts it"
    testbed reboot box
    nobody_listens || fail_case "something listens on the port"
    heals

    case_ "a service of a recipe runs as its user, with a folder and variables, and ends with all it started"
    service_recipe true >"$suite_dir/service.yaml"
    up "$suite_dir/service.yaml" --json
    expect_exit 0
    on_host cat /tmp/told
    expect_output "ubuntu /home/ubuntu hello you"
    up "$suite_dir/service.yaml" --json
    expect_exit 0
    expect_unchanged
    service_recipe false >"$suite_dir/stopped.yaml"
    up "$suite_dir/stopped.yaml" --json
    expect_exit 0
    ! on_host pgrep -u ubuntu -x sleep
    expect_exit 1

    case_ "a unit that asks for more is refused by name, before anything is changed"
    sed 's/Restart=always/KillMode=process/' "$suite_dir/service.yaml" >"$suite_dir/more.yaml"
    take_listing "${busy[@]}"
    up "$suite_dir/more.yaml"
    expect_exit 1
    expect_output "[Service] KillMode=process"
    expect_output "use a host with systemd"
    expect_same_listing "${busy[@]}"

    case_ "a restart is refused, with the reason"
    printf 'name: restart\nsteps:\n  - reboot: always\n' >"$suite_dir/restart.yaml"
    up "$suite_dir/restart.yaml"
    expect_exit 1
    expect_output "this host is a container, which a restart would only end"

    case_ "a driver comes from outside, and that is said"
    printf 'name: driver\nsteps:\n  - nvidia_driver: {}\n' >"$suite_dir/driver.yaml"
    up "$suite_dir/driver.yaml"
    expect_exit 1
    expect_output "a container has its driver from outside, and none is loaded"

    case_ "remove leaves what recipes installed: the notebook runs on, and a later run finds it"
    before=$(notebook_process)
    gpustrap remove "$host" -y
    expect_exit 0
    expect_equal "$(notebook_process)" "$before"
    on_host ss -ltnH 'sport = :8888'
    expect_output 127.0.0.1:8888
    on_host ls /var/lib/gpustrap
    expect_equal "$(cat stdout)" services
    up jupyter --json
    expect_exit 0
    expect_unchanged
    expect_equal "$(notebook_process)" "$before"
}

# What a running notebook server writes for itself.
busy=(--except root/.local --except root/.ipython --except root/.jupyter)
services=/var/lib/gpustrap/services

notebook_process() { testbed exec box sed -n 's/^MainPID=//p' "$services/gpustrap-jupyter.status"; }

nobody_listens() { [ -z "$(testbed exec box ss -ltnH 'sport = :8888')" ]; }

# The server takes a while to load; 120 s at most.
await_notebook() {
    local deadline=$((SECONDS + 120))
    until [ "$(notebook_process)" != "$1" ] && ! nobody_listens; do
        [ $SECONDS -lt $deadline ] || {
            fail_case "no other server than process $1 listens after 120 s"
            return
        }
        sleep 0.2
    done
}

# A rerun changes one thing, the notebook, and the next one nothing.
heals() {
    up jupyter --json
    expect_exit 0
    expect_equal "$(json_events step_finished | grep -c '"outcome": *"changed"')" 1
    expect_output "the service does not run"
    up jupyter --json
    expect_exit 0
    expect_unchanged
}

service_recipe() {
    cat <<RECIPE
name: service
steps:
  - service:
      name: greeter
      running: $1
      unit: |
        [Service]
        User=ubuntu
        WorkingDirectory=~
        Environment="GREETING=hello you"
        ExecStart=/bin/sh -c 'echo "\$\$(id -un) \$\$(pwd) \$\$GREETING" >/tmp/told; setsid sleep 1000 & exec sleep 1000'
        Restart=always
RECIPE
}
