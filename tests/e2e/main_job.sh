# shellcheck shell=bash disable=SC2154 # host, key and the like come from the frame
# The main job: one command from a bare host to an open notebook, and what its user does next.

main_job_needs() { needs_gpustrap; }

main_job_cases() {
    case_ "one command leads from a bare host to a notebook that answers"
    boot_host bare
    ! on_host sh -c 'command -v python3 || command -v pip || command -v curl'
    expect_different "$status" 0
    up jupyter --json
    expect_exit 0
    expect_equal "$(json_events step_finished | wc -l)" 7
    on_host systemctl is-enabled gpustrap-jupyter.service
    expect_output enabled
    expect_exit 0

    case_ "the notebook listens on the host's loopback and nowhere else"
    on_host ss -ltnH 'sport = :8888'
    expect_output 127.0.0.1:8888
    expect_equal "$(wc -l <"$case_dir/stdout")" 1

    case_ "a report of that run tells where its time went"
    gpustrap report "$address" --json
    expect_exit 0
    python3 - "$case_dir/stdout" <<'PYTHON' || fail_case "the numbers do not fit together"
import json, sys
report = json.load(open(sys.argv[1]))
run, = report["runs"]
assert report["report"] == 1 and run["end"] == "ok" and len(run["steps"]) == 7, run
assert 0 < run["critical_path_ms"] + run["idle_ms"] <= run["wall_ms"], run
assert [step["id"] for step in run["steps"] if step["outcome"] == "changed"] == ["apt", "venv", "pip", "notebooks", "jupyter"], run
assert "pip" in [part.get("step") for part in run["critical_path"]], run["critical_path"]
PYTHON
    gpustrap report
    expect_exit 0
    expect_output "ubuntu@$address"
    expect_output "critical path"
    gpustrap report "$address" --html "$case_dir/report.html"
    expect_exit 0
    grep -q -F "default-src 'none'" "$case_dir/report.html" || fail_case "the page has no policy"
    gpustrap report "$address" --html "$case_dir/report.html"
    expect_exit 0
    echo "name: mine" >"$case_dir/mine.yaml"
    gpustrap report "$address" --html "$case_dir/mine.yaml"
    expect_exit 2
    expect_output "is there already, and is no report of gpustrap"
    expect_equal "$(cat "$case_dir/mine.yaml")" "name: mine"
    gpustrap report 203.0.113.99
    expect_exit 1
    expect_output "no run of"

    case_ "the same command again changes nothing; user and key are remembered"
    take_listing "${busy[@]}"
    gpustrap up jupyter "$address" --json --no-tunnel
    expect_exit 0
    expect_unchanged
    expect_equal "$(json_events step_finished | wc -l)" 7
    expect_same_listing "${busy[@]}"

    case_ "the token is in no run's output, no journal, no log and on no command line"
    gpustrap url "$address"
    expect_exit 0
    local token
    token=$(sed -n 's/.*token=//p' "$case_dir/stdout")
    [ ${#token} -ge 32 ] || fail_case "'$token' is not a token of 32 characters or more"
    up jupyter
    expect_exit 0
    expect_no_output "$token"
    ! on_host grep -rlF "$token" /var/lib/gpustrap /var/log /run/gpustrap /etc /usr/local
    expect_equal "$(cat "$case_dir/stdout")" ""
    on_host sh -c 'cat /proc/[0-9]*/cmdline | tr "\0" " "; journalctl --no-pager'
    expect_no_output "$token"
    ! grep -rqF "$token" "$HOME/.local/state" || fail_case "the token is kept on this machine"

    case_ "the page answers 200 with its token through the tunnel, and only with it"
    hold_notebook
    expect_equal "$(http_code "$notebook")" 200
    expect_equal "$(http_code "${notebook%%/lab*}/api/contents")" 403
    expect_equal "$(http_code "${notebook%%/lab*}/api/contents?token=wrong")" 403

    case_ "a cell runs in a real kernel through the tunnel"
    run_recorded "$e2e_dir/run_cell.py" "$notebook" 'import sys; print(6 * 7, sys.prefix)'
    expect_exit 0
    expect_output "42 /home/ubuntu/jupyter-env"

    case_ "Ctrl-C closes the tunnel, and the notebook keeps running"
    let_go
    expect_exit 0
    expect_equal "$(http_code "$notebook")" 000
    on_host systemctl is-active gpustrap-jupyter.service
    expect_exit 0

    case_ "a local port that is taken is passed over; one that was asked for is an error"
    occupy 8889
    next=$(free_port_from 8889)
    gpustrap hosts --forget "$address"
    expect_exit 0
    up jupyter
    expect_exit 0
    expect_output "http://localhost:$next/lab"
    gpustrap tunnel "$host" -i "$key" -L 8889:8888
    expect_exit 2
    expect_output "8889"
    vacate

    case_ "the port of the last time is taken again, so that a bookmark stays true"
    gpustrap url "$address"
    expect_output "http://localhost:$next/lab"
    up jupyter
    expect_output "http://localhost:$next/lab"

    case_ "a notebook that was stopped is started again"
    on_host systemctl stop gpustrap-jupyter.service
    up jupyter --json
    expect_exit 0
    expect_equal "$(json_events step_finished | grep -c '"outcome": *"changed"')" 1

    case_ "a notebook that is gone again before it has answered is not called ready"
    printf 'name: undone\nsteps:\n  - include: jupyter\n  - { command: { run: systemctl stop gpustrap-jupyter.service }, as: root }\n' >undone.yaml
    up ./undone.yaml
    expect_exit 8
    expect_output "the notebook did not answer"
    up jupyter
    expect_exit 0

    case_ "the notebook is there again after a reboot, without gpustrap's help"
    testbed reboot bare
    await_that testbed exec bare sh -c "ss -ltnH 'sport = :8888' | grep -q 8888"
    gpustrap up jupyter "$address" --json --no-tunnel
    expect_exit 0
    expect_unchanged

    case_ "a tunnel outlives its host's loss of power, on the same port"
    hold_notebook
    expect_equal "$(http_code "$notebook")" 200
    testbed kill bare
    testbed start bare
    await_that page_answers
    let_go
    expect_exit 0

    case_ "a port that another program holds on the host is named with its owner"
    on_host systemd-run --unit=squatter --uid=ubuntu /usr/bin/python3 -m http.server 9999 --bind 127.0.0.1
    expect_exit 0
    await_that testbed exec bare sh -c "ss -ltnH 'sport = :9999' | grep -q 9999"
    up jupyter --var port=9999
    expect_exit 1
    expect_output 9999
    expect_output python3

    case_ "a notebook that is open to the network needs a password of some length, and without one nothing is opened"
    public_recipe >"$suite_dir/public.yaml"
    export NOTEBOOK_PASSWORD=horse
    up "$suite_dir/public.yaml"
    expect_exit 1
    expect_output "a password of 12 characters or more"
    on_host ss -ltnH
    expect_no_output '0.0.0.0:8888'
    expect_no_output '*:8888'

    case_ "on request it listens on every interface, with TLS and that password"
    export NOTEBOOK_PASSWORD='orange llama, three hats'
    up "$suite_dir/public.yaml" --json
    expect_exit 0
    expect_output "open to the network"
    local fingerprint
    fingerprint=$(openssl s_client -connect "$address:8888" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 | cut -d= -f2)
    expect_output "SHA-256 $fingerprint"
    expect_equal "$(curl -sk -o /dev/null -w '%{http_code}' "https://$address:8888/api/contents")" 403
    expect_different "$(http_code "http://$address:8888/api/contents")" 200
    expect_equal "$(password_login 'orange llama, three hats')" 200
    expect_equal "$(password_login 'orange llama, three cats')" 403

    case_ "the rerun is unchanged, and the password is nowhere"
    up "$suite_dir/public.yaml" --json
    expect_exit 0
    expect_unchanged
    expect_output "SHA-256 $fingerprint"
    expect_no_output "$NOTEBOOK_PASSWORD"
    ! on_host grep -rlF "$NOTEBOOK_PASSWORD" /var/lib/gpustrap /var/log /run/gpustrap /etc /usr/local /home
    expect_equal "$(cat "$case_dir/stdout")" ""
    on_host sh -c 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr "\0" " "; journalctl --no-pager'
    expect_no_output "$NOTEBOOK_PASSWORD"
    on_host sh -c 'stat -c "%a %n" /home/ubuntu/.local/state/gpustrap/jupyter-gpustrap-jupyter.public/*'
    expect_no_output 644

    case_ "a person is told where the network finds it, and the tunnel still leads there"
    up "$suite_dir/public.yaml"
    expect_exit 0
    expect_output "This recipe opens its notebook to the network"
    expect_output "https://$address:8888/lab"
    expect_output "https://localhost:"

    case_ "another password replaces it; the certificate stays"
    export NOTEBOOK_PASSWORD='another horse, another battery'
    up "$suite_dir/public.yaml" --json
    expect_exit 0
    expect_output "SHA-256 $fingerprint"
    expect_equal "$(password_login 'orange llama, three hats')" 403
    expect_equal "$(password_login "$NOTEBOOK_PASSWORD")" 200

    case_ "without the request it is closed again"
    up jupyter --json
    expect_exit 0
    on_host ss -ltnH 'sport = :8888'
    expect_output 127.0.0.1:8888
}

public_recipe() {
    cat <<'RECIPE'
name: public
secrets:
  notebook: { env: NOTEBOOK_PASSWORD }
steps:
  - apt: [openssl]
  - jupyter: { venv: ~/jupyter-env, dir: ~/notebooks, public: true }
    env: { JUPYTER_PASSWORD: "${{ secrets.notebook }}" }
RECIPE
}

# What the notebook's contents answer to whoever has logged in with this password.
password_login() {
    local jar=$case_dir/cookies
    rm -f "$jar"
    curl -sk -o /dev/null -c "$jar" "https://$address:8888/login"
    curl -sk -o /dev/null -b "$jar" -c "$jar" --data-urlencode "password=$1" \
        --data-urlencode "_xsrf=$(awk '$6 == "_xsrf" { print $7 }' "$jar")" "https://$address:8888/login"
    curl -sk -o /dev/null -b "$jar" -w '%{http_code}' "https://$address:8888/api/contents"
}

# What a running notebook server and its kernels write for themselves.
busy=(--except home/ubuntu/.local --except home/ubuntu/.ipython --except home/ubuntu/.jupyter --except var/log)

http_code() { curl -s -o /dev/null --max-time 20 -w '%{http_code}' "$1" || true; }

page_answers() { [ "$(http_code "$notebook")" = 200 ]; }

# `up` at a terminal holds the tunnel: $notebook is the address it prints.
hold_notebook() {
    rm -f "$suite_dir/keyboard" "$suite_dir/held"
    mkfifo "$suite_dir/keyboard"
    script -q -e -f -c "$(printf '%q ' "$bin/gpustrap" up jupyter "$host" -i "$key" --accept-new-host-key -y)" "$suite_dir/held" \
        >/dev/null 2>&1 <"$suite_dir/keyboard" &
    held=$!
    background+=("$held")
    exec 8>"$suite_dir/keyboard"
    await_that grep -q -E 'Ctrl-C closes' "$suite_dir/held"
    notebook=$(grep -o -E 'http://localhost:[0-9]+/lab\?token=[A-Za-z0-9._-]+' "$suite_dir/held" | tail -n 1)
}

# Ctrl-C on its keyboard.
let_go() {
    printf '\003' >&8
    status=0
    wait "$held" || status=$?
    exec 8>&-
    cp "$suite_dir/held" "$case_dir/output"
}

# Whoever runs the tests may have a notebook open on that very port: then it is taken already.
occupy() {
    occupier=''
    ! is_listened_on "$1" || return 0
    /usr/bin/python3 -c 'import signal, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pause()' "$1" &
    occupier=$!
    background+=("$occupier")
    await_that is_listened_on "$1"
}

is_listened_on() { ss -ltnH "sport = :$1" | grep -q .; }

free_port_from() {
    local port=$1
    while is_listened_on "$port"; do port=$((port + 1)); done
    echo "$port"
}

vacate() {
    [ -n "$occupier" ] || return 0
    kill "$occupier"
    wait "$occupier" || true
}
