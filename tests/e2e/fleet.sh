# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # address, user and key are the frame's
# Many hosts at once: two that answer, and one address where nobody does; three where files are shared.

fleet_needs() { needs_gpustrap; }

fleet_cases() {
    cat >"$suite_dir/simple.yaml" <<'RECIPE'
name: simple
vars: { greeting: hello }
steps:
  - file: { path: /etc/fleet-greeting, content: "${{ vars.greeting }}\n" }
  - id: healthy
    as: root
    command: { run: "test ! -e /etc/fleet-broken && touch /etc/fleet-healthy", unless: test -e /etc/fleet-healthy }
RECIPE
    cat >"$suite_dir/gated.yaml" <<'RECIPE'
name: gated
steps:
  - as: root
    command: { run: "echo at the gate; until test -e /run/fleet-gate; do sleep 0.1; done; touch /run/fleet-passed", unless: test -e /run/fleet-passed }
  - id: after
    as: root
    command: { run: touch /run/fleet-after, creates: /run/fleet-after }
RECIPE
    printf 'name: restart\nsteps:\n  - reboot: always\n' >"$suite_dir/restart.yaml"
    boot_host one
    one=$address
    boot_host two
    two=$address
    nobody=${address%.*}.250
    cat >"$suite_dir/hosts.yaml" <<HOSTS
user: $user
key: $key
hosts:
  one: { address: $one, vars: { greeting: good morning, of_another_recipe: 1 } }
  two: $two
  nobody: $nobody
groups:
  there: [one, two]
HOSTS

    case_ "two hosts of the command line, at once; each keeps its log"
    fleet up "$suite_dir/simple.yaml" "$user@$one" "$user@$two" -i "$key"
    expect_exit 0
    expect_output "All 2 hosts done; 2 changed"
    expect_equal "$(find "$HOME/.local/state/gpustrap/runs" -name log.txt | wc -l)" 2

    case_ "again, nothing changes; user and key are remembered"
    gpustrap up "$suite_dir/simple.yaml" "$one" "$two"
    expect_exit 0
    expect_output "All 2 hosts done; nothing changed"

    case_ "hosts of a file: one has a var of its own, one cannot be reached, one fails, and none of them stops another"
    testbed exec two sh -c 'rm /etc/fleet-healthy; touch /etc/fleet-broken'
    fleet up "$suite_dir/simple.yaml" -f "$suite_dir/hosts.yaml" --wait 1s
    expect_exit 1
    expect_output "1 of 3 hosts done, 1 failed, 1 unreachable"
    expect_output "healthy: "
    expect_output "--limit failed"
    testbed exec one cat /etc/fleet-greeting >greeting
    expect_equal "$(<greeting)" "good morning"

    case_ "--limit failed runs those again, and what has become well is done with"
    testbed exec two rm /etc/fleet-broken
    fleet up "$suite_dir/simple.yaml" -f "$suite_dir/hosts.yaml" --limit failed --wait 1s
    expect_exit 4
    expect_output "1 of 2 hosts done, 1 unreachable"
    expect_no_output good
    fleet up "$suite_dir/simple.yaml" -f "$suite_dir/hosts.yaml" --limit failed --wait 1s
    expect_output "0 of 1 host done, 1 unreachable"

    case_ "--limit takes groups; --json says whose each line is"
    fleet up "$suite_dir/simple.yaml" -f "$suite_dir/hosts.yaml" --limit there --json
    expect_exit 0
    expect_equal "$(grep -c '"event":"run_finished"' stdout)" 2
    expect_equal "$(grep -v -c -E '^\{"host":"(one|two)",' stdout || true)" 0
    expect_equal "$(grep -c '"ended":{"exit":0' stdout)" 2

    case_ "an Ansible inventory does as well"
    cat >inventory.ini <<INVENTORY
[gpus]
first ansible_host=$one
second ansible_host=$two ansible_become=yes
[gpus:vars]
ansible_user=$user
ansible_ssh_private_key_file=$key
greeting=from Ansible
INVENTORY
    gpustrap plan "$suite_dir/simple.yaml" -f inventory.ini --exit-code --accept-new-host-key
    expect_exit 3
    expect_output "All 2 hosts looked at; 2 would change"
    fleet up "$suite_dir/simple.yaml" -f inventory.ini
    expect_exit 0
    testbed exec two cat /etc/fleet-greeting >greeting
    expect_equal "$(<greeting)" "from Ansible"

    case_ "a mistake in the file is told with its place before anybody is reached"
    printf 'hosts:\n  one: { adress: %s }\n' "$one" >bad.yaml
    fleet up "$suite_dir/simple.yaml" -f bad.yaml
    expect_exit 2
    expect_output "bad.yaml:2:10: \`adress\` is not a field of the host one; did you mean \`address\`?"

    case_ "a restart needs a yes for all of them, and off a terminal nobody can give it"
    gpustrap up "$suite_dir/restart.yaml" -f "$suite_dir/hosts.yaml" --limit there
    expect_exit 2
    expect_output "would restart the host on one, two"
    expect_output "and nobody can be asked whether it may"

    case_ "at a terminal one question is asked for all; no changes nothing"
    at_terminal "Go on? [y/N]" n gpustrap up "$suite_dir/restart.yaml" -f "$suite_dir/hosts.yaml" --limit there
    expect_exit 130
    expect_output "would restart the host on one, two"
    expect_equal "$(grep -c "Go on?" output)" 1

    case_ "unknown host keys are shown one after the other"
    rm -f "$known_hosts"
    at_terminal "Is that its key, and go on?" $'y\ny' gpustrap plan "$suite_dir/simple.yaml" -f "$suite_dir/hosts.yaml" --limit there
    expect_exit 0
    expect_equal "$(grep -c "Is that its key, and go on?" output)" 2

    case_ "Ctrl-C leaves all of them, and the same command follows them again"
    follow up "$suite_dir/gated.yaml" -f "$suite_dir/hosts.yaml" --limit there -y --json
    await_that both_say "at the gate"
    kill -INT "$follower"
    end_of_run
    expect_exit 9
    expect_output "goes on on its host"
    expect_output "Follow those that go on: "
    for name in one two; do testbed exec "$name" touch /run/fleet-gate; done
    gpustrap up "$suite_dir/gated.yaml" -f "$suite_dir/hosts.yaml" --limit there -y
    expect_exit 0
    testbed exec one test -e /run/fleet-after

    case_ "Ctrl-C twice cancels all of them"
    for name in one two; do testbed exec "$name" rm /run/fleet-gate /run/fleet-passed /run/fleet-after; done
    follow up "$suite_dir/gated.yaml" -f "$suite_dir/hosts.yaml" --limit there -y --json
    await_that both_say "at the gate"
    kill -INT "$follower"
    await_that told "Ctrl-C again within 3 s cancels"
    kill -INT "$follower"
    await_that told "Cancelling after the current steps"
    for name in one two; do testbed exec "$name" touch /run/fleet-gate; done
    end_of_run
    expect_exit 130
    for name in one two; do
        use_host "$name"
        ! on_host test -e /run/fleet-after
        expect_exit 1
    done

    case_ "fetch: shared: three hosts have a file each for root and for the login, and the origin was asked for each once"
    boot_host three
    three=$address
    share_something
    fleet up "$suite_dir/shared.yaml" -f "$suite_dir/sharing.yaml" --json
    expect_exit 0
    expect_equal "$(grep -c '"event":"file_wanted"' stdout)" 6
    expect_equal "$(grep -c 'came from another host' stdout)" 4
    expect_equal "$(grep -c GET "$suite_dir/origin/requests")" 2
    expect_shared

    case_ "again, nothing is wanted and nobody is asked"
    fleet up "$suite_dir/shared.yaml" -f "$suite_dir/sharing.yaml" --json
    expect_exit 0
    expect_equal "$(grep -c '"event":"file_wanted"' stdout || true)" 0
    expect_equal "$(grep -c GET "$suite_dir/origin/requests")" 2

    case_ "the host that has it is lost midway: another goes on where it was, and the third has the rest from there"
    for name in one two three; do testbed exec "$name" rm -rf /srv/weights /home/ubuntu/tools; done
    testbed exec one touch /run/fleet-share
    : >"$suite_dir/origin/requests"
    # The first to ask is served for twenty seconds, those who come behind it at once.
    follow up "$suite_dir/shared.yaml" -f "$suite_dir/sharing.yaml" -y --json --var gate=/run/fleet-share --var 'fault=slow=150000;times=1'
    await_that wanted one
    for name in two three; do testbed exec "$name" touch /run/fleet-share; done
    for name in two three; do await_that has_grown "$name"; done
    relay refuse
    for name in two three; do await_that shown_of "$name" "asking who else has it"; done
    relay go
    end_of_run
    expect_exit 0
    expect_shared
    expect_equal "$(grep -c "weights bytes=[1-9]" "$suite_dir/origin/requests")" 1

    case_ "without sha256 it is refused, with what to do"
    sed -i '/sha256/d' "$suite_dir/shared.yaml"
    fleet up "$suite_dir/shared.yaml" -f "$suite_dir/sharing.yaml"
    expect_exit 2
    expect_output "is shared, which needs \`sha256\`"
}

# Three hosts, the first behind a relay, and a recipe that fetches 3 MB at 0.5 MB/s and a small archive.
share_something() {
    mkdir -p "$suite_dir/www/tools"
    head -c 3000000 /dev/urandom >"$suite_dir/www/weights"
    echo "a tool" >"$suite_dir/www/tools/tool"
    tar -C "$suite_dir/www" -czf "$suite_dir/www/tools.tar.gz" tools
    serve "$suite_dir/www"
    for name in one two three; do testbed trust "$name" "$suite_dir/origin/ca.pem"; done
    use_host one
    start_relay
    cat >"$suite_dir/sharing.yaml" <<HOSTS
user: $user
key: $key
hosts:
  one: { address: $relay_address, port: $relay_port }
  two: $two
  three: $three
HOSTS
    cat >"$suite_dir/shared.yaml" <<RECIPE
name: shared
vars: { gate: /etc/hostname, fault: slow=500000 }
steps:
  - wait: { file: "\${{ vars.gate }}", limit: 60s }
  - id: weights
    as: root
    download:
      url: $origin/~\${{ vars.fault }}/weights
      to: /srv/weights
      fetch: shared
      sha256: $(sha256sum <"$suite_dir/www/weights" | cut -c 1-64)
  - id: tools
    archive:
      url: $origin/tools.tar.gz
      to: ~/tools
      fetch: shared
      sha256: $(sha256sum <"$suite_dir/www/tools.tar.gz" | cut -c 1-64)
RECIPE
}

expect_shared() {
    local name
    for name in one two three; do
        use_host "$name"
        on_host sha256sum /srv/weights
        expect_output "$(sha256sum <"$suite_dir/www/weights" | cut -c 1-64)"
        on_host cat /home/ubuntu/tools/tools/tool
        expect_output "a tool"
        ! on_host sh -c 'ls -A /var/lib/gpustrap/cache/ahead /home/ubuntu/.cache/gpustrap/ahead 2>/dev/null | grep .'
        expect_exit 1
    done
}

shown_of() { grep -s -F -- "{\"host\":\"$1\"" "$following/shown" | grep -q -F -- "$2"; }
wanted() { shown_of "$1" '"event":"file_wanted"'; }
# Some of what the host of that name fetches for itself has come.
has_grown() { testbed exec "$1" sh -c 'test -n "$(find /srv /var/lib/gpustrap/cache -name "*.gpustrap-part" -size +200k)"'; }

fleet() { gpustrap "$@" --accept-new-host-key -y; }

both_say() {
    grep -q -s -F "{\"host\":\"one\"" "$following/shown" && [ "$(grep -s -c -F -- "\"text\":\"$1" "$following/shown")" -ge 2 ]
}
