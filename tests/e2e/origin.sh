# shellcheck shell=bash disable=SC2034,SC2154 # origin and the like come from the frame
# The origin and the relay: that a fault which a product's suite asks for is the fault it gets.

origin_cases() {
    local bytes=200000

    case_ "a file is served whole, over TLS, to whoever trusts the throw-away CA"
    address=127.0.0.2 # the origin then binds to 127.0.0.1
    mkdir -p "$suite_dir/www"
    head -c $bytes /dev/urandom >"$suite_dir/www/file"
    serve "$suite_dir/www"
    fetch "$origin/file"
    expect_exit 0
    expect_equal "$(digest got)" "$(digest "$suite_dir/www/file")"
    run_recorded curl -fsS "$origin/file"
    expect_exit 60

    case_ "a download that was cut can be taken up again"
    fetch "$origin/~cut=70000/file"
    expect_exit 18
    expect_equal "$(stat -c %s got)" 70000
    fetch -C - "$origin/file"
    expect_exit 0
    expect_equal "$(digest got)" "$(digest "$suite_dir/www/file")"
    expect_equal "$(origin_requests | tail -n 1)" "https GET /file bytes=70000- 206 130000"

    case_ "a stalled download neither goes on nor ends"
    fetch --max-time 1 "$origin/~stall=5000/file"
    expect_exit 28
    expect_equal "$(stat -c %s got)" 5000

    case_ "an error that goes away, a wrong digest, a way to plain http"
    fetch "$origin/~status=500;times=1/file"
    expect_exit 22
    fetch "$origin/~status=500;times=1/file"
    expect_exit 0
    fetch "$origin/~wrong/file"
    expect_exit 0
    expect_different "$(digest got)" "$(digest "$suite_dir/www/file")"
    fetch -L "$origin/~redirect=http/file"
    expect_exit 0
    expect_equal "$(origin_requests | tail -n 1)" "http GET /file - 200 $bytes"

    case_ "nothing outside the directory is served"
    fetch --path-as-is "$origin/../results"
    expect_exit 22

    case_ "a relay passes bytes on, late, and counts turns"
    "$repository/tests/testbed/relay.py" --to "${origin_http#http://}" --state "$suite_dir/relay" &
    background+=($!)
    await "$suite_dir/relay/address"
    local through
    through=http://$(<"$suite_dir/relay/address")
    relay latency 150
    fetch -w '%{time_total}' "$through/file"
    expect_exit 0
    # There and back: a connection is made by the relay at once, so one round trip is the least.
    awk '$1 >= 0.3 { late = 1 } END { exit !late }' stdout || fail_case "$(<stdout) s is less than a round trip"
    run_recorded relay stats
    expect_output '"turns": 1'

    case_ "a relay passes no more on than its bandwidth allows"
    relay latency 0
    relay bandwidth 2
    fetch -w '%{time_total}' "$through/file"
    expect_exit 0
    expect_equal "$(digest got)" "$(digest "$suite_dir/www/file")"
    awk -v bytes=$bytes '$1 >= bytes * 8 / 2e6 { slow = 1 } END { exit !slow }' stdout || fail_case "$(<stdout) s are too few for $bytes bytes"
    relay bandwidth 0

    case_ "a relay stalls, goes on and cuts on command"
    relay stall
    fetch --max-time 1 "$through/file"
    expect_exit 28
    relay go
    fetch "$through/file"
    expect_exit 0
    relay refuse
    fetch "$through/file"
    expect_different "$status" 0
    relay go
    fetch "$through/file"
    expect_exit 0
}

fetch() { run_recorded curl -fsS --cacert "$suite_dir/origin/ca.pem" -o got "$@"; }

digest() { sha256sum <"$1"; }
