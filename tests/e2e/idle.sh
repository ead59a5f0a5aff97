# shellcheck shell=bash disable=SC2016,SC2154 # host, user, key and the like come from the frame; some words are for the host's shell
# idle_stop and keep: a host that nobody uses really powers off, and one that is used does not. Times are short; Jupyter, systemd and the
# power-off are real, EC2's metadata are a stand-in's.

idle_needs() { needs_gpustrap; }

idle_cases() {
    case_ "a container that cannot switch its machine off is told so before anything is changed"
    boot_host bare --no-systemd
    recipe_with 'after: 30m' >"$suite_dir/usual.yaml"
    gpustrap up "$suite_dir/usual.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --only idle_stop
    expect_exit 1
    expect_output "cannot switch off the machine that is paid for"
    expect_output "stop it where it is rented"
    ! on_host test -e /etc/systemd/system/gpustrap-idle.timer

    case_ "the recipe sets a timer of this very agent, and the next run finds it as it is"
    boot_host box
    recipe_with 'after: 30m' >"$suite_dir/usual.yaml"
    up "$suite_dir/usual.yaml"
    expect_exit 0
    expect_output "stops after 30m"
    on_host systemctl is-active gpustrap-idle.timer
    expect_output active
    on_host sh -c 'grep -o "ExecStart=/usr/local/lib/gpustrap/agent-[0-9a-f]* idle" /etc/systemd/system/gpustrap-idle.service'
    up "$suite_dir/usual.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "what everybody may know needs no root, and status shows it"
    await_idle busy quiet
    as_login cat /run/gpustrap/idle.json
    expect_output '"after_s":1800'
    gpustrap status "$host"
    expect_exit 0
    expect_output "  idle      "
    gpustrap status "$host" --json
    expect_output '"after_s":1800'
    gpustrap keep "$host" --json
    expect_exit 0
    expect_output '"keep":1'
    expect_output '"kept_for_s":0'

    case_ "a kernel that computes keeps the host on, without a GPU and without CPU"
    recipe_with "$short" >"$suite_dir/short.yaml"
    start_kernel
    kernel_runs 'import time; time.sleep(3000)'
    await_use "lab.ipynb computes"
    up "$suite_dir/short.yaml"
    expect_exit 0
    await_use "lab.ipynb computes"

    case_ "so does a kernel of a Jupyter that its user started himself, by hand and on a path of its own"
    interrupt_kernel
    start_own_jupyter
    kernel_runs 'import time; time.sleep(3000)'
    await_use "own.ipynb (port 8890) computes"
    on_host runuser --user nobody -- cat /run/gpustrap/idle.json
    expect_no_output own-token
    own_rest POST "/api/kernels/$kernel/interrupt" >/dev/null

    case_ "an idle kernel with an open tab does not: a terminal that does nothing is warned, and the notebook folder says so"
    open_terminal
    open_tab
    await_idle warned
    await_that grep -q "stops at ..:.. UTC, because nothing was done" "$suite_dir/terminal"
    await_that note_is_there
    on_host sh -c 'cat /home/ubuntu/notebooks/GPUSTRAP-STOPS-AT-*-UTC.txt; stat -c %U /home/ubuntu/notebooks/GPUSTRAP-STOPS-AT-*-UTC.txt'
    expect_output "gpustrap keep box 2h"
    expect_output "ubuntu"
    gpustrap status "$host"
    expect_output "stops in"

    case_ "typing there takes the warning back"
    echo "echo here" >&6
    await_idle busy
    await_that grep -q "this host stays on" "$suite_dir/terminal"
    await_that note_is_gone

    case_ "keep puts the stop off, and says until when; --off ends it"
    gpustrap keep "$host" 2h
    expect_exit 0
    expect_output "stays on for"
    await_idle kept
    gpustrap keep "$host" --json
    expect_output '"until_ms":1'
    gpustrap status "$host"
    expect_output "kept on for"
    gpustrap keep "$host" --off
    expect_exit 0
    expect_output "is not put off"

    case_ "then the host powers off, and after its next start tells why"
    await_idle warned
    await_power_off
    close_terminal
    testbed start box
    await_idle quiet busy
    await_that note_is_gone
    gpustrap status "$host"
    expect_output "last time because nothing was done for"

    case_ "a budget stops a host at work, after a warning"
    recipe_with "budget: 60 USD, price: 3600 USD/h, warn: 10s" >"$suite_dir/spent.yaml"
    on_host systemd-run --collect --quiet --unit=training sh -c 'while :; do :; done'
    up "$suite_dir/spent.yaml"
    expect_exit 0
    expect_output "60 USD of 3600 USD/h (the recipe)"
    gpustrap keep "$host" 2h
    expect_output "still stops it"
    await_idle warned
    gpustrap status "$host"
    expect_output "at work or not"
    await_power_off

    case_ "and the next start is warned, too; a larger budget is a total that lets it go on"
    testbed start box
    recipe_with "budget: 90000 USD, price: 3600 USD/h, warn: 10s" >"$suite_dir/more.yaml"
    up "$suite_dir/more.yaml"
    expect_exit 0
    await_idle kept off
    gpustrap status "$host"
    expect_output "of 90000.00 USD spent"

    case_ "a spot instance's notice is seen within seconds, recorded and told"
    metadata_stand_in
    up "$suite_dir/usual.yaml"
    await_that asked_metadata
    echo '{"action":"terminate","time":"2099-01-01T12:05:00Z"}' >"$suite_dir/metadata/instance-action"
    await_that spot_is_known
    await_that on_host test -e /home/ubuntu/notebooks/GPUSTRAP-SPOT-ENDS-AT-1205-UTC.txt
    gpustrap status "$host"
    expect_output "AWS takes it back at 2099-01-01T12:05:00Z (terminate)"

    case_ "a timer that its user does not let be stopped stays, and is named"
    local stays=/etc/systemd/system/gpustrap-idle.timer.d
    on_host mkdir "$stays"
    on_host sh -c "printf '[Unit]\\nRefuseManualStop=yes\\n' >$stays/stays.conf && systemctl daemon-reload"
    gpustrap remove "$host" -y
    expect_exit 1
    expect_output 'systemd refuses `systemctl stop gpustrap-idle.timer`: '
    expect_output "systemctl status gpustrap-idle.timer"
    on_host sh -c "rm -r $stays && systemctl daemon-reload"

    case_ "remove takes timer, service and warnings away"
    on_host rm -r /etc/systemd/system/gpustrap-idle.service.d
    gpustrap remove "$host" -y
    expect_exit 0
    on_host sh -c 'systemctl list-units --all --no-legend "gpustrap-idle*"; systemctl list-unit-files --no-legend "gpustrap-idle*"
        ls /etc/systemd/system /etc/systemd/system/timers.target.wants | grep -x "gpustrap-idle.timer\|gpustrap-idle.service"
        ls /home/ubuntu/notebooks | grep GPUSTRAP; test ! -e /run/gpustrap/idle.json; true'
    expect_equal "$(cat stdout)" ''
    gpustrap keep "$host" 2h
    expect_exit 1
    expect_output "nothing stops this host when it is idle"
    expect_output "docs/idle.md"
}

short='after: 40s, warn: 20s'

recipe_with() {
    cat <<RECIPE
name: lab
steps:
  - apt: { packages: [python3-venv] }
    when: { systemd: true }
  - venv: ~/env
    when: { systemd: true }
  - pip: { venv: ~/env, packages: [jupyter_server, ipykernel] }
    when: { systemd: true }
  - directory: ~/notebooks
    when: { systemd: true }
  - jupyter: { venv: ~/env, dir: ~/notebooks, port: 8888 }
    when: { systemd: true }
  - idle_stop: { $1 }
RECIPE
}

idle_says() { testbed exec "$host_name" cat /run/gpustrap/idle.json 2>/dev/null | grep -q -F -- "$1"; }

# Looks seldom, and for long: each look is a little work on the host.
await_longer() {
    local deadline=$((SECONDS + 150))
    until "$@"; do
        [ $SECONDS -lt $deadline ] || {
            fail_case "'$*' did not succeed within 150 s: $(testbed exec "$host_name" cat /run/gpustrap/idle.json 2>&1)"
            return 0
        }
        sleep 1
    done
}
is_idle() {
    local state
    for state in "$@"; do ! idle_says "\"state\":\"$state\"" || return 0; done
    return 1
}
await_idle() { await_longer is_idle "$@"; }
await_use() { await_longer idle_says "$1"; }
is_off() { ! testbed exec "$host_name" true >/dev/null 2>&1; }
await_power_off() { await_longer is_off; }

note_is_there() { testbed exec "$host_name" sh -c 'ls /home/ubuntu/notebooks/GPUSTRAP-STOPS-AT-*-UTC.txt' >/dev/null 2>&1; }
note_is_gone() { ! note_is_there; }

# The notebook's own REST API, as its front end uses it.
rest() { rest_of http://127.0.0.1:8888 "" "$@"; }
rest_of() {
    testbed exec "$host_name" /home/ubuntu/env/bin/python - "$@" <<'PYTHON'
import json, sys, urllib.request
url, token, method, path, *body = sys.argv[1:]
token = token or open("/home/ubuntu/.local/state/gpustrap/jupyter-gpustrap-jupyter.token").read().strip()
request = urllib.request.Request(url + path, method=method, data=body[0].encode() if body else None,
                                 headers={"Authorization": "token " + token, "Content-Type": "application/json"})
print(urllib.request.urlopen(request).read().decode())
PYTHON
}
start_kernel() {
    kernel=$(rest POST /api/sessions '{"path":"lab.ipynb","type":"notebook","name":"lab","kernel":{"name":"python3"}}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["kernel"]["id"])')
}
kernel_runs() {
    on_host runuser --user ubuntu -- /home/ubuntu/env/bin/python -c '
import sys
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient(connection_file=f"/home/ubuntu/.local/share/jupyter/runtime/kernel-{sys.argv[1]}.json")
client.load_connection_file()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute(sys.argv[2])
' "$kernel" "$1"
}
interrupt_kernel() { rest POST "/api/kernels/$kernel/interrupt" >/dev/null; }

# As a student does it in a terminal; the server stays, with a kernel.
start_own_jupyter() {
    on_host systemd-run --collect --quiet --unit=own --uid=ubuntu --setenv=HOME=/home/ubuntu --working-directory=/home/ubuntu \
        /home/ubuntu/env/bin/jupyter server --no-browser --port 8890 --ServerApp.base_url=/mine --IdentityProvider.token=own-token
    await_that own_rest GET /api
    kernel=$(own_rest POST /api/sessions '{"path":"own.ipynb","type":"notebook","name":"own","kernel":{"name":"python3"}}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["kernel"]["id"])')
}
own_rest() { rest_of http://127.0.0.1:8890/mine own-token "$@"; }

# What the tab of an open notebook does: it asks for kernels, sessions and terminals every ten seconds.
open_tab() {
    on_host systemd-run --collect --quiet --unit=tab /home/ubuntu/env/bin/python -c '
import time, urllib.request
token = open("/home/ubuntu/.local/state/gpustrap/jupyter-gpustrap-jupyter.token").read().strip()
while True:
    for what in ("kernels", "sessions", "terminals"):
        try:
            urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8888/api/" + what, headers={"Authorization": "token " + token})).read()
        except OSError:
            pass
    time.sleep(10)'
}

open_terminal() {
    rm -f "$suite_dir/keyboard"
    mkfifo "$suite_dir/keyboard"
    ssh -tt -i "$key" -o BatchMode=yes "$host" <"$suite_dir/keyboard" >"$suite_dir/terminal" 2>&1 &
    background+=($!)
    exec 6>"$suite_dir/keyboard"
    await_that grep -q -F '$' "$suite_dir/terminal"
}
close_terminal() { exec 6>&-; }

metadata_stand_in() {
    mkdir -p "$suite_dir/metadata"
    printf 'spot' >"$suite_dir/metadata/life-cycle"
    "$e2e_dir/stand_in_metadata.py" "$suite_dir/metadata" "${address%.*}.1" >/dev/null 2>&1 </dev/null &
    background+=($!)
    await "$suite_dir/metadata/url"
    on_host sh -c 'mkdir -p /etc/systemd/system/gpustrap-idle.service.d
        sed -n "s|^ExecStart=\(.*\)|[Service]\nExecStart=\nExecStart=\1 --metadata=$1|p" /etc/systemd/system/gpustrap-idle.service \
            >/etc/systemd/system/gpustrap-idle.service.d/stand-in.conf
        systemctl daemon-reload; systemctl restart gpustrap-idle.timer' sh "$(<"$suite_dir/metadata/url")"
}
asked_metadata() { grep -q "GET /latest/meta-data/spot/instance-action 404" "$suite_dir/metadata/requests"; }
spot_is_known() { idle_says '"action":"terminate"'; }
