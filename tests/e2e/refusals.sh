# shellcheck shell=bash disable=SC2034,SC2154 # host, key and the like come from the frame
# What can be wrong before the first step: each has its sentence, its exit code and its way out.

refusals_needs() { needs_gpustrap; }

refusals_cases() {
    printf 'name: one\nsteps:\n  - command: { run: "true", unless: "true" }\n' >"$suite_dir/one.yaml"

    case_ "an unknown host key is shown and refused where nobody can be asked"
    boot_host one
    gpustrap up "$suite_dir/one.yaml" "$host" -i "$key" -y --no-tunnel
    expect_exit 5
    expect_output "$(ssh-keygen -l -f <(testbed exec one cat /etc/ssh/ssh_host_ed25519_key.pub) | cut -d' ' -f2)"
    expect_output --accept-new-host-key

    case_ "an accepted key is remembered"
    up "$suite_dir/one.yaml"
    expect_exit 0
    gpustrap up "$suite_dir/one.yaml" "$host" -i "$key" -y --no-tunnel
    expect_exit 0

    case_ "a changed host key stops everything, also with --accept-new-host-key"
    on_host sh -c 'rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh'
    up "$suite_dir/one.yaml"
    expect_exit 5
    expect_output changed
    rm -f "$known_hosts"

    case_ "a key file that others can read comes with the chmod to run"
    cp "$key" open.pem
    chmod 0644 open.pem
    gpustrap up "$suite_dir/one.yaml" "$host" -i open.pem --accept-new-host-key -y --no-tunnel
    expect_exit 6
    expect_output "run: chmod 400 open.pem"

    case_ "a key file that is not there"
    gpustrap up "$suite_dir/one.yaml" "$host" -i missing.pem --accept-new-host-key -y --no-tunnel
    expect_exit 2
    expect_output missing.pem

    case_ "a key that the host does not know names the user and the usual ones"
    ssh-keygen -q -t ed25519 -N '' -f stranger
    gpustrap up "$suite_dir/one.yaml" "$host" -i stranger --accept-new-host-key -y --no-tunnel
    expect_exit 6
    expect_output ubuntu
    expect_output ec2-user

    case_ "a name that does not resolve is not waited for"
    local began=$SECONDS
    gpustrap up "$suite_dir/one.yaml" ubuntu@no-such-host.invalid -i "$key" -y --no-tunnel
    expect_exit 4
    expect_output no-such-host.invalid
    [ $((SECONDS - began)) -lt 15 ] || fail_case "it took $((SECONDS - began)) s"

    case_ "a host where nothing listens is waited for as long as asked"
    testbed kill one
    gpustrap up "$suite_dir/one.yaml" "$host" -i "$key" -y --no-tunnel --wait 2s
    expect_exit 4
    expect_output "$address"

    case_ "a host that comes up meanwhile is waited for"
    "$bin/gpustrap" up "$suite_dir/one.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel \
        >stdout 2>stderr </dev/null &
    local waiting=$!
    testbed start one
    status=0
    wait $waiting || status=$?
    cat stdout stderr >output
    expect_exit 0
}
