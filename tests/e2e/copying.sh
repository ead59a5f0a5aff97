# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # host, address and key are the frame's
# pull and push: all of it arrives, nothing newer is lost, and what was cut is gone on with.

copying_needs() { needs_gpustrap; }

copying_cases() {
    boot_host box
    start_relay
    local there=$user@$relay_address
    local shared=$suite_dir/shared
    mkdir -p "$shared"
    make_tree

    case_ "a folder comes with its files, times, modes, links and empty folders, whatever they are called"
    gpustrap pull "$there" lab got -p "$relay_port" -i "$key" --accept-new-host-key
    expect_exit 0
    expect_output "copied to"
    expect_same_tree lab got/lab
    expect_equal "$(readlink got/lab/out)" /etc
    expect_equal "$(find got -name '.gpustrap-*' | wc -l)" 0

    case_ "again, nothing travels"
    bring
    gpustrap pull "$there" lab got --json
    expect_exit 0
    expect_output '"copied":0'
    expect_output '"bytes":0'

    case_ "a thousand small files cost the round trips of a few commands"
    as_login sh -c 'mkdir -p /home/ubuntu/many && cd /home/ubuntu/many && for i in $(seq 1000); do echo "$i" >"file $i"; done'
    relay latency 50
    gpustrap pull "$there" many got
    expect_exit 0
    relay latency 0
    expect_output "1000 files copied"
    expect_equal "$(find got/many -type f | wc -l)" 1000
    # The login's, and three commands: what is there, the files, their digests.
    expect_few_turns 25

    case_ "a thousand small files go there in few, too"
    mkdir many
    for i in $(seq 1000); do echo "$i" >"many/file $i"; done
    relay latency 50
    gpustrap push "$there" many pushed
    relay latency 0
    expect_exit 0
    expect_output "1000 files copied"
    expect_few_turns 40
    on_host sh -c 'find /home/ubuntu/pushed/many -type f | wc -l; stat -c %U /home/ubuntu/pushed/many'
    expect_output 1000
    expect_output ubuntu

    case_ "what is newer here stays and is named; --overwrite takes the host's"
    bring
    echo "my own work" >got/lab/notes.txt
    gpustrap pull "$there" lab got
    expect_exit 0
    expect_output "Kept as they are at the target"
    expect_output "notes.txt: changed there"
    expect_equal "$(<got/lab/notes.txt)" "my own work"
    gpustrap pull "$there" lab got --overwrite
    expect_exit 0
    expect_equal "$(<got/lab/notes.txt)" notes

    case_ "what was changed on both sides stays, also where the host's is newer"
    bring
    echo "mine" >got/lab/notes.txt
    as_login sh -c 'sleep 1; echo "theirs, and later" >/home/ubuntu/lab/notes.txt; touch -d "+1 hour" /home/ubuntu/lab/notes.txt'
    gpustrap pull "$there" lab got --json
    expect_exit 0
    expect_output '{"path":"notes.txt","reason":"changed on both sides"}'
    expect_equal "$(<got/lab/notes.txt)" mine

    case_ "what was changed there alone comes, and what was changed here alone goes"
    bring
    as_login sh -c 'echo more >>/home/ubuntu/lab/notes.txt; touch -d "+2 hours" /home/ubuntu/lab/notes.txt'
    gpustrap pull "$there" lab got
    expect_exit 0
    expect_output "1 file copied"
    echo "written here" >"got/lab/with space.txt"
    touch -d "+3 hours" "got/lab/with space.txt"
    gpustrap push "$there" got/lab .
    expect_exit 0
    expect_output "1 file copied"
    on_host cat "/home/ubuntu/lab/with space.txt"
    expect_output "written here"

    case_ "files that are the same but for their times are told by their content"
    bring
    touch -d "+5 hours" got/lab/notes.txt
    gpustrap pull "$there" lab got --json
    expect_exit 0
    expect_output '"copied":0'
    expect_output '"kept":[]'

    case_ "--checksum finds what size and time hide; --dry-run lists it and copies nothing"
    bring
    touch -r got/lab/notes.txt stamp
    printf 'Xotes' | dd of=got/lab/notes.txt conv=notrunc status=none
    touch -r stamp got/lab/notes.txt
    gpustrap pull "$there" lab got --json
    expect_output '"copied":0'
    expect_output '"kept":[]'
    gpustrap pull "$there" lab got --checksum --overwrite --dry-run
    expect_exit 0
    expect_output "notes.txt"
    expect_output "1 file would be copied"
    gpustrap pull "$there" lab fresh --dry-run
    expect_output "  empty/"
    [ ! -e fresh ] || fail_case "a dry run made a folder"
    grep -q '^Xotes' got/lab/notes.txt || fail_case "a dry run copied"

    case_ "a file alone, from a path with spaces, and into a folder that is not there"
    gpustrap pull "$there" "lab/with space.txt" new/place
    expect_exit 0
    [ -f "new/place/with space.txt" ] || fail_case "it is not there"
    gpustrap push "$there" "new/place/with space.txt" "a folder/deep"
    expect_exit 0
    on_host test -f "/home/ubuntu/a folder/deep/with space.txt"
    expect_exit 0

    case_ "a large file whose link is cut goes on from there, by itself"
    as_login sh -c 'mkdir -p /home/ubuntu/large && head -c 300000000 /dev/urandom >/home/ubuntu/large/data.bin'
    relay bandwidth 400
    down_before=$(relay stats | grep -o '"down": *[0-9]*' | head -n 1 | grep -o '[0-9]*$')
    follow pull "$there" large "$shared"
    await_that has_part "$shared/large"
    relay cut
    end_of_run
    expect_exit 0
    expect_output "connection lost"
    expect_equal "$(sha256sum <"$shared/large/data.bin")" "$(testbed exec box sha256sum </dev/null /home/ubuntu/large/data.bin | sed 's# .*#  -#')"
    # Of 300 MB: the two connections together carried it once.
    expect_down_at_most 330000000

    case_ "killed in the middle, the same command goes on, too"
    rm "$shared/large/data.bin"
    follow pull "$there" large "$shared"
    await_that has_part "$shared/large"
    kill -KILL "$follower"
    end_of_run
    gpustrap pull "$there" large "$shared" --json
    expect_exit 0
    relay bandwidth 0
    [ "$(grep -o '"bytes":[0-9]*' stdout | cut -d: -f2)" -lt 300000000 ] || fail_case "it began anew"
    expect_equal "$(sha256sum <"$shared/large/data.bin")" "$(testbed exec box sha256sum </dev/null /home/ubuntu/large/data.bin | sed 's# .*#  -#')"
    expect_equal "$(find "$shared" -name '.gpustrap-*' | wc -l)" 0

    case_ "killed in the middle, it still knows what it had brought"
    as_login sh -c 'mkdir -p ~/both && cd ~/both && echo theirs >early.txt && touch -d 2020-02-02 early.txt && ln ~/large/data.bin .'
    relay bandwidth 400
    follow pull "$there" both "$shared"
    await_that grep -r -q early.txt "$HOME/.local/state/gpustrap/copies"
    kill -KILL "$follower"
    end_of_run
    relay bandwidth 0
    echo "mine" >"$shared/both/early.txt"
    as_login sh -c 'echo "theirs, and later" >~/both/early.txt; touch -d "+1 hour" ~/both/early.txt'
    gpustrap pull "$there" both "$shared" --json
    expect_exit 0
    expect_output '{"path":"early.txt","reason":"changed on both sides"}'
    expect_equal "$(<"$shared/both/early.txt")" mine
    rm -r "$shared/both"

    case_ "Ctrl-C ends a pull: what has come stays to be gone on with, what is done is remembered, and nothing else is left"
    as_login sh -c 'mkdir -p ~/stopped && cd ~/stopped && echo early >early.txt && ln ~/large/data.bin .'
    relay bandwidth 400
    follow pull "$there" stopped "$shared" --json
    await_that has_part "$shared/stopped"
    kill -INT "$follower"
    end_of_run
    expect_exit 130
    expect_output '"copied":1'
    expect_output '"code":"cancelled"'
    expect_output "the same command goes on from here"
    expect_equal "$(find "$shared/stopped" -name '.gpustrap-*' | wc -l)" 1
    grep -r -q early.txt "$HOME/.local/state/gpustrap/copies" || fail_case "it is not remembered"
    gpustrap pull "$there" stopped "$shared" --json
    expect_exit 0
    relay bandwidth 0
    [ "$(grep -o '"bytes":[0-9]*' stdout | cut -d: -f2)" -lt 300000000 ] || fail_case "it began anew"
    expect_equal "$(find "$shared/stopped" -name '.gpustrap-*' | wc -l)" 0

    case_ "Ctrl-C among small files leaves none of them half, on either side"
    as_login sh -c 'mkdir -p ~/crowd && cd ~/crowd && for i in $(seq 60); do head -c 1000000 /dev/urandom >"$i"; done'
    relay bandwidth 100
    follow pull "$there" crowd "$shared"
    await_that has_small_part "$shared/crowd"
    kill -INT "$follower"
    end_of_run
    expect_exit 130
    expect_equal "$(find "$shared/crowd" -name '.gpustrap-*' | wc -l)" 0
    relay bandwidth 0
    gpustrap pull "$there" crowd "$shared"
    expect_exit 0
    relay bandwidth 100
    follow push "$there" "$shared/crowd" back
    await_that has_stage_there /home/ubuntu/back/crowd
    kill -INT "$follower"
    end_of_run
    expect_exit 130
    relay bandwidth 0
    on_host sh -c 'find /home/ubuntu/back -name ".gpustrap-*"; find /home/ubuntu/back -type f | wc -l'
    expect_equal "$(<stdout)" 0
    gpustrap push "$there" "$shared/crowd" back
    expect_exit 0
    on_host sh -c 'for i in $(seq 60); do cmp /home/ubuntu/crowd/$i /home/ubuntu/back/crowd/$i || exit 1; done'
    expect_exit 0

    case_ "Ctrl-C ends a push: what has come there stays, and goes where the file is another by then"
    mkdir -p "$shared/versions"
    head -c 120000000 /dev/urandom >"$shared/versions/model.bin"
    relay bandwidth 400
    follow push "$there" "$shared/versions" back
    await_that has_part_there /home/ubuntu/back/versions
    kill -INT "$follower"
    end_of_run
    expect_exit 130
    relay bandwidth 0
    head -c 90000000 /dev/urandom >"$shared/versions/model.bin"
    gpustrap push "$there" "$shared/versions" back
    expect_exit 0
    on_host sh -c 'find /home/ubuntu/back/versions -name ".gpustrap-*"; sha256sum </home/ubuntu/back/versions/model.bin'
    expect_equal "$(<stdout)" "$(sha256sum <"$shared/versions/model.bin")"

    case_ "the same of a file that is pushed alone"
    relay bandwidth 400
    follow push "$there" "$shared/versions/model.bin" alone
    await_that has_part_there /home/ubuntu/alone
    kill -INT "$follower"
    end_of_run
    expect_exit 130
    relay bandwidth 0
    head -c 20000000 /dev/urandom >"$shared/versions/model.bin"
    gpustrap push "$there" "$shared/versions/model.bin" alone
    expect_exit 0
    on_host find /home/ubuntu/alone -type f
    expect_equal "$(<stdout)" /home/ubuntu/alone/model.bin

    case_ "a mode that alone is another is carried over, both ways, and once"
    mkdir -p "$shared/modes" && echo run >"$shared/modes/tool" && chmod 644 "$shared/modes/tool"
    gpustrap push "$there" "$shared/modes" back
    chmod 755 "$shared/modes/tool"
    gpustrap push "$there" "$shared/modes" back --json
    expect_exit 0
    expect_output '"copied":0'
    expect_output '"modes":1'
    on_host stat -c %a /home/ubuntu/back/modes/tool
    expect_output 755
    on_host chmod 700 /home/ubuntu/back/modes/tool
    gpustrap pull "$there" back/modes "$shared"
    expect_exit 0
    expect_output "1 got another mode"
    expect_equal "$(stat -c %a "$shared/modes/tool")" 700
    gpustrap pull "$there" back/modes "$shared" --json
    expect_output '"modes":0'

    case_ "a large file that goes there is gone on with after a cut"
    relay bandwidth 400
    follow push "$there" "$shared/large" sent
    await_that has_part_there /home/ubuntu/sent/large
    relay cut
    end_of_run
    relay bandwidth 0
    expect_exit 0
    expect_output "connection lost"
    on_host sh -c 'cmp /home/ubuntu/large/data.bin /home/ubuntu/sent/large/data.bin && find /home/ubuntu/sent -name ".gpustrap-*"'
    expect_exit 0
    expect_equal "$(wc -c <stdout)" 0

    case_ "a disk that is full here says so, and with room again the same command goes on"
    mkdir small
    mount -t tmpfs -o size=40m full small
    gpustrap pull "$there" large small
    expect_exit 1
    expect_output "No space left"
    expect_output "make room"
    umount small
    gpustrap pull "$there" large small
    expect_exit 0
    rm -rf small

    case_ "a disk that is full there says so, and nothing half is left under a name"
    full_disk /home/ubuntu/full 20m
    gpustrap push "$there" "$shared/large" full
    expect_exit 1
    expect_output "No space left"
    on_host sh -c 'test ! -e /home/ubuntu/full/large/data.bin'
    mkdir -p medium
    for i in 1 2 3 4 5; do head -c 7000000 /dev/zero >"medium/$i"; done
    on_host sh -c 'rm -rf /home/ubuntu/full/*'
    gpustrap push "$there" medium full
    expect_exit 1
    expect_output "No space left"
    on_host sh -c 'find /home/ubuntu/full -type f | wc -l'
    expect_output 0

    case_ "what the login may not read is named, and the rest comes"
    on_host sh -c 'mkdir -p /home/ubuntu/mixed && cd /home/ubuntu/mixed && echo a >open && echo b >closed && chmod 600 closed && mkdir shut && chmod 700 shut && chown ubuntu: . open'
    gpustrap pull "$there" mixed got
    expect_exit 1
    expect_output "closed: "
    expect_output "shut"
    [ -f got/mixed/open ] || fail_case "the other did not come"

    case_ "a folder that the login may not write to"
    mkdir few
    echo 1 >few/one
    gpustrap push "$there" few /etc/lab
    expect_exit 1
    expect_output "ermission denied"
    expect_output "without sudo"

    case_ "what stands there unseen is not written over"
    as_login sh -c 'mkdir -p ~/drop/few && echo theirs >~/drop/few/one && chmod 300 ~/drop/few'
    mkdir few
    echo mine >few/one
    echo mine >few/two
    head -c 9000000 /dev/zero >few/large
    as_login sh -c 'echo theirs >~/drop/few/large'
    gpustrap push "$there" few drop
    expect_exit 1
    expect_output "one: something has come to stand there meanwhile"
    expect_output "large: something has come to stand there meanwhile"
    on_host sh -c 'cd /home/ubuntu/drop/few && cat one two large; chmod 755 .; find . -name ".gpustrap-push-*"'
    expect_equal "$(tr '\n' ' ' <stdout)" "theirs mine theirs "

    case_ "what comes to stand there while it runs is not written over"
    mkdir slow
    head -c 60000000 /dev/urandom >slow/data.bin
    relay bandwidth 100
    follow push "$there" slow .
    await_that has_part_there /home/ubuntu/slow
    as_login sh -c 'echo theirs >~/slow/data.bin'
    relay bandwidth 0
    end_of_run
    expect_exit 1
    expect_output "data.bin: something has come to stand there meanwhile"
    on_host cat /home/ubuntu/slow/data.bin
    expect_equal "$(<stdout)" theirs

    case_ "nothing is written through a symlink out of the target, on either side"
    mkdir -p trap/lab outside
    ln -s "$PWD/outside" trap/lab/sub
    gpustrap pull "$there" lab trap
    expect_output "sub: a symlink is in its place"
    expect_equal "$(find outside -type f | wc -l)" 0
    on_host sh -c 'mkdir -p /home/ubuntu/pit/lab /home/ubuntu/aside; ln -sfn /home/ubuntu/aside /home/ubuntu/pit/lab/sub; chown -R ubuntu: /home/ubuntu/pit /home/ubuntu/aside'
    gpustrap push "$there" trap/lab pit --overwrite
    on_host sh -c 'find /home/ubuntu/aside -type f | wc -l'
    expect_output 0

    case_ "what is not there is told"
    gpustrap pull "$there" nowhere
    expect_exit 1
    expect_output "nowhere is not on the host"
    gpustrap push "$there" nowhere
    expect_exit 1
    expect_output "No such file"

    case_ "a host whose tools are not GNU's"
    on_host sh -c 'apt-get install -y busybox-static >/dev/null 2>&1 || apt-get update >/dev/null 2>&1 && apt-get install -y busybox-static >/dev/null 2>&1; test -x /bin/busybox'
    [ "$status" -eq 0 ] || skip_case "busybox cannot be had"
    on_host sh -c 'mkdir -p /opt/bb && for t in find tar tail sha256sum stat; do ln -sf /bin/busybox /opt/bb/$t; done; echo "export PATH=/opt/bb:\$PATH" >/home/ubuntu/.bashrc.new; cat /home/ubuntu/.bashrc >>/home/ubuntu/.bashrc.new 2>/dev/null; mv /home/ubuntu/.bashrc.new /home/ubuntu/.bashrc'
    gpustrap pull "$there" lab plain
    expect_output "copied to"
    expect_equal "$(cat "plain/lab/with space.txt" plain/lab/sub/-dash plain/lab/练习.txt | tr '\n' ' ')" "written here dash 字符 "
    expect_equal "$(readlink plain/lab/out)" /etc
    mkdir many
    for i in $(seq 1000); do echo "$i" >"many/file $i"; done
    gpustrap push "$there" many plain-there
    expect_exit 0
    on_host sh -c 'find /home/ubuntu/plain-there/many -type f | wc -l'
    expect_output 1000
}

make_tree() {
    as_login bash -c 'mkdir -p ~/lab/sub/deep ~/lab/empty && cd ~/lab &&
        echo notes >notes.txt && echo spaced >"with space.txt" && echo dash >sub/-dash && echo new >"new
line" && echo 字符 >练习.txt && echo quoted >"quote'"'"'s \$(x)" && : >zero && echo run >tool && chmod 750 tool &&
        ln -s /etc out && ln -s notes.txt near && touch -d 2020-02-02 notes.txt && mkfifo pipe && printf "\377" >"$(printf "b\377")"'
    expect_exit 0
}

# Each case has a folder of its own; what the first ones brought is brought again.
bring() {
    gpustrap pull "$there" lab got
}

expect_same_tree() {
    testbed exec box sh -c "cd /home/ubuntu/$1 && find . ! -type p ! -type d -printf '%y %m %s %Ts %p %l\n' | LC_ALL=C sort" >wanted
    (cd "$2" && find . ! -type d -printf '%y %m %s %Ts %p %l\n' | LC_ALL=C sort) >have
    cmp -s wanted have || fail_case "the trees differ: $(diff wanted have | head -n 6)"
    [ -s wanted ] || fail_case "there is nothing to compare"
    testbed exec box sh -c "cd /home/ubuntu/$1 && find . -type d | LC_ALL=C sort" >wanted
    (cd "$2" && find . -type d | LC_ALL=C sort) >have
    cmp -s wanted have || fail_case "the folders differ: $(diff wanted have)"
}

expect_few_turns() {
    local turns
    turns=$(relay stats | grep -o '"last": *{[^}]*}' | grep -o '"turns": *[0-9]*' | grep -o '[0-9]*$')
    [ "$turns" -le "$1" ] || fail_case "$turns turns, expected at most $1"
}

expect_down_at_most() {
    local down
    down=$(($(relay stats | grep -o '"down": *[0-9]*' | head -n 1 | grep -o '[0-9]*$') - ${down_before:-0}))
    [ "$down" -le "$1" ] || fail_case "$down bytes came, expected at most $1"
}

has_part() { [ "$(find "$1" -name '.gpustrap-part-*' -size +20000k 2>/dev/null | wc -l)" -gt 0 ]; }
has_small_part() { [ "$(find "$1" -name '.gpustrap-part-*' 2>/dev/null | wc -l)" -gt 2 ]; }
has_stage_there() { [ "$(testbed exec box find "$1" -path '*.gpustrap-push-*' -type f </dev/null | wc -l)" -gt 2 ]; }
has_part_there() { testbed exec box find "$1" -name '.gpustrap-part-*' -size +20000k </dev/null | grep -q .; }
