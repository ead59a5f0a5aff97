# shellcheck shell=bash disable=SC2154 # host, address and the like come from the frame
# Taking gpustrap off a host: what it brought for itself goes, what recipes made and what people wrote stays.

remove_needs() { needs_gpustrap; }

remove_cases() {
    case_ "remove lists what it would take, and asks"
    boot_host box
    internet
    serve "$suite_dir/www"
    trust_origin
    homework >"$suite_dir/homework.yaml"
    up "$suite_dir/homework.yaml"
    expect_exit 0
    on_host sh -c 'echo mine >/home/ubuntu/notebooks/notes/intro.txt
        rm /home/ubuntu/notebooks/notes/exercise.txt
        echo own >/home/ubuntu/notebooks/own.txt
        echo "my answers" >/home/ubuntu/worksheet'
    gpustrap remove "$host"
    expect_exit 2
    expect_output /usr/local/lib/gpustrap
    expect_output /var/lib/gpustrap
    expect_output /run/gpustrap
    expect_output "What recipes installed stays"
    expect_output "nobody can be asked whether to remove this"
    expect_output "add -y"
    testbed exec box test -e /var/lib/gpustrap/runs

    case_ "whoever answers no keeps everything"
    at_terminal "Remove it?" n gpustrap remove "$host"
    expect_exit 0
    expect_no_output Removed
    testbed exec box test -e /var/lib/gpustrap/runs

    case_ "remove is refused while a run is in progress"
    gpustrap up "$suite_dir/long.yaml" "$host" -y --no-tunnel --detach
    expect_exit 9
    gpustrap remove "$host" -y
    expect_exit 10
    expect_output "gpustrap cancel"
    testbed exec box test -e /var/lib/gpustrap/runs
    on_host touch /run/end
    await_that run_is_over

    case_ "then it goes without a trace: agent, cache, journals, sockets, units"
    take_listing "${traces[@]}"
    gpustrap remove "$host" -y
    expect_exit 0
    expect_output Removed
    on_host sh -c 'find / -xdev \( -path /proc -o -path /sys -o -path /tmp \) -prune -o -name "*gpustrap*" ! -path /etc/gpustrap-test -print
        ls /run | grep gpustrap; systemctl list-units --all --no-legend "gpustrap*"; systemctl list-unit-files --no-legend "gpustrap*"; true'
    expect_equal "$(cat stdout)" ''

    case_ "and nothing else has changed"
    gpustrap logs "$host" # so that there is something to remove again
    take_listing "${traces[@]}"
    gpustrap remove "$host" -y
    expect_exit 0
    expect_same_listing "${traces[@]}"

    case_ "what recipes made and what people wrote is there"
    on_host cat /etc/gpustrap-test /home/ubuntu/notebooks/notes/intro.txt /home/ubuntu/notebooks/own.txt /home/ubuntu/worksheet
    expect_output "written by a recipe"
    expect_output "my answers"
    expect_output mine
    expect_output own
    on_host grep -c 192.0.2.1 /etc/hosts
    expect_output 1
    on_host test -d /home/ubuntu/data
    expect_exit 0

    case_ "a run after it keeps them too, and brings back what is missing"
    up "$suite_dir/homework.yaml"
    expect_exit 0
    on_host cat /home/ubuntu/notebooks/notes/intro.txt /home/ubuntu/notebooks/own.txt /home/ubuntu/notebooks/notes/exercise.txt /home/ubuntu/worksheet
    expect_output "my answers"
    expect_output mine
    expect_output own
    expect_output "an exercise"
    up "$suite_dir/homework.yaml" --json
    expect_unchanged

    case_ "a host that never saw gpustrap is left as it is"
    boot_host fresh
    # The agent is sent to look, and takes itself away again; only the folder that it was in shows a new time.
    take_listing --except usr/local/lib
    gpustrap remove "$host" -i "$key" --accept-new-host-key -y
    expect_exit 0
    expect_same_listing --except usr/local/lib
    on_host ls -A /usr/local/lib
    expect_no_output gpustrap

    case_ "a user without sudo removes what is theirs, and only that"
    boot_host nosudo --sudo none
    on_host runuser --user ubuntu -- sh -c 'mkdir -p ~/.local/state/other ~/.local/lib ~/.cache && echo own >~/.local/state/other/file'
    printf 'name: mine\nsteps:\n  - command: { run: "echo x >~/made", creates: ~/made }\n' >"$suite_dir/mine.yaml"
    up "$suite_dir/mine.yaml"
    expect_exit 0
    gpustrap remove "$host" -y
    expect_exit 0
    expect_output /home/ubuntu/.local/state/gpustrap
    on_host sh -c 'find /home -name "*gpustrap*"'
    expect_equal "$(cat stdout)" ''
    on_host cat /home/ubuntu/made /home/ubuntu/.local/state/other/file
    expect_output x
    expect_output own

    case_ "where sudo wants a password, remove takes it too"
    boot_host asks --sudo password
    at_terminal "Password of sudo" "$password" up "$suite_dir/mine.yaml" --ask-sudo-password
    expect_exit 0
    for verb in remove doctor; do
        off_a_terminal gpustrap "$verb" "$host" --ask-sudo-password
        expect_exit 6
        expect_output "no sudo password was given"
        expect_output "--ask-sudo-password needs a terminal to ask at"
    done
    at_terminal "Password of sudo" "$password" gpustrap remove "$host" --ask-sudo-password -y
    expect_exit 0
    expect_output /var/lib/gpustrap
    ! on_host test -e /var/lib/gpustrap
    expect_exit 1
}

# Where gpustrap keeps what is its own.
traces=(--except usr/local/lib)

run_is_over() { "$bin/gpustrap" status "$host" | grep -q "long done"; }

internet() {
    mkdir -p "$suite_dir/www" "$suite_dir/pack/notes"
    echo "an introduction" >"$suite_dir/pack/notes/intro.txt"
    echo "an exercise" >"$suite_dir/pack/notes/exercise.txt"
    echo "a worksheet" >"$suite_dir/www/worksheet"
    tar -C "$suite_dir/pack" -czf "$suite_dir/www/notebooks.tar.gz" notes
    cat >"$suite_dir/long.yaml" <<'RECIPE'
name: long
steps:
  - command: { run: "until test -e /run/end; do sleep 0.05; done", unless: test -e /run/end }
    as: root
RECIPE
}

homework() {
    cat <<RECIPE
name: homework
steps:
  - file: { path: /etc/gpustrap-test, content: "written by a recipe\n" }
  - block: { path: /etc/hosts, marker: test, content: "192.0.2.1 example" }
  - directory: ~/data
  - download: { url: $origin/worksheet, to: ~/worksheet }
  - archive: { url: $origin/notebooks.tar.gz, to: ~/notebooks }
  - command: { run: "date >~/made", creates: ~/made }
RECIPE
}
