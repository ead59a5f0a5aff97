# shellcheck shell=bash disable=SC2016,SC2154 # host, origin and the like come from the frame; what is quoted is for the host
# What comes from outside: archives that mean harm, transfers that go wrong, and the work of people on what was unpacked.

fetching_needs() { needs_gpustrap; }

fetching_cases() {
    local packed name

    case_ "archives that would leave their folder are refused, each with its reason, and leave nothing"
    boot_host box
    mkdir -p "$suite_dir/www"
    serve "$suite_dir/www"
    trust_origin
    (cd "$suite_dir/www" && hostile_archives)
    on_host sh -c 'echo precious >/home/ubuntu/outside && chown ubuntu: /home/ubuntu/outside'
    refused climbs.tar 'a name with `..`'
    refused climbs.zip 'a name with `..`'
    refused absolute.tar 'an absolute name'
    refused link_out.tar 'leaves the folder'
    refused link_absolute.zip 'is absolute'
    refused through_link.tar 'lead through'
    refused hard_link.tar 'is no file of the archive before it'
    refused device.tar 'is a device'

    case_ "one name twice is refused where the contents differ"
    refused twice.zip 'twice, and the two differ'

    case_ "an archive that was cut short is said to be, whatever packed it"
    for packed in good.tar good.tar.gz good.tar.bz2 good.tar.xz good.tar.zst good.zip; do
        head -c "$(($(stat -c %s "$suite_dir/www/$packed") * 6 / 10))" "$suite_dir/www/$packed" >"$suite_dir/www/cut.$packed"
        refused "cut.$packed" 'cut short'
    done

    case_ "a bomb is stopped before it fills the disk"
    refused bomb.tar.zst 'times its size'
    up_archive good.tar.gz 'max_size: 1KiB'
    expect_exit 1
    expect_output 'unpacks to more than 1.0 KiB'

    case_ "names of every script arrive, also in the C locale, and in every kind of archive"
    for packed in good.tar good.tar.gz good.tar.bz2 good.tar.xz good.tar.zst good.zip; do
        up_archive "$packed"
        expect_exit 0
        for name in 'übung.txt' '练习/第一章.ipynb' 'emoji 😀'; do
            on_host cat "/home/ubuntu/out/$name"
            expect_output "$name"
        done
        on_host rm -rf /home/ubuntu/out
    done
    up_archive latin.tar
    expect_exit 0
    on_host sh -c 'cat "$(printf "/home/ubuntu/out/caf\351")"'
    expect_output latin

    case_ "a download that is cut goes on where it was"
    head -c 3000000 /dev/urandom >"$suite_dir/www/file"
    up_download "~cut=1000000;times=1/file"
    expect_exit 0
    expect_file
    expect_equal "$(origin_requests | grep -c 'bytes=1000000-')" 1

    case_ "a download that stalls is taken up again"
    up_download "~stall=1000000;times=1/file"
    expect_exit 0
    expect_output "no byte came for 30"
    expect_file

    case_ "bytes with another digest are not taken, and both digests are named"
    up_download "~wrong/file"
    expect_exit 1
    expect_output "$(digest "$suite_dir/www/file")"
    expect_output "has sha256"
    expect_nothing_fetched

    case_ "a redirect from https to plain http is refused before anything is asked there"
    up_download "~redirect=http/file"
    expect_exit 1
    expect_output "which is not encrypted"
    expect_nothing_fetched
    expect_equal "$(origin_requests | grep -c '^http ' || true)" 0

    case_ "homework: edited, added, renamed and deleted between two runs"
    up_archive book-1.tar.gz
    expect_exit 0
    on_host runuser -u ubuntu -- sh -c 'cd ~/out && echo "my solution" >ch1.ipynb && echo "my notes" >notes.txt && mv ch2.ipynb ch2-mine.ipynb && rm README
        mkdir own && echo data >own/data.csv && rm -r pics && mkdir ../pics && ln -s ../pics pics'
    up_archive book-1.tar.gz
    expect_exit 0
    homework_is_there
    on_host sh -c 'cd /home/ubuntu/out && cat ch2.ipynb README ../pics/1.png'
    expect_output "chapter two"
    expect_output "read me"
    expect_output "picture"
    take_listing
    up_archive book-1.tar.gz --json
    expect_exit 0
    expect_unchanged
    expect_same_listing

    case_ "and across a new edition, which goes beside what was edited"
    up_archive book-2.tar.gz
    expect_exit 0
    homework_is_there
    on_host sh -c 'cd /home/ubuntu/out && cat ch1.ipynb.new ch2.ipynb ch3.ipynb'
    expect_output "chapter one, revised"
    expect_output "chapter two, revised"
    expect_output "chapter three"

    case_ "what later steps fetch comes while apt waits for another package manager, once, and is taken"
    on_host rm -rf /home/ubuntu/fetched /home/ubuntu/out
    : >"$suite_dir/origin/requests"
    ahead_recipe '- apt: bc' 'file'
    package_manager_at_work 10
    up "$suite_dir/ahead.yaml" --json
    expect_exit 0
    expect_equal "$(json_events | grep -n -m 1 -E '"event":"downloaded".*"step":"get"|"event":"step_finished".*"step":"first"' |
        grep -o '"ahead":true')" '"ahead":true'
    expect_file
    expect_equal "$(grep -c 'GET /file' "$suite_dir/origin/requests")" 1
    expect_equal "$(grep -c 'GET /book-1.tar.gz' "$suite_dir/origin/requests")" 1
    on_host stat -c %U /home/ubuntu/fetched/file
    expect_output ubuntu
    expect_nothing_ahead

    case_ "a run with nothing to do fetches nothing, and starts nobody who could"
    up "$suite_dir/ahead.yaml" --json
    expect_exit 0
    expect_unchanged
    expect_equal "$(wc -l <"$suite_dir/origin/requests")" 2
    expect_nothing_ahead

    case_ "a runner that dies takes its fetchers along; the next one goes on with what they have got"
    on_host rm -rf /home/ubuntu/fetched
    : >"$suite_dir/origin/requests"
    ahead_recipe '- command: { run: until test -e ~/go; do sleep 0.1; done, creates: ~/go }' '~slow=500000/file'
    follow up "$suite_dir/ahead.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --json
    await_that part_has_grown
    kill_runner
    await_that shown '"incarnation":2'
    as_login touch /home/ubuntu/go
    end_of_run
    expect_exit 0
    expect_file
    expect_equal "$(grep -c 'bytes=' "$suite_dir/origin/requests")" 1
    expect_nothing_ahead

    case_ "where the line is narrow, the file that a step waits for has it before those of later steps"
    on_host rm -rf /home/ubuntu/fetched /home/ubuntu/go
    for name in near late1 late2 late3; do head -c 12000000 /dev/urandom >"$suite_dir/www/$name"; done
    narrow_origin 20
    narrow_recipe >"$suite_dir/narrow.yaml"
    up "$suite_dir/narrow.yaml" --json
    expect_exit 0
    expect_equal "$(json_events downloaded | head -n 1 | grep -o '"step":"[a-z0-9]*"')" '"step":"get"'
    # Sharing alike, the three later files would have had as much as the first when it was there: 36 MB. They have what came before its step
    # began, what their connections had room for when they were stopped, what one of them got when that was tried, and a second or two after.
    as_login sh -c 'cat ~/came'
    expect_equal "$([ "$(cat stdout)" -lt 18000000 ] && echo few)" few

    case_ "wheels of a locked file are fetched before their environment is there, once, and pip checks them"
    needs_python
    "$repository/tests/e2e/stand_in_index.py" "$suite_dir/www/simple"
    on_host rm -rf /home/ubuntu/go /home/ubuntu/env
    : >"$suite_dir/origin/requests"
    locked_recipe
    up "$suite_dir/locked.yaml" --json
    expect_exit 0
    expect_equal "$(json_events downloaded | grep '"step":"pip"' | grep -c '"ahead":true')" 2
    expect_equal "$(grep -c '\.whl' "$suite_dir/origin/requests")" 2
    expect_output '2 of 2 wheels came ahead'
    as_login /home/ubuntu/env/bin/python -c 'import torch, torchvision; print(torch.__version__)'
    expect_output 2.14.0
    expect_nothing_ahead
    as_login sh -c 'ls -d ~/.cache/gpustrap/wheels* 2>/dev/null; true'
    expect_equal "$(<"$case_dir/stdout")" ''
    up "$suite_dir/locked.yaml" --json
    expect_unchanged

    case_ "a wheel that is not what the lock says is installed by nobody"
    on_host rm -rf /home/ubuntu/go /home/ubuntu/env
    sed -i 's/sha256:[0-9a-f]*/sha256:'"$(printf '%064d' 7)"'/; /- id: until/,/creates:/d' "$suite_dir/locked.yaml"
    up "$suite_dir/locked.yaml" --json
    expect_exit 1
    as_login sh -c 'ls /home/ubuntu/env/lib/python3*/site-packages'
    expect_no_output torch

    case_ "steps that need the disk now get it from what was fetched for later"
    on_host rm -rf /home/ubuntu/fetched /home/ubuntu/go
    full_disk /home/ubuntu/.cache 200m
    truncate -s 100M "$suite_dir/www/large"
    ahead_recipe '- command: { run: "until ls ~/.cache/gpustrap/ahead/*.lock; do sleep 0.1; done;
          while ls ~/.cache/gpustrap/ahead/*.gpustrap-part; do sleep 0.1; done; head -c 80M /dev/zero >~/.cache/mine;
          while test -e ~/.cache/gpustrap/ahead; do sleep 0.1; done; rm ~/.cache/mine; touch ~/go", creates: ~/go }' large
    up "$suite_dir/ahead.yaml" --json
    expect_exit 0
    expect_equal "$(grep -c 'GET /large' "$suite_dir/origin/requests")" 2
    on_host umount /home/ubuntu/.cache
}

# ahead_recipe STEP FILE: that step, then a download of the file and an archive.
ahead_recipe() {
    printf 'name: ahead\nsteps:\n  %s\n  - id: get\n    download: { url: "%s/%s", to: ~/fetched/file }\n  - archive: { url: "%s/book-1.tar.gz", to: ~/out }\n' \
        "- id: first"$'\n'"   ${1#-}" "$origin" "$2" "$origin" >"$suite_dir/ahead.yaml"
}

# narrow_origin MBIT: $narrow leads to the origin through a link of that width, which all transfers share.
narrow_origin() {
    local state=$suite_dir/narrow
    mkdir -p "$state"
    "$repository/tests/testbed/relay.py" --to "${origin#https://}" --state "$state" --bind "${address%.*}.1" >/dev/null 2>&1 </dev/null &
    background+=($!)
    await "$state/address"
    "$repository/tests/testbed/relay.py" --state "$state" bandwidth "$1"
    narrow=https://$(<"$state/address")
}

# A step that ends once something comes ahead; a download; how much has come for later ones by then; and those.
narrow_recipe() {
    cat <<YAML
name: narrow
steps:
  - id: first
    command: { run: "until ls ~/.cache/gpustrap/ahead/*.gpustrap-part; do sleep 0.1; done; touch ~/go", creates: ~/go }
  - id: get
    download: { url: "$narrow/near", to: ~/fetched/near }
  - id: count
    as: login
    command: { run: "du -cb ~/.cache/gpustrap/ahead | tail -n 1 | cut -f 1 >~/came", creates: ~/came }
  - { id: late1, download: { url: "$narrow/late1", to: ~/fetched/late1 } }
  - { id: late2, download: { url: "$narrow/late2", to: ~/fetched/late2 } }
  - { id: late3, download: { url: "$narrow/late3", to: ~/fetched/late3 } }
YAML
}

needs_python() { on_host sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null'; }

# An environment that is made only once both wheels have come; and what a locked file wants in it.
locked_recipe() {
    local name
    {
        printf 'name: locked\nsteps:\n  - id: list\n    as: login\n    file:\n      path: ~/locked.txt\n      content: |\n'
        for name in torch==2.14.0 torchvision==0.29.0; do
            printf '        %s --hash=sha256:%s\n' "$name" "$(sha256sum "$suite_dir/www/simple/${name%%=*}/"*.whl | cut -c1-64)"
        done
        cat <<YAML
  - id: until
    as: login
    timeout: 60s
    command:
      run: until [ "\$(find ~/.cache/gpustrap/ahead -type f -size +0 ! -name '*.*' | wc -l)" -ge 3 ]; do sleep 0.1; done; touch ~/go
      creates: ~/go
  - venv: ~/env
  - pip: { venv: ~/env, requirements: ~/locked.txt, index: "$origin/simple/" }
YAML
    } >"$suite_dir/locked.yaml"
}

expect_nothing_ahead() {
    on_host sh -c 'ls -d /var/lib/gpustrap/cache/ahead /home/ubuntu/.cache/gpustrap/ahead 2>/dev/null; true'
    expect_equal "$(<"$case_dir/stdout")" ''
}

part_has_grown() {
    testbed exec "$host_name" sh -c 'test -s "$(ls /home/ubuntu/.cache/gpustrap/ahead/*.gpustrap-part)"'
}

# up_archive NAME [FIELD] [OPTION…]: unpacks it to ~/out; a FIELD holds a colon.
up_archive() {
    local name=$1 field=''
    shift
    if [[ ${1:-} == *:* ]]; then
        field=", $1"
        shift
    fi
    printf 'name: unpack\nsteps:\n  - archive: { url: "%s/%s", to: ~/out%s }\n' "$origin" "$name" "$field" >"$suite_dir/unpack.yaml"
    up "$suite_dir/unpack.yaml" "$@"
}

# refused NAME REASON: the run fails with that reason, says what to do, and neither files nor the archive are left.
refused() {
    up_archive "$1"
    expect_exit 1
    expect_output "$2"
    on_host sh -c 'find /home/ubuntu/out /home/ubuntu/.cache/gpustrap -mindepth 1; cat /home/ubuntu/outside; ls -d /gpustrap-absolute 2>/dev/null; true'
    expect_equal "$(<"$case_dir/stdout")" precious
}

up_download() {
    on_host rm -rf /home/ubuntu/fetched
    printf 'name: fetch\nsteps:\n  - download: { url: "%s/%s", to: ~/fetched/file, sha256: %s }\n' "$origin" "$1" \
        "$(digest "$suite_dir/www/file")" >"$suite_dir/fetch.yaml"
    : >"$suite_dir/origin/requests"
    up "$suite_dir/fetch.yaml"
}

digest() { sha256sum <"$1" | cut -c1-64; }

expect_file() {
    on_host sha256sum /home/ubuntu/fetched/file
    expect_output "$(digest "$suite_dir/www/file")"
}

expect_nothing_fetched() {
    on_host sh -c 'find /home/ubuntu/fetched -mindepth 1; true' # the folder may never have been made
    expect_equal "$(<"$case_dir/stdout")" ''
}

homework_is_there() {
    on_host sh -c 'cd /home/ubuntu/out && cat ch1.ipynb notes.txt ch2-mine.ipynb own/data.csv && readlink pics'
    expect_equal "$(<"$case_dir/stdout")" $'my solution\nmy notes\nchapter two\ndata\n../pics'
}

# Made by a program, since no usual one packs such things.
hostile_archives() {
    python3 - <<'PYTHON'
import io, subprocess, tarfile, warnings, zipfile
warnings.simplefilter("ignore")

def tar(path, *entries):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for kind, name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mtime = kind, 1700000000
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
            else:
                entry.linkname = content.decode()
            archive.addfile(entry, io.BytesIO(content))

def zip_(path, *entries, mode=0o100644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, (2023, 11, 14, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)

FILE, LINK, HARD, DEVICE = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
tar("climbs.tar", (FILE, "first", b"x"), (FILE, "../outside", b"overwritten"))
zip_("climbs.zip", ("first", "x"), ("a/../../outside", "overwritten"))
tar("absolute.tar", (FILE, "/gpustrap-absolute", b"x"))
tar("link_out.tar", (LINK, "l", b"../outside"), (FILE, "l", b"overwritten"))
zip_("link_absolute.zip", ("l", "/home/ubuntu/outside"), mode=0o120777)
tar("through_link.tar", (FILE, "d/x", b"x"), (LINK, "l", b"d"), (FILE, "l/y", b"y"))
tar("hard_link.tar", (HARD, "h", b"outside"), (FILE, "h", b"overwritten"))
tar("device.tar", (DEVICE, "null", b""))
zip_("twice.zip", ("a", "shown to the scanner"), ("a", "given to the user"))
with open("latin.tar", "wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
    entry = tarfile.TarInfo("café")
    entry.size = 6
    archive.addfile(entry, io.BytesIO(b"latin\n"))

names = ["übung.txt", "练习/第一章.ipynb", "emoji 😀"]
good = [(name, name + "\n" + "".join(chr(33 + (i * i + i // 7) % 90) for i in range(20000))) for name in names]
tar("good.tar", *((FILE, name, text.encode()) for name, text in good))
zip_("good.zip", *good)
for tool, suffix in (("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")):
    with open(f"good.tar.{suffix}", "wb") as out:
        subprocess.run([tool, "-c", "good.tar"], stdout=out, check=True)

bomb = tarfile.TarInfo("zeros")
bomb.size = 600 << 20
with subprocess.Popen(["zstd", "-q", "-o", "bomb.tar.zst"], stdin=subprocess.PIPE) as zstd:
    zstd.stdin.write(bomb.tobuf())
    for _ in range(600):
        zstd.stdin.write(bytes(1 << 20))
    zstd.stdin.write(bytes(1024))

def book(path, *chapters):
    files = [("README", "read me\n"), ("pics/1.png", "picture\n")] + [(f"ch{i + 1}.ipynb", text + "\n") for i, text in enumerate(chapters)]
    tar("book.tar", *((FILE, name, text.encode()) for name, text in files))
    with open(path, "wb") as out:
        subprocess.run(["gzip", "-nc", "book.tar"], stdout=out, check=True)

book("book-1.tar.gz", "chapter one", "chapter two")
book("book-2.tar.gz", "chapter one, revised", "chapter two, revised", "chapter three")
PYTHON
}
