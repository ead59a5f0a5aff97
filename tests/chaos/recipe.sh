# shellcheck shell=bash disable=SC2154 # origin, suite_dir and the like are the frame's
# The recipe that the disturbances meet: thirty steps and a restart of the host, some of which run side by side, slow enough to be hit in the middle.

thirty_steps() {
    local www=$suite_dir/www n
    mkdir -p "$suite_dir/pack/notes"
    for n in $(seq 1 60); do
        # Nothing that shrinks: the bytes are to take their time.
        openssl enc -aes-128-ctr -pass "pass:$n" -nosalt -pbkdf2 </dev/zero 2>/dev/null | head -c 8000 >"$suite_dir/pack/notes/$n.bin"
    done
    tar -C "$suite_dir/pack" --sort=name --mtime=@1700000000 --owner=0 --group=0 -czf "$www/notes.tar.gz" notes
    (cd "$suite_dir/pack" && find notes -exec touch -d @1700000000 {} + && python3 -m zipfile -c "$www/notes.zip" notes)
    cat "$suite_dir/pack/notes"/*.bin >"$www/model.bin"
    cat <<RECIPE
name: thirty
steps:
  - require: { os: [debian, ubuntu], arch: [x86_64, aarch64], disk_free: 50MiB }
  - wait: { apt: true, limit: 2m }
  - id: packages
    apt: { packages: [tree, hello], recommends: false }
  - id: model
    needs: [require]
    retries: 3
    download: { url: "$origin/~slow=150000/model.bin", to: ~/model.bin, sha256: $(sha256sum <"$www/model.bin" | cut -c1-64) }
  - id: notes
    needs: [require]
    retries: 3
    archive: { url: "$origin/~slow=200000/notes.tar.gz", to: ~/notes }
  - id: zipped
    needs: [notes]
    retries: 3
    archive: { url: "$origin/~cut;times=1/notes.zip", to: ~/zipped }
  - id: data
    needs: [wait]
    directory: { path: ~/data, mode: "0700" }
  - id: shared
    directory: { path: /srv/shared, mode: "1777" }
  - id: settings
    file: { path: /etc/gpustrap-chaos.conf, content: "limit = 30\n", mode: "0640" }
  - id: hosts
    block: { path: /etc/hosts, marker: chaos, content: "192.0.2.1 example" }
  - id: profile
    environment: { EDITOR: vi, PATH: { prepend: ~/bin } }
  - id: everywhere
    environment: { scope: system, CHAOS: "on" }
  - id: kernel
    as: root
    command: { run: "touch /run/reboot-required /srv/kernel", creates: /srv/kernel }
  - reboot: when_required
  - id: latest
    symlink: { path: ~/latest, target: ~/data }
  - id: sleeper
    service:
      name: sleeper
      unit: |
        [Unit]
        Description=says nothing, for a long time
        [Service]
        ExecStart=/bin/sleep infinity
        [Install]
        WantedBy=multi-user.target
RECIPE
    # Each writes beside its place and renames, as one that may be killed must.
    for n in $(seq 1 8); do
        cat <<RECIPE
  - id: work$n
    command:
      run: |
        rm -f part$n
        for i in \$(seq 1 12); do echo "work $n line \$i" | tee -a part$n; sleep 0.05; done
        mv part$n done$n
      chdir: ~/data
      creates: ~/data/done$n
RECIPE
    done
    for n in $(seq 1 6); do
        cat <<RECIPE
  - id: side$n
    needs: [data]
    command: { run: "echo side $n; sleep 0.4; echo $n >side$n.part; mv side$n.part side$n", chdir: ~/data, creates: ~/data/side$n }
RECIPE
    done
    cat <<RECIPE
  - id: gather
    needs: [work8, side1, side2, side3, side4, side5, side6, model, zipped, packages]
    command: { run: "cat side1 side2 side3 done1 >all.part; mv all.part all", chdir: ~/data, creates: ~/data/all }
  - id: last
    as: root
    command: { run: "echo last; touch /srv/last", creates: /srv/last }
RECIPE
}
