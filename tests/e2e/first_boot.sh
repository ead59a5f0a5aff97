# shellcheck shell=bash disable=SC2154 # host, key and the like are the frame's
# Hosts that are still busy with their first boot. cloud-init is the real one, with the data of a folder (NoCloud); what stands for
# unattended-upgrades has its name and holds its lock; packages are stand-ins. apt, dpkg and systemd are the host's own.

first_boot_needs() { needs_gpustrap; }

first_boot_cases() {
    boot_host box
    install_cloud_init
    publish
    cat >"$suite_dir/wait.yaml" <<'RECIPE'
name: wait
steps:
  - wait: { cloud_init: true, apt: true }
  - apt: [stand-in-tool]
RECIPE
    printf 'name: apt\nsteps:\n  - apt: [stand-in-tool]\n' >"$suite_dir/apt.yaml"
    # A user's own; here it also brings the agent, so that the first boot of each case meets a run at once.
    gpustrap plan "$suite_dir/apt.yaml" "$host" -i "$key" --accept-new-host-key
    expect_exit 0

    case_ "a wait for cloud-init and apt names each as long as it lasts, and the run goes on behind them"
    first_boot one "until [ -e /run/cloud-may-end ]; do sleep 0.1; done"
    begin wait
    await_that shown "waiting: cloud-init has not finished"
    testbed exec box touch /run/cloud-may-end
    await_that shown "(unattended-upgr) holds the locks of apt"
    testbed exec box touch /run/upgrades-may-end
    end_of_run
    expect_exit 0
    expect_output "cloud-init is done, apt is free"
    expect_installed

    case_ "packages wait for unattended-upgrades by themselves, name it, and are installed behind it"
    testbed exec box apt-get purge -q -y stand-in-tool >/dev/null
    first_boot two true
    begin apt
    await_that shown "(unattended-upgr) to release the locks of apt"
    testbed exec box touch /run/upgrades-may-end
    end_of_run
    expect_exit 0
    expect_installed

    case_ "a cloud-init that failed (its exit 1) fails the wait, with its own words"
    first_boot three "exit 3"
    testbed exec box touch /run/upgrades-may-end
    await_that cloud_init_has_ended
    ! on_host cloud-init status
    expect_exit 1
    up "$suite_dir/wait.yaml"
    expect_exit 1
    expect_output "cloud-init failed"
    expect_output "scripts-user"
    expect_output "/var/log/cloud-init-output.log"

    case_ "one that failed while it was waited for, too"
    first_boot four "until [ -e /run/cloud-may-end ]; do sleep 0.1; done; exit 3"
    testbed exec box touch /run/upgrades-may-end
    begin wait
    await_that shown "waiting: cloud-init has not finished"
    testbed exec box touch /run/cloud-may-end
    end_of_run
    expect_exit 1
    expect_output "cloud-init failed"

    case_ "one that is degraded (exit 2, by a stand-in for newer releases) is accepted, and it is said"
    testbed exec box sh -c 'mv /usr/bin/cloud-init /usr/bin/cloud-init.real
        printf "#!/bin/sh\necho \"status: done\"; echo \"extended_status: degraded done\"; exit 2\n" >/usr/bin/cloud-init; chmod +x /usr/bin/cloud-init'
    up "$suite_dir/wait.yaml" --json
    expect_exit 0
    expect_output "cloud-init is done, with errors that it has recovered from, apt is free"
}

install_cloud_init() {
    testbed exec box sh -c 'export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && apt-get install -y -q --no-install-recommends cloud-init; } >/var/log/installed 2>&1 </dev/null || { tail /var/log/installed; exit 1; }
        # Only what runs a script of the user: the rest would set up a host that is set up already.
        rm -f /etc/cloud/cloud.cfg.d/*
        cat >/etc/cloud/cloud.cfg' <<'CONFIG'
datasource_list: [NoCloud]
network: {config: disabled}
cloud_init_modules: []
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
CONFIG
    # shellcheck disable=SC2016 # perl's own
    testbed exec box sh -c 'cat >/usr/local/sbin/unattended-upgrades && chmod 0755 /usr/local/sbin/unattended-upgrades' <<'UPGRADES'
#!/usr/bin/perl
# A stand-in for unattended-upgrades: its name in the process list, and a record lock as apt takes it.
use Fcntl;
$0 = "unattended-upgr";
open(my $file, ">>", "/var/lib/dpkg/lock-frontend") or die;
my $lock = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
fcntl($file, F_SETLKW, $lock) or die;
open(my $mark, ">", "/run/upgrades-run");
select(undef, undef, undef, 0.1) until -e "/run/upgrades-may-end";
UPGRADES
    testbed exec box sh -c 'cat >/etc/systemd/system/unattended-upgrades.service && systemctl enable --quiet unattended-upgrades' <<'UNIT'
[Unit]
Description=stand-in for unattended-upgrades, as a first boot starts them
[Service]
ExecStart=/usr/local/sbin/unattended-upgrades
[Install]
WantedBy=multi-user.target
UNIT
}

# first_boot ID SCRIPT: the next boot is the first one of a new instance, whose user's script is this.
first_boot() {
    # shellcheck disable=SC2016 # the host's shell expands it
    testbed exec box sh -c 'mkdir -p /var/lib/cloud/seed/nocloud && cd /var/lib/cloud/seed/nocloud && cat >user-data && echo "instance-id: $1" >meta-data' sh "$1" <<DATA
#cloud-config
runcmd:
  - [sh, -c, "$2"]
DATA
    testbed reboot box
    await_that testbed exec box test -e /run/upgrades-run
}

cloud_init_has_ended() { testbed exec box test -e /run/cloud-init/result.json; }

publish() {
    local folder=$suite_dir/stand-in-tool served=$GPUSTRAP_TESTBED_DIR/hosts/box/root/srv/repo
    mkdir -p "$folder/DEBIAN" "$served"
    printf 'Package: stand-in-tool\nVersion: 1.0\nArchitecture: all\nMaintainer: A test <test@example.org>\nDescription: stand-in for a test\n' \
        >"$folder/DEBIAN/control"
    dpkg-deb --root-owner-group --build -Znone "$folder" "$served/stand-in-tool_1.0.deb" >/dev/null
    (cd "$served" && dpkg-scanpackages . >Packages 2>/dev/null)
    testbed exec box sh -c "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
        echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list; apt-get update -q >/dev/null"
}

begin() { follow up "$suite_dir/$1.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --json; }

expect_installed() {
    # shellcheck disable=SC2016 # dpkg's own placeholders
    on_host dpkg-query -W -f '${Status}' stand-in-tool
    expect_equal "$(cat "$case_dir/stdout")" "install ok installed"
}
