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
