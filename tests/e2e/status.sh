# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # host, address and key are the frame's
# Day by day: status, attach, logs, cancel and remove, of one host and of many.

status_needs() { needs_gpustrap; }

status_cases() {
    cat >"$suite_dir/gated.yaml" <<'RECIPE'
name: gated
steps:
  - id: first
    as: root
    command: { run: "seq -f 'first %g' 50; touch /run/first-done", creates: /run/first-done }
  - id: gate
    as: root
    command: { run: "echo at the gate; until test -e /run/gate; do sleep 0.1; done; echo behind the gate; touch /run/passed", creates: /run/passed }
RECIPE
    printf 'name: broken\nsteps:\n  - id: fails\n    command: { run: "echo no such thing >&2; false", creates: /nowhere }\n' >"$suite_dir/broken.yaml"
    boot_host one
    one=$address
    nobody=${address%.*}.250

    case_ "a host that gpustrap has never been on: what it is, and nothing is left there"
    take_listing --except root/.bash_history
    gpustrap status "$host" -i "$key" --accept-new-host-key
    expect_exit 0
    expect_output "gpustrap has never been on this host"
    expect_output "Debian"
    expect_output "CPUs"
    expect_output "GiB free"
    gpustrap status "$host" -i "$key" --json
    expect_exit 0
    expect_output '"agent":false'
    expect_output '"answers":true'
    expect_same_listing --except root/.bash_history

    case_ "a host that does not answer is told at once, with why"
    local began=$SECONDS
    gpustrap status "$user@$nobody" -i "$key"
    expect_exit 4
    expect_output "gpustrap: "
    [ $((SECONDS - began)) -lt 30 ] || fail_case "it was waited for"

    case_ "a failed step with its reason"
    up "$suite_dir/broken.yaml"
    expect_exit 1
    gpustrap status "$host"
    expect_exit 0
    expect_output "broken failed"
    expect_output "failed    fails: "

    case_ "hosts of a file: a line each, what is wrong first, and what does not answer by name"
    boot_host two
    two=$address
    cat >"$suite_dir/hosts.yaml" <<HOSTS
user: $user
key: $key
hosts:
  two: $two
  one: $one
  nobody: $nobody
groups:
  there: [two, one]
HOSTS
    gpustrap up "$suite_dir/gated.yaml" "$user@$two" -i "$key" --accept-new-host-key -y --detach
    expect_exit 9
    await_that testbed exec two test -e /run/first-done
    gpustrap status -f "$suite_dir/hosts.yaml"
    expect_exit 4
    expect_equal "$(cut -d ' ' -f 1 stdout | tr '\n' ' ')" "host nobody one two "
    expect_output "unreachable: "
    expect_output "broken failed: fails"
    expect_output "gated: gate"
    gpustrap status -f "$suite_dir/hosts.yaml" --limit there --json
    expect_exit 0
    expect_equal "$(grep -c '^{"status":1,' stdout)" 2

    case_ "on a terminal of 80 columns no line is wider"
    script -q -e -c "stty cols 80; $(printf '%q ' "$bin/gpustrap" status -f "$suite_dir/hosts.yaml" --no-color)" table >/dev/null </dev/null || true
    tr -d '\r' <table >output
    expect_output "gated: gate"
    expect_equal "$(grep -v '^Script' output | awk 'length > 80' | wc -l)" 0

    case_ "logs of a run in progress say what there is, and end; --tail has the last lines"
    use_host two
    gpustrap logs "$host" -i "$key"
    expect_exit 0
    expect_output "[first] first 1"
    expect_output "[gate] at the gate"
    expect_no_output "[gate] behind the gate"
    gpustrap logs "$host" first --tail 3
    expect_exit 0
    expect_equal "$(wc -l <stdout)" 3
    expect_output "first 50"
    expect_no_output "first 48"
    gpustrap logs "$host" frist
    expect_exit 2
    expect_output "that run has no step"
    expect_output "did you mean \`first\`?"

    case_ "logs -f goes on until the run ends"
    follow logs "$host" gate --follow --tail 1
    await_that shown "at the gate"
    testbed exec two touch /run/gate
    end_of_run
    expect_exit 0
    expect_output "behind the gate"
    expect_output "-- changed: "

    case_ "logs of an earlier run, by its id"
    local earlier
    earlier=$(gpustrap_history_id)
    up "$suite_dir/broken.yaml"
    expect_exit 1
    gpustrap logs "$host" gate --run "$earlier"
    expect_exit 0
    expect_output "behind the gate"
    gpustrap logs "$host" --run ../../x
    expect_exit 2
    expect_output "this is no run's id"

    case_ "the services of recipes, with what became of them"
    cat >"$suite_dir/services.yaml" <<'RECIPE'
name: services
steps:
  - id: web
    service:
      name: lab-web
      unit: |
        [Service]
        ExecStart=/usr/bin/perl -MIO::Socket -e "my $$s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8123, Listen => 5, ReuseAddr => 1) or die; while (my $$c = $$s->accept) { close $$c }"
        Restart=always
        RestartSec=50ms
        [Install]
        WantedBy=multi-user.target
      port: 8123
  - id: idle
    needs: []
    service: { name: lab-idle, unit: "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n", running: false }
RECIPE
    boot_host three
    use_host three
    up "$suite_dir/services.yaml"
    expect_exit 0
    gpustrap status "$host"
    expect_exit 0
    expect_output "service   lab-web active for"
    expect_output "port 8123 open"
    expect_output "service   lab-idle inactive"
    expect_output "as wanted"
    on_host systemctl kill --signal KILL lab-web
    await_that restarted_once
    gpustrap status "$host" --json
    expect_exit 0
    expect_output '{"service":"lab-web","kind":"service","wanted":"running","state":"active","sub":"running","result":"success","since_ms":'
    expect_output '"restarts":1,"port":8123,"listening":true}'
    on_host sh -c 'systemctl stop lab-web && sed -i s,/usr/bin/perl,/bin/false, /etc/systemd/system/lab-web.service && sed -i s/Restart=always// /etc/systemd/system/lab-web.service && systemctl daemon-reload && systemctl start lab-web'
    await_that is_failed
    gpustrap status "$host"
    expect_output "service   lab-web failed for"
    expect_output "(exit-code)"
    expect_output "gpustrap ssh $user@$address sudo journalctl -u lab-web"
    gpustrap status "$host" "$user@$one" -i "$key"
    expect_output "lab-web failed"
    on_host sh -c 'systemctl disable --now lab-web; rm /etc/systemd/system/lab-web.service; systemctl daemon-reload; systemctl reset-failed'
    gpustrap status "$host"
    expect_output "service   lab-web is gone"
    use_host two

    case_ "attach follows the runs of several hosts, each to its own end"
    testbed exec one rm -f /run/gate /run/passed
    testbed exec two rm -f /run/gate /run/passed
    gpustrap up "$suite_dir/gated.yaml" -f "$suite_dir/hosts.yaml" --limit there --accept-new-host-key -y --detach
    expect_exit 9
    follow attach -f "$suite_dir/hosts.yaml" --limit there --json
    await_that both_said "at the gate"
    testbed exec one touch /run/gate
    await_that shown '{"host":"one","event":"run_finished"'
    testbed exec two touch /run/gate
    end_of_run
    expect_exit 0
    expect_equal "$(grep -c '"event":"run_finished"' output)" 2
    expect_equal "$(grep -c '"ended":{"exit":0' output)" 2

    case_ "attach to hosts whose runs are over shows how they ended, in a table"
    gpustrap attach "$user@$one" "$user@$two" -i "$key"
    expect_exit 0
    expect_output "All 2 hosts done"

    case_ "cancel stops what runs, and a host where nothing runs is no failure"
    testbed exec two rm -f /run/gate /run/passed
    gpustrap up "$suite_dir/gated.yaml" "$user@$two" -i "$key" -y --detach
    expect_exit 9
    gpustrap cancel "$user@$one" "$user@$two" -i "$key"
    expect_exit 0
    expect_output "nothing was running"
    expect_output "stops after its current step"
    testbed exec two touch /run/gate
    await_that is_cancelled

    case_ "cancel --now stops a step that would never end"
    testbed exec two rm -f /run/gate /run/passed
    gpustrap up "$suite_dir/gated.yaml" "$user@$two" -i "$key" -y --detach
    expect_exit 9
    gpustrap cancel "$user@$one" "$user@$two" -i "$key" --now
    expect_exit 0
    expect_output "stops now"
    await_that is_cancelled
    gpustrap attach "$user@$two" -i "$key"
    expect_exit 130
    expect_output "it was stopped: the run was cancelled by gpustrap cancel"

    case_ "remove takes gpustrap off several hosts, after one question, and status says so"
    gpustrap remove "$user@$one" "$user@$two" -i "$key"
    expect_exit 2
    expect_output "add -y"
    gpustrap remove "$user@$one" "$user@$two" -i "$key" -y
    expect_exit 0
    expect_equal "$(grep -c ' removed$' stdout)" 2
    gpustrap status "$user@$one" "$user@$two" -i "$key"
    expect_equal "$(grep -c 'never set up' stdout)" 2
}

gpustrap_history_id() { "$bin/gpustrap" history "$host" | grep -o '[0-9]\{8\}-[0-9]\{6\}-[0-9a-z-]*' | head -n 1; }
restarted_once() { "$bin/gpustrap" status "$host" | grep -q 'lab-web active for .*, restarted 1 time, port 8123 open'; }
is_failed() { testbed exec three systemctl is-failed lab-web; }
is_cancelled() { "$bin/gpustrap" status "$user@$two" -i "$key" | grep -q "gated cancelled"; }
both_said() {
    grep -q "^{\"host\":\"one\",.*$1" "$following/shown" && grep -q "^{\"host\":\"two\",.*$1" "$following/shown"
}
