# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# Every kind of step, twice, on real hosts: the second run changes nothing at all. What fetches from
# repositories (git, deb, apt_repository) has a suite of its own, repositories.sh.

kinds_needs() { needs_gpustrap; }

kinds_cases() {
    case_ "a recipe with every kind runs on a bare host"
    boot_host box
    internet
    serve "$suite_dir/www"
    trust_origin
    every_kind >"$suite_dir/every-kind.yaml"
    up "$suite_dir/every-kind.yaml" --json
    expect_exit 0
    on_host cat /etc/gpustrap-test /home/ubuntu/notebooks/notes/intro.txt /home/ubuntu/made
    expect_output "written by a recipe"
    expect_output "an introduction"
    on_host /home/ubuntu/env/bin/python -c 'import idna; print(idna.__name__)'
    expect_output idna
    on_host systemctl is-active --quiet hello.service
    expect_exit 0

    case_ "plan after it finds nothing to do"
    take_listing
    gpustrap plan "$suite_dir/every-kind.yaml" "$host" -i "$key" --exit-code
    expect_exit 0
    expect_same_listing

    case_ "the second run is unchanged, step by step and byte by byte"
    take_listing
    up "$suite_dir/every-kind.yaml" --json
    expect_exit 0
    expect_unchanged
    expect_same_listing

    case_ "what the user wrote is kept, what is missing comes back"
    on_host sh -c 'echo mine >/home/ubuntu/notebooks/notes/intro.txt
        rm /home/ubuntu/notebooks/notes/homework.txt
        echo own >/home/ubuntu/notebooks/own.txt'
    up "$suite_dir/every-kind.yaml" --json
    expect_exit 0
    on_host cat /home/ubuntu/notebooks/notes/intro.txt /home/ubuntu/notebooks/own.txt
    expect_output mine
    expect_output own
    on_host cat /home/ubuntu/notebooks/notes/homework.txt
    expect_output exercise

    plans_of_python

    case_ "plan on a fresh host touches nothing"
    boot_host fresh
    trust_origin
    # The agent itself is pushed; nothing else may appear.
    take_listing --except usr/local/lib
    gpustrap plan "$suite_dir/every-kind.yaml" "$host" -i "$key" --accept-new-host-key
    expect_exit 0
    expect_same_listing --except usr/local/lib
}

# What a plan says of pip and venv steps, against the index that pip's own settings here name.
plans_of_python() {
    case_ "a plan names the versions that pip finds, and touches nothing"
    printf 'name: wheels\nsteps:\n  - pip: { venv: ~/env, packages: ["idna<3.8", six==1.16.0] }\n' >"$suite_dir/wheels.yaml"
    take_listing --except home/ubuntu/.cache/gpustrap # where it may: it is empty again
    gpustrap plan "$suite_dir/wheels.yaml" "$host"
    expect_exit 0
    expect_output "install idna 3.7 in place of 3."
    expect_output "install six 1.16.0"
    expect_same_listing --except home/ubuntu/.cache/gpustrap

    case_ "what pip cannot find is said, with that the versions are not known"
    printf 'name: wheels\nsteps:\n  - pip: { venv: ~/env, packages: [idna==99.9] }\n' >"$suite_dir/wheels.yaml"
    take_listing --except home/ubuntu/.cache/gpustrap
    gpustrap plan "$suite_dir/wheels.yaml" "$host"
    expect_exit 0
    expect_output "the versions are chosen when it runs: pip does not find them now"
    expect_same_listing --except home/ubuntu/.cache/gpustrap

    on_host find /home/ubuntu/.cache/gpustrap -name "plan.*"
    expect_no_output plan.

    case_ "an index that says nothing is not waited for: the plan says so, and leaves nothing behind"
    printf 'name: wheels\nsteps:\n  - pip: { venv: ~/env, packages: [gpustrap-nothing], index: "%s/~fault;stall/simple" }\n' "$origin" >"$suite_dir/wheels.yaml"
    take_listing --except home/ubuntu/.cache/gpustrap
    mkdir -p "$suite_dir/www/simple/gpustrap-nothing"
    echo "<html></html>" >"$suite_dir/www/simple/gpustrap-nothing/index.html"
    local began=$SECONDS
    gpustrap plan "$suite_dir/wheels.yaml" "$host"
    expect_exit 0
    expect_output "pip did not find them within 30s"
    [ $((SECONDS - began)) -lt 50 ] || fail_case "it was waited for"
    expect_same_listing --except home/ubuntu/.cache/gpustrap

    case_ "what is not there yet is said to be so"
    printf 'name: wheels\nsteps:\n  - venv: ~/other\n  - pip: { venv: ~/other, packages: [idna] }\n' >"$suite_dir/wheels.yaml"
    take_listing --except home/ubuntu/.cache/gpustrap
    gpustrap plan "$suite_dir/wheels.yaml" "$host"
    expect_exit 0
    expect_output "Python 3."
    expect_output "the versions are chosen when it runs: /home/ubuntu/other is not there yet"
    expect_same_listing --except home/ubuntu/.cache/gpustrap
}

# What the origin serves: a file, and an archive with names that are not ASCII.
internet() {
    mkdir -p "$suite_dir/www" "$suite_dir/pack/notes"
    echo "a file" >"$suite_dir/www/file"
    echo "an introduction" >"$suite_dir/pack/notes/intro.txt"
    echo "an exercise" >"$suite_dir/pack/notes/homework.txt"
    echo "字符" >"$suite_dir/pack/notes/练习.txt"
    tar -C "$suite_dir/pack" -czf "$suite_dir/www/notebooks.tar.gz" notes
}

every_kind() {
    cat <<RECIPE
name: every-kind
steps:
  - require: { os: [debian, ubuntu], arch: [x86_64, aarch64], disk_free: 500MiB }
  - wait: { apt: true, limit: 2m }
  - apt: { packages: [python3-venv], recommends: false }
  - download: { url: $origin/file, to: ~/downloads/file, sha256: $(sha256sum <"$suite_dir/www/file" | cut -c1-64) }
  - archive: { url: $origin/notebooks.tar.gz, to: ~/notebooks }
  - file: { path: /etc/gpustrap-test, content: "written by a recipe\n", mode: "0640" }
  - block: { path: /etc/hosts, marker: test, content: "192.0.2.1 example" }
  - directory: { path: ~/data, mode: "0700" }
  - symlink: { path: ~/latest, target: ~/data }
  - environment: { EDITOR: vi, PATH: { prepend: ~/env/bin } }
  - command: { run: "date >~/made", creates: ~/made }
  - id: guarded
    command: { run: [touch, /run/guarded], unless: [test, -e, /run/guarded] }
    as: root
  - service:
      name: hello
      unit: |
        [Unit]
        Description=says nothing, for a long time
        [Service]
        ExecStart=/bin/sleep infinity
        [Install]
        WantedBy=multi-user.target
  - venv: ~/env
  - pip: { venv: ~/env, packages: [idna] }
RECIPE
}
