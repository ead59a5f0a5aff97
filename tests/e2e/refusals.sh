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

    case_ "a PuTTY key comes with the command that converts it"
    printf 'PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n' >key.ppk
    chmod 0600 key.ppk
    gpustrap up "$suite_dir/one.yaml" "$host" -i key.ppk --accept-new-host-key -y --no-tunnel
    expect_exit 6
    expect_output "it is a PuTTY key"
    expect_output "puttygen key.ppk -O private-openssh"

    case_ "a locked key with nobody to ask, and a file that is no key"
    ssh-keygen -q -t ed25519 -N 'open sesame' -f locked
    testbed exec one sh -c 'cat >>/home/ubuntu/.ssh/authorized_keys' <locked.pub
    gpustrap up "$suite_dir/one.yaml" "$host" -i locked --accept-new-host-key -y --no-tunnel
    expect_exit 6
    expect_output "nobody can be asked for its passphrase"
    expect_output "ssh-add locked"
    echo nonsense >nonsense.pem
    chmod 0600 nonsense.pem
    gpustrap up "$suite_dir/one.yaml" "$host" -i nonsense.pem --accept-new-host-key -y --no-tunnel
    expect_exit 6
    expect_output "it is not a private key"

    case_ "an image that wants another user says which"
    testbed exec one sh -c 'cat >/usr/local/bin/please; chmod 0755 /usr/local/bin/please' <<'PLEASE'
#!/bin/sh
echo 'Please login as the user "admin" rather than the user "root".'
exit 142
PLEASE
    on_host sh -c 'install -d -m 0700 /root/.ssh
        sed "s,^,command=\"/usr/local/bin/please\" ," /home/ubuntu/.ssh/authorized_keys >/root/.ssh/authorized_keys'
    gpustrap up "$suite_dir/one.yaml" "root@$address" -i "$key" --accept-new-host-key -y --no-tunnel
    expect_exit 6
    expect_output "write that user before the host: admin@"
    gpustrap hosts
    expect_no_output "root@$address"
    gpustrap doctor "root@$address" -i "$key"
    expect_exit 6
    expect_output "the host wants another user"

    case_ "a key that is not there is said before anything is asked of the host"
    gpustrap up "$suite_dir/one.yaml" "$host" -i no-such.pem -y --no-tunnel
    expect_exit 2
    expect_output "reading the key no-such.pem: there is no such file"

    case_ "a port that nobody listens on is named"
    gpustrap up "$suite_dir/one.yaml" "$host" -p 9 -i "$key" -y --no-tunnel --wait 1s
    expect_exit 4
    expect_output "Connection refused"
    expect_output "is this its SSH port?"

    case_ "what is not remembered cannot be forgotten, and a run that never was has no report"
    gpustrap hosts --forget no-such-host
    expect_exit 1
    expect_output "no-such-host is not remembered"
    gpustrap report no-such-host
    expect_exit 1
    expect_output "is logged on this machine"

    case_ "a memory that is no memory is named, and stays as it is"
    mkdir -p state/gpustrap
    echo 'not JSON' >state/gpustrap/hosts.json
    XDG_STATE_HOME=$PWD/state gpustrap attach "$host" -i "$key"
    expect_exit 1
    expect_output "hosts.json is not a list of hosts"
    expect_equal "$(cat state/gpustrap/hosts.json)" "not JSON"

    case_ "a setting that cannot be is told with its place, before anybody is reached"
    mkdir -p config/gpustrap
    printf 'wait: 5m\nparalel: 3\n' >config/gpustrap/config.yaml
    XDG_CONFIG_HOME=$PWD/config gpustrap attach "$host"
    expect_exit 2
    expect_output "config.yaml:2:1: "
    expect_output "did you mean \`parallel\`?"
    GPUSTRAP_WAIT=soon gpustrap attach "$host"
    expect_exit 2
    expect_output "GPUSTRAP_WAIT is \`soon\`: expected a time"

    case_ "a variable stands for an option, and gpustrap says that it did"
    GPUSTRAP_PORT=9 GPUSTRAP_WAIT=1s gpustrap attach "$host" -i "$key"
    expect_exit 4
    expect_output "Connection refused"
    GPUSTRAP_PORT=9 gpustrap config --origin
    expect_exit 0
    expect_output "# GPUSTRAP_PORT"

    case_ "a host that still boots is waited for, and is not accused of the key"
    on_host sh -c 'echo "System is booting up. Unprivileged users are not permitted to log in yet. Please come back later." >/run/nologin'
    gpustrap up "$suite_dir/one.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --wait 2s
    expect_exit 4
    expect_output "lets nobody in yet: \"System is booting up."
    "$bin/gpustrap" up "$suite_dir/one.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel >stdout 2>stderr </dev/null &
    local patient=$!
    on_host rm /run/nologin
    status=0
    wait $patient || status=$?
    cat stdout stderr >output
    expect_exit 0

    case_ "a host that is closed for maintenance says so itself"
    on_host sh -c 'echo "closed until nine, says Ann" >/etc/nologin'
    gpustrap up "$suite_dir/one.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel
    expect_exit 6
    expect_output "closed until nine, says Ann"
    on_host rm /etc/nologin

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
