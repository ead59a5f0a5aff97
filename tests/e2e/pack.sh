# shellcheck shell=bash disable=SC2154 # host_name, origin and the like come from the frame
# A packed recipe on a host that nobody is connected to: what user data, an image build or a stick brings there.

pack_needs() { needs_gpustrap; }

pack_cases() {
    boot_host box
    cat >"$suite_dir/lab.yaml" <<'YAML'
name: lab
secrets:
  token: { env: LAB_TOKEN }
steps:
  - file: { path: /etc/gpustrap-test, content: "packed\n" }
  - directory: ~/data
  - id: made
    command: { run: 'echo "$TOKEN from $(id -un)" >~/made', creates: ~/made }
    env: { TOKEN: "${{ secrets.token }}" }
YAML

    case_ "what is packed is one file, and the same each time"
    gpustrap pack "$suite_dir/lab.yaml" -o "$suite_dir/lab.sh"
    expect_exit 0
    expect_output "lab.sh: "
    expect_output "3 steps, for Linux on x86_64"
    expect_output "it comes from the variable LAB_TOKEN there"
    cp "$suite_dir/lab.sh" first
    gpustrap pack "$suite_dir/lab.yaml" -o "$suite_dir/lab.sh"
    expect_exit 0
    cmp first "$suite_dir/lab.sh"

    case_ "a file that was not packed is not overwritten"
    echo mine >mine.sh
    gpustrap pack "$suite_dir/lab.yaml" -o mine.sh
    expect_exit 2
    expect_output "mine.sh is there already"
    [ "$(<mine.sh)" = mine ] || fail_case "it was overwritten"

    case_ "a secret that somebody would be asked for is refused before anything is written"
    sed 's/{ env: LAB_TOKEN }/{ prompt: "Token?" }/' "$suite_dir/lab.yaml" >asks.yaml
    gpustrap pack ./asks.yaml -o asks.sh
    expect_exit 2
    expect_output "a packed recipe runs where nobody is"
    [ ! -e asks.sh ] || fail_case "it was written"

    case_ "the host does what the recipe says, without a connection"
    put "$suite_dir/lab.sh" /root/lab.sh
    run_recorded testbed exec box env LAB_TOKEN=abc123 sh /root/lab.sh
    expect_exit 0
    on_host cat /etc/gpustrap-test
    expect_output packed
    on_host cat /home/ubuntu/made
    expect_output "abc123 from ubuntu"

    case_ "a second run finds nothing to do and touches nothing"
    take_listing
    run_recorded testbed exec box env LAB_TOKEN=abc123 sh /root/lab.sh
    expect_exit 0
    expect_unchanged
    expect_same_listing

    case_ "over a connection it is the same run: attach shows it, and up changes nothing"
    gpustrap attach "$host" -i "$key" --accept-new-host-key
    expect_exit 0
    expect_output "lab"
    LAB_TOKEN=abc123 gpustrap up "$suite_dir/lab.yaml" "$host" -y
    expect_exit 0
    expect_output "Unchanged"

    case_ "a file that was cut, and one in which a bit is wrong, are refused and leave nothing"
    testbed exec box rm -rf /usr/local/lib/gpustrap /var/lib/gpustrap /etc/gpustrap-test
    head -c 100000 "$suite_dir/lab.sh" >cut.sh
    put cut.sh /root/cut.sh
    run_recorded testbed exec box sh /root/cut.sh
    expect_exit 1
    expect_output "was cut or changed"
    cp "$suite_dir/lab.sh" wrong.sh
    printf '\125\252' | dd of=wrong.sh bs=1 seek=1000000 conv=notrunc status=none
    put wrong.sh /root/wrong.sh
    run_recorded testbed exec box sh /root/wrong.sh
    expect_exit 1
    expect_output "is damaged"
    testbed exec box sh -c 'ls -A /usr/local/lib/gpustrap; test ! -e /etc/gpustrap-test' >left
    [ ! -s left ] || fail_case "there is $(<left)"

    case_ "without root, from a pipe and on another machine it says what to do"
    put "$suite_dir/lab.sh" /tmp/lab.sh
    run_recorded testbed exec box su ubuntu -c 'sh /tmp/lab.sh'
    expect_exit 1
    expect_output "sudo sh /tmp/lab.sh"
    run_recorded testbed exec box sh -c 'head -c 3000 /root/lab.sh | sh'
    expect_exit 1
    expect_output "sh FILE"
    gpustrap pack "$suite_dir/lab.yaml" -o arm.sh --arch aarch64
    put arm.sh /root/arm.sh
    run_recorded testbed exec box sh /root/arm.sh
    expect_exit 1
    expect_output "gpustrap pack RECIPE --arch x86_64"

    case_ "user data fetches the packed file, and only that one"
    mkdir -p "$suite_dir/www"
    cp "$suite_dir/lab.sh" "$suite_dir/www/lab.sh"
    serve "$suite_dir/www"
    trust_origin
    testbed exec box sh -c 'command -v curl wget python3 || { apt-get -qq update && apt-get -qq install -y --no-install-recommends wget; }' >/dev/null
    "$bin/gpustrap" pack "$suite_dir/lab.yaml" -o "$suite_dir/lab.sh" --user-data "$origin/lab.sh" >data 2>said
    put data /root/data
    run_recorded testbed exec box env LAB_TOKEN=abc123 sh /root/data
    expect_exit 0
    on_host cat /etc/gpustrap-test
    expect_output packed

    case_ "another file at that address is refused"
    testbed exec box sh -c 'rm -rf /var/lib/gpustrap/packed-*'
    echo 'echo something else' >"$suite_dir/www/lab.sh"
    run_recorded testbed exec box env LAB_TOKEN=abc123 sh /root/data
    expect_exit 1
    expect_output "Upload the packed file again"

    case_ "an address that nothing answers at is said, after some tries"
    run_recorded testbed exec box sh -c "sed 's,/lab.sh,/nothing.sh,' /root/data | GPUSTRAP_TRIES=1 sh"
    expect_exit 1
    expect_output "could not be fetched"

    case_ "remove takes away what was packed, too"
    gpustrap remove "$host" -y
    expect_exit 0
    testbed exec box sh -c 'ls -d /var/lib/gpustrap /usr/local/lib/gpustrap 2>/dev/null || true' >left
    [ ! -s left ] || fail_case "there is $(<left)"
}

# put FILE PATH: copies a file onto the host.
put() { testbed exec "$host_name" sh -c "cat >$2" <"$1"; }
