# shellcheck shell=bash disable=SC2154,SC2016 # host, origin and the like come from the frame; much is expanded on the host
# What `doctor` says of hosts that have something, and of hosts that have nothing. Disks, inodes, dpkg, keys, sudo and shells are real.
# GPUs, the driver's files and the notebooks are stand-ins: a PCI function with nothing behind it, files of the names that a driver has, a
# socket held by Perl. No case here says anything of a real driver.

doctor_needs() { needs_gpustrap; }

doctor_cases() {
    case_ "a host without a GPU is healthy, is told so, and is the same afterwards"
    boot_host plain --gpu none --machine
    take_listing
    doctor
    expect_exit 0
    expect_output "no NVIDIA GPU is on this machine's PCI bus"
    expect_output "Healthy: "
    expect_no_output error:
    expect_no_output warning:
    expect_same_listing
    ! on_host sh -c 'ls -d /usr/local/lib/gpustrap /var/lib/gpustrap /home/ubuntu/.local'
    expect_exit 2

    case_ "programs get one document"
    doctor --json
    expect_exit 0
    expect_output '"doctor":1'
    expect_output '"healthy":true'
    expect_output '"gpus":0'

    case_ "the script says the same in bash and in busybox as in dash"
    on_host apt-get update -qq
    on_host apt-get install -y -qq busybox-static
    probe_by dash >by.dash
    probe_by bash >by.bash
    probe_by "busybox sh" >by.busybox
    for shell in dash bash busybox; do
        grep -c '^@section ' "by.$shell" >count
        expect_equal "$(tail -n 1 "by.$shell")" "@end $(<count)"
    done
    expect_equal "$(sections by.bash)" "$(sections by.dash)"
    expect_equal "$(sections by.busybox)" "$(sections by.dash)"

    case_ "what is secret is masked by busybox's tools as by GNU's"
    {
        sed -n '/^secrets=/,/^}/p' "$repository/controller/doctor/probe.sh"
        echo 'masked <<LINES'
        said_with_secrets
        echo LINES
    } >masking.sh
    testbed exec plain sh -s <masking.sh >by.gnu
    testbed exec plain sh -c 'mkdir -p /opt/few && ln -sf /bin/busybox /opt/few/sed && PATH=/opt/few:$PATH busybox sh -s' <masking.sh >by.busybox
    expect_equal "$(wc -l <by.gnu)" "$(said_with_secrets | wc -l)"
    expect_equal "$(<by.busybox)" "$(<by.gnu)"
    expect_equal "$(grep -c hunter2 by.busybox)" 0
    grep -q 'registry.example.org' by.busybox || fail_case "it masks all"
    on_host apt-get purge -y -qq busybox-static

    case_ "what is found stands with its evidence and what to do, the worst first"
    # A stand-in for a notebook: a socket in a process of that name.
    notebook_stand_in | testbed exec plain sh -c 'cat >/usr/local/bin/jupyter-lab && chmod 0755 /usr/local/bin/jupyter-lab'
    on_host systemd-run --collect --quiet --unit=stand-in /usr/local/bin/jupyter-lab --ip=0.0.0.0 --ServerApp.token=
    await_that testbed exec plain sh -c 'ss -H -l -t -n | grep -q :8899'
    on_host mount -o remount,size=16M /dev/shm
    on_host apt-mark hold sudo
    doctor
    expect_exit 1
    expect_output "error: a notebook listens to the whole network without a token"
    expect_output "listens on 0.0.0.0:8899"
    expect_output "warning: /dev/shm is small"
    expect_output "/dev/shm: 16.0 MiB in all"
    expect_output "note: packages are held"
    expect_output "held: sudo"
    expect_output "1 error, 1 warning, 2 notes"
    expect_equal "$(grep -n -E '^(error|warning|note):' stdout | cut -d: -f2 | uniq | tr '\n' ' ')" "error warning note "

    case_ "--fix asks nobody where nobody is there, and changes nothing then"
    doctor --fix
    expect_exit 2
    expect_output "add -y to say yes"
    expect_output "shm-small"
    on_host sh -c 'df -k /dev/shm | grep -q 16384'
    expect_exit 0

    case_ "whoever answers no keeps it as it is"
    at_terminal "Go on?" n doctor --fix
    expect_exit 130
    expect_output "Nothing was changed."
    on_host sh -c 'df -k /dev/shm | grep -q 16384'
    expect_exit 0

    case_ "what is for a person to repair is not repaired"
    doctor --fix notebook-open -y
    expect_exit 2
    expect_output "notebook-open is for a person to repair"
    doctor --fix nouveau -y
    expect_exit 2
    expect_output "nouveau was not found on this host"

    case_ "--fix repairs a small /dev/shm, looks again, and says so"
    doctor --fix shm-small -y
    expect_exit 1
    expect_output "Repaired: shm-small."
    on_host systemctl stop stand-in
    on_host apt-mark unhold sudo
    doctor
    expect_exit 0
    expect_output "Healthy: "

    case_ "--fix configures packages that were left half installed"
    half_installed
    doctor
    expect_exit 1
    expect_output "packages are half installed"
    expect_output "iF half"
    on_host rm /etc/half-fails
    doctor --fix -y
    expect_exit 0
    expect_output "Repaired: apt-interrupted."
    on_host dpkg-query -W -f '${db:Status-Abbrev}' half
    expect_output "ii"

    case_ "--fix gives the host its own name back"
    on_host sh -c 'sed -i "/plain/d" /etc/hosts; sed -i "s/^hosts:.*/hosts: files dns/" /etc/nsswitch.conf'
    doctor
    expect_output "the host cannot resolve its own name"
    doctor --fix own-name -y
    expect_exit 0
    expect_output "Repaired: own-name."
    on_host getent hosts plain
    expect_exit 0

    case_ "--fix restarts a host that waits for it, comes back, and looks again"
    on_host sh -c 'touch /run/reboot-required; echo linux-image-stand-in >/run/reboot-required.pkgs; cat /proc/sys/kernel/random/boot_id'
    doctor
    expect_exit 0
    expect_output "the system waits for a restart"
    expect_output "asked for by linux-image-stand-in"
    doctor --fix -y
    expect_exit 0
    expect_output "Repaired: reboot-required."
    ! on_host test -e /run/reboot-required
    expect_exit 1

    case_ "login files, notebooks' settings and terms of service are read, tokens are not"
    as_login sh -c 'mkdir -p ~/.jupyter ~/conda/conda-meta ~/conda/lib/python3.11/site-packages/torch-2.14.0+cu130.dist-info
        touch ~/conda/conda-meta/conda-anaconda-tos-0.2.1-0.json
        echo "export LD_LIBRARY_PATH=/usr/local/cuda/lib64" >>~/.bashrc
        echo "c.ServerApp.ip = \"0.0.0.0\"" >~/.jupyter/jupyter_server_config.py
        echo "c.IdentityProvider.token = \"geheim-4711\"" >>~/.jupyter/jupyter_server_config.py'
    doctor
    expect_exit 0
    expect_output "[library-path]"
    expect_output "/home/ubuntu/.bashrc:"
    expect_output "Jupyter's configuration opens the next server to the whole network"
    expect_output "Terms of Service have not been accepted"
    probe_by dash >seen
    ! grep -q geheim-4711 seen || fail_case "a token has left the host"
    as_login sh -c 'rm -r ~/.jupyter ~/conda; sed -i "\$d" ~/.bashrc'

    case_ "secrets of proxies, docker, repositories and notebooks stay on the host"
    on_host sh -c 'mkdir -p /etc/docker
        echo "http_proxy=me:geheim-1@127.0.0.1:9" >>/etc/environment
        echo "Acquire::http::Proxy \"http://me:geheim-2@127.0.0.1:9\";" >/etc/apt/apt.conf.d/90proxy
        echo "{ \"proxies\": { \"http-proxy\": \"http://me:geheim-3@127.0.0.1:9\" }, \"token\": \"geheim-4\" }" >/etc/docker/daemon.json
        for k in one two; do touch /usr/share/keyrings/$k.gpg
            echo "deb [signed-by=/usr/share/keyrings/$k.gpg] http://me:geheim-5@127.0.0.1:9/repo ./" >/etc/apt/sources.list.d/$k.list; done'
    as_login sh -c 'mkdir -p ~/.jupyter
        echo "{\"IdentityProvider\": {\"token\": \"geheim-6\"}}" >~/.jupyter/jupyter_server_config.json
        echo "export HF_TOKEN=geheim-7 LD_LIBRARY_PATH=/usr/local/cuda/lib64" >>~/.bashrc'
    on_host systemd-run --collect --quiet --unit=stand-in /usr/local/bin/jupyter-lab --ip=0.0.0.0 --ServerApp.token geheim-8
    await_that testbed exec plain sh -c 'ss -H -l -t -n | grep -q :8899'
    probe_by dash >seen
    doctor --json
    expect_output '"proxy-silent"'
    expect_output '"notebook-public"'
    expect_no_output '"notebook-open"'
    ! grep -n geheim seen stdout || fail_case "a secret has left the host: $(grep -h -o '.\{60\}geheim-.' seen stdout | head -n 3)"
    on_host sh -c 'systemctl stop stand-in; rm /etc/apt/apt.conf.d/90proxy /etc/docker/daemon.json /etc/apt/sources.list.d/one.list
        rm /etc/apt/sources.list.d/two.list; sed -i /geheim/d /etc/environment; rmdir /etc/docker'
    as_login sh -c 'rm -r ~/.jupyter; sed -i "\$d" ~/.bashrc'
    doctor
    expect_exit 0

    case_ "files that apt does not read, and lines that are none, are no sources"
    on_host sh -c 'cd /etc/apt/sources.list.d && line="deb [signed-by=/nowhere.gpg] file:/srv/none ./" && echo "$line" >old.list.save && echo "   # $line" >none.list'
    doctor
    expect_exit 0
    expect_no_output nowhere.gpg
    on_host sh -c 'rm /etc/apt/sources.list.d/old.list.save /etc/apt/sources.list.d/none.list'

    case_ "what apt said before its sources or keys were changed is over"
    on_host sh -c 'mkdir -p /run/systemd/system/apt-daily.service.d && cd /run/systemd/system/apt-daily.service.d &&
        printf "[Service]\nExecStartPre=\nExecStart=\nExecStart=/bin/echo W: file:/srv/none NO_PUBKEY 0123456789ABCDEF\n" >stand-in.conf &&
        systemctl daemon-reload && systemctl start apt-daily.service'
    expect_exit 0
    await_that testbed exec plain sh -c 'journalctl -q -u apt-daily.service -o cat | grep -q NO_PUBKEY'
    doctor
    expect_exit 1
    expect_output "the key of a repository is missing"
    # The journal is asked in whole seconds.
    await_that testbed exec plain sh -c 'touch /etc/apt/keyrings/of-now && test "$(stat -c %Z /etc/apt/keyrings/of-now)" -gt "$(journalctl -q -u apt-daily.service -o short-unix -n 1 | cut -d. -f1)"'
    doctor
    expect_exit 0
    on_host sh -c 'rm -r /etc/apt/keyrings/of-now /run/systemd/system/apt-daily.service.d; systemctl daemon-reload'

    case_ "an nvidia-smi that hangs holds up what it is asked, and nothing else"
    on_host sh -c 'printf "#!/bin/sh\n# Stand-in for a test.\necho begun\nexec sleep 100\n" >/usr/bin/nvidia-smi && chmod 0755 /usr/bin/nvidia-smi'
    probe_by dash >seen
    on_host rm /usr/bin/nvidia-smi
    expect_equal "$(grep '^@section smi' seen | cut -d' ' -f2,3 | tr '\n' ' ')" "smi 124 smi-ecc 124 smi-rows 124 smi-heat 124 smi-mig 124 smi-list 124 "
    grep -q '^@end ' seen || fail_case "it did not come to its end"

    case_ "an expired key of a repository, by a real one"
    on_host apt-get install -y -qq gpg gpg-agent
    expired_key
    doctor
    expect_exit 1
    expect_output "the key of a repository has expired"
    expect_output "/usr/share/keyrings/stand-in.gpg"
    on_host rm /etc/apt/sources.list.d/stand-in.list
    doctor
    expect_exit 0

    case_ "and where there is gpg, nothing is left behind of it either"
    doctor
    take_listing
    doctor
    expect_same_listing

    case_ "a lock of apt's is named with its holder"
    package_manager_at_work 30
    await_that testbed exec plain sh -c 'grep -q ":$(ls -i /var/lib/dpkg/lock-frontend | cut -d" " -f1) " /proc/locks'
    doctor
    expect_exit 0
    expect_output "perl is at work with packages and holds apt's lock"

    case_ "a folder that is closed to others is opened again, and files of root's in the home are named"
    on_host sh -c 'chmod 755 /var/tmp; mkdir -p /home/ubuntu/.cache && touch /home/ubuntu/.cache/of-root'
    doctor
    expect_exit 1
    expect_output "/var/tmp is not a folder where everybody may write"
    expect_output "/home/ubuntu/.cache/of-root belongs to somebody else"
    doctor --fix -y
    expect_exit 0
    expect_output "Repaired: tmp-closed."
    on_host stat -c %a /var/tmp
    expect_output 1777
    on_host rm -r /home/ubuntu/.cache

    case_ "a proxy that nobody is behind"
    on_host sh -c 'echo "Acquire::http::Proxy \"http://127.0.0.1:9\";" >/etc/apt/apt.conf.d/90proxy'
    doctor
    expect_exit 1
    expect_output "a proxy is set that takes no connection"
    expect_output "silent 127.0.0.1:9"
    on_host rm /etc/apt/apt.conf.d/90proxy

    case_ "a sudo that was broken"
    on_host chmod 666 /etc/sudoers
    doctor
    expect_exit 1
    expect_output "sudo does not work"
    expect_output "/etc/sudoers is world writable"
    on_host chmod 440 /etc/sudoers

    case_ "sources that contradict each other, as apt says it"
    on_host sh -c 'mkdir -p /srv/repo; for k in one two; do touch /usr/share/keyrings/$k.gpg
        echo "deb [signed-by=/usr/share/keyrings/$k.gpg] file:/srv/repo ./" >/etc/apt/sources.list.d/$k.list; done'
    doctor
    expect_exit 1
    expect_output "two files name the same repository with different keys"
    expect_output "Conflicting values set for option Signed-By"
    on_host rm /etc/apt/sources.list.d/one.list /etc/apt/sources.list.d/two.list

    case_ "a repository whose list never came, and settings of apt that cannot be read"
    on_host sh -c 'apt-get update -qq; echo "deb http://mirror.example/repository nosuchrelease main" >/etc/apt/sources.list.d/none.list'
    doctor
    expect_exit 0
    expect_output "apt has no list of a repository"
    expect_output "dists/nosuchrelease/InRelease"
    on_host rm /etc/apt/sources.list.d/none.list
    on_host sh -c 'echo "APT::Foo { bar" >/etc/apt/apt.conf.d/99broken'
    doctor
    expect_exit 1
    expect_output "a file of apt's settings cannot be read"
    expect_output "/etc/apt/apt.conf.d/99broken"
    on_host rm /etc/apt/apt.conf.d/99broken

    case_ "a database of dpkg that was cut short is no reason to install all anew"
    on_host sh -c 'cp /var/lib/dpkg/status /root/whole; head -c 3000 /root/whole >/var/lib/dpkg/status'
    doctor
    expect_exit 1
    expect_output "dpkg's database has been cut or emptied"
    expect_no_output "fix-broken"
    on_host cp /root/whole /var/lib/dpkg/status

    case_ "a host without a way out says so, and not that names fail"
    on_host sh -c 'ip route show default >/root/route; ip route del default'
    doctor
    expect_exit 1
    expect_output "the host has no default route"
    expect_no_output "[names]"
    on_host sh -c 'ip route add $(cat /root/route)'

    case_ "certificates that are gone come back"
    on_host sh -c 'cp -a /etc/ssl/certs /root/certs; : >/etc/ssl/certs/ca-certificates.crt'
    doctor
    expect_exit 1
    expect_output "the certificates of CAs are missing"
    on_host sh -c 'rm -r /etc/ssl/certs; mv /root/certs /etc/ssl/certs'

    case_ "a folder from which nothing may be run is opened"
    on_host mount -o remount,noexec /tmp
    doctor --fix tmp-noexec -y
    expect_exit 0
    expect_output "nothing may be run from /tmp"
    expect_output "Repaired: tmp-noexec."

    case_ "login files that leave no PATH are named with their line, and hold nothing else up"
    as_login sh -c 'cp ~/.bashrc ~/.bashrc.whole; { echo "export PATH=/usr/local/cuda/bin"; cat ~/.bashrc.whole; } >~/.bashrc'
    doctor
    expect_exit 1
    expect_output "[login-files-break-commands]"
    expect_output "/home/ubuntu/.bashrc:1:export PATH=/usr/local/cuda/bin"
    expect_output "possible faults looked at"
    gpustrap status "$host" -i "$key"
    expect_exit 0

    case_ "a login shell that ends before the command is a finding, and a document"
    as_login sh -c '{ echo "exit 0"; cat ~/.bashrc.whole; } >~/.bashrc'
    doctor
    expect_exit 1
    expect_output "the login shell ended (exit 0) before it came to the command"
    doctor --json
    expect_exit 1
    expect_output '"login-files-break-commands"'
    doctor --fix -y
    expect_output "the login shell ended (exit 0) before it came to the command"
    gpustrap status "$host" -i "$key"
    expect_output "before it came to the command"
    expect_output "/etc/bash.bashrc (bash)"

    case_ "another shell in the place of the login shell is told from one that waits"
    as_login sh -c '{ echo "exec sh"; cat ~/.bashrc.whole; } >~/.bashrc'
    doctor
    expect_exit 1
    expect_output "the login shell started another one in its place"
    as_login sh -c '{ echo "sleep 300"; cat ~/.bashrc.whole; } >~/.bashrc'
    doctor
    expect_exit 1
    expect_output "the login shell does not come to the command"
    as_login mv /home/ubuntu/.bashrc.whole /home/ubuntu/.bashrc

    case_ "a /dev/null that is a file is found, and nothing is said to be broken that is not"
    on_host sh -c 'rm -f /dev/null; echo >/dev/null; chmod 644 /dev/null'
    doctor
    expect_exit 1
    expect_output "/dev/null is not the device that it should be"
    expect_no_output "[sudo-broken]"
    expect_no_output "[no-route]"
    doctor --fix null-device -y
    expect_exit 0
    expect_output "Repaired: null-device."
    on_host test -c /dev/null
    expect_exit 0

    case_ "what every program takes for granted is looked at"
    on_host sh -c 'chmod 600 /etc/passwd; cp /etc/hosts /root/hosts; sed -i /localhost/d /etc/hosts; ip link set lo down
        ln -s python3.8 /usr/local/bin/python3; echo /usr/lib/gone.so >/etc/ld.so.preload'
    doctor
    expect_exit 1
    local id
    for id in files-closed localhost loopback-down python-gone preload-missing; do expect_output "[$id]"; done
    expect_no_output "[driver-blacklisted]"
    # Root of such a host may not set its links.
    on_host ip link set lo up
    doctor --fix files-closed localhost python-gone preload-missing -y
    expect_exit 0
    expect_output "Healthy: "
    on_host cp /root/hosts /etc/hosts

    case_ "a login that may start few programs is told so, and of nothing that could not be asked"
    # A user of its own: the kernel counts the processes of a number, those of other hosts' users on this machine, too.
    on_host sh -c 'useradd -m -s /bin/bash -u 48151 few; cp -r /home/ubuntu/.ssh /home/few/; chown -R few: /home/few/.ssh
        echo "few - nproc 15" >/etc/security/limits.d/few.conf'
    gpustrap doctor "few@$address" -i "$key"
    expect_exit 1
    expect_output "[process-limit]"
    expect_output "/etc/security/limits.d/few.conf:1:few - nproc 15"
    for id in no-route apt-no-sources certificates-missing; do expect_no_output "[$id]"; done
    on_host sh -c 'rm /etc/security/limits.d/few.conf; userdel -f -r few >/dev/null 2>&1; true'

    case_ "a program of the system's that is gone is all that is found"
    on_host mv /usr/bin/sort /usr/bin/sort.away
    doctor
    expect_exit 1
    expect_output "sort: not found"
    expect_output "1 error; 2 possible faults looked at"
    on_host mv /usr/bin/sort.away /usr/bin/sort

    case_ "sources that name a release misspelt are corrected, and a resolv.conf that leads nowhere is said to"
    on_host sh -c 'cp /etc/apt/sources.list /root/; sed -i "s/$(. /etc/os-release; echo $VERSION_CODENAME)/misspelt/" /etc/apt/sources.list'
    doctor --fix apt-release -y
    expect_output "name a release misspelt that does not exist"
    expect_output "Repaired: apt-release."
    on_host sh -c 'cp /root/sources.list /etc/apt/; mv /etc/resolv.conf /root/; ln -s /run/nowhere /etc/resolv.conf'
    doctor
    expect_exit 1
    expect_output "/etc/resolv.conf is a link to /run/nowhere, which is not there"
    on_host sh -c 'rm /etc/resolv.conf; mv /root/resolv.conf /etc/'

    case_ "a disk in memory that is full is not cleaned by apt"
    on_host sh -c 'mount -t tmpfs -o size=1M small /opt; head -c 2M /dev/zero >/opt/all; true'
    doctor
    expect_exit 1
    expect_output "/opt: 100 % used"
    expect_output "du -xh --max-depth=2 /opt"
    expect_no_output "apt-get clean"
    on_host umount /opt

    case_ "a sudo that wants a terminal, an sshd that forwards nothing, and preferences that apt cannot read"
    on_host sh -c 'echo "Pin: x" >/etc/apt/preferences.d/pin; cp /etc/ssh/sshd_config /root/; sed -i "1i AllowTcpForwarding no" /etc/ssh/sshd_config'
    doctor
    expect_exit 1
    expect_output "[apt-preferences]"
    expect_output "[forwarding-off]"
    on_host sh -c 'rm /etc/apt/preferences.d/pin; cp /root/sshd_config /etc/ssh/; echo "Defaults requiretty" >/etc/sudoers.d/aa; chmod 440 /etc/sudoers.d/aa'
    doctor
    expect_exit 1
    expect_output "[sudo-terminal]"
    expect_no_output "[sudo-broken]"
    on_host rm /etc/sudoers.d/aa

    case_ "an index of pip that nobody is behind"
    as_login sh -c 'mkdir -p ~/.config/pip; printf "[global]\nindex-url = http://127.0.0.1:9/simple\n" >~/.config/pip/pip.conf'
    doctor
    expect_output "pip is set to an index that takes no connection"
    expect_output "silent 127.0.0.1:9"
    as_login sh -c 'rm -r ~/.config/pip'

    case_ "a user without sudo is told what could not be seen"
    boot_host nosudo --sudo none --gpu t4 --machine
    take_listing
    doctor
    expect_exit 1
    expect_output "no NVIDIA driver is installed"
    expect_output "Not known, since it needs root"
    expect_output "xid-hardware"
    expect_same_listing

    case_ "sudo's password is asked for where that is wanted"
    boot_host asks --sudo password --gpu none --machine
    doctor
    expect_exit 0
    expect_output "Not known, since it needs root"
    at_terminal "Password of sudo" "$password" doctor --ask-sudo-password
    expect_exit 0
    expect_no_output "since it needs root"
    at_terminal "Password of sudo" wrong doctor --ask-sudo-password
    expect_exit 6
    expect_output "sudo refuses"

    local shell
    for shell in fish zsh; do
        case_ "a login shell that is $shell, and that chats at every login"
        # shellcheck disable=SC2016 # meant as it stands
        boot_host "$shell" --shell "$shell" --gpu none --machine --banner 'Welcome! "Authorised" users only; $HOME is `watched`'
        doctor
        expect_exit 0
        expect_output "Healthy: "
    done

    case_ "a disk that is full to the last byte, where no agent could be sent"
    boot_host full --disk 40M --gpu none --machine
    on_host sh -c 'head -c 100M /dev/zero >/var/ballast; true'
    doctor
    expect_exit 1
    expect_output "error: a disk is full"
    expect_output "/: 100 % used"
    on_host rm /var/ballast

    case_ "a disk without inodes"
    on_host mount -t tmpfs -o size=50M,nr_inodes=200,mode=1777 many /opt
    on_host sh -c 'i=0; while [ $i -lt 300 ]; do touch /opt/$i || break; i=$((i + 1)); done 2>/dev/null; true'
    doctor
    expect_exit 1
    expect_output "has no more inodes"
    expect_output "/opt: "
    on_host umount /opt

    case_ "a read-only system is looked at like any other"
    on_host sh -c "mount --bind /home /home && mount -o remount,bind,ro /home"
    doctor
    expect_exit 1
    expect_output "a file system is mounted read-only"

    case_ "a GPU that nouveau holds explains why there is no driver"
    boot_host gpu --gpu t4 --machine
    on_host sh -c 'mkdir -p /run/nouveau && rm -f /usr/share/gpustrap-testbed/pci/*/driver && ln -s /run/nouveau /usr/share/gpustrap-testbed/pci/0000:10:00.0/driver'
    doctor
    expect_exit 1
    expect_output "nouveau, the free driver that cannot compute, holds the GPU"
    expect_output "explains as well: driver-missing"
    expect_no_output "error: no NVIDIA driver"
    on_host rm /usr/share/gpustrap-testbed/pci/0000:10:00.0/driver

    case_ "a driver's files tell that it was upgraded under the loaded one, or lost its link"
    loaded_driver 580.95.05
    libraries_of 580.105.08
    doctor
    expect_exit 1
    expect_output "the driver was upgraded while the old one was loaded"
    expect_output "libnvidia-ml.so.1 580.105.08"
    on_host sh -c 'printf "#!/bin/sh\n# Stand-in for a test.\necho \"Failed to initialize NVML: Driver/library version mismatch\"\nexit 18\n" >/usr/bin/nvidia-smi; chmod 0755 /usr/bin/nvidia-smi'
    doctor
    expect_exit 1
    expect_output "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch"
    on_host ln -sfn /usr/local/cuda-99 /usr/local/cuda
    doctor
    expect_output "/usr/local/cuda leads to a toolkit that is gone"

    case_ "a host that is not there, and one that does not let anybody in"
    gpustrap doctor "ubuntu@${address%.*}.250" -i "$key" --wait 1s
    expect_exit 4
    gpustrap doctor "nobody@$address" -i "$key" --accept-new-host-key
    expect_exit 6

    case_ "the list of what it looks at needs no host"
    gpustrap doctor --list
    expect_exit 0
    expect_output driver-mismatch
    [ "$(wc -l <stdout)" -ge 30 ] || fail_case "fewer than 30 classes"
}

doctor() { gpustrap doctor "$host" -i "$key" --accept-new-host-key "$@"; }

# What files of a host may say, and whose part behind the key no output may have.
said_with_secrets() {
    cat <<'LINES'
http_proxy=http://me:hunter2@proxy.example.org:3128
Acquire::http::Proxy "http://me:hunter2@proxy.example.org:3128";
deb https://me:hunter2@registry.example.org/debian stable main
c.ServerApp.token = 'hunter2'
c.ServerApp.password = u'argon2:hunter2'
"auth": {"registry.example.org": {"password": "hunter2"}}
jupyter lab --NotebookApp.token hunter2 --port 8888
HUB_TOKEN=hunter2 AWS_SECRET_ACCESS_KEY=hunter2
API_KEY: "hunter2 and more"
port = 8888
LINES
}

# The script as sshd would run it, by another shell.
probe_by() {
    { echo && cat "$repository/controller/doctor/probe.sh"; } |
        testbed exec "$host_name" runuser --user "$user" -- sh -c "$1 -c 'IFS= read -r word; script=\$(cat); eval \"\$script\"'"
}

sections() { grep '^@section ' "$1" | cut -d' ' -f2,3; }

notebook_stand_in() {
    cat <<'SCRIPT'
#!/usr/bin/perl
# Stand-in for a test: listens as a notebook would, and says nothing.
use Socket;
socket(S, PF_INET, SOCK_STREAM, 0) or die;
bind(S, sockaddr_in(8899, INADDR_ANY)) or die;
listen(S, 1) or die;
sleep 600;
SCRIPT
}

# A package whose script fails for as long as a file is there.
half_installed() {
    on_host sh -c 'mkdir -p /tmp/half/DEBIAN && cd /tmp && touch /etc/half-fails &&
        printf "Package: half\nVersion: 1\nArchitecture: all\nMaintainer: A test <test@example.org>\nDescription: stand-in for a test\n" >half/DEBIAN/control &&
        printf "#!/bin/sh\ntest ! -e /etc/half-fails\n" >half/DEBIAN/postinst && chmod 0755 half/DEBIAN/postinst &&
        dpkg-deb --build half >/dev/null && ! dpkg -i half.deb && rm -r half half.deb'
    expect_exit 0
}

# A key that was good for a day, a week ago, and a source that names it.
expired_key() {
    on_host sh -c 'export GNUPGHOME=$(mktemp -d) && gpg --batch --quiet --faked-system-time "$(date -u -d "-7 days" +%Y%m%dT%H%M%S)" \
        --pinentry-mode loopback --passphrase "" --quick-gen-key "Stand-in (throw-away, for a test) <stand-in@example.org>" ed25519 sign 1d &&
        gpg --batch --export >/usr/share/keyrings/stand-in.gpg && rm -rf "$GNUPGHOME" &&
        echo "deb [signed-by=/usr/share/keyrings/stand-in.gpg] file:/srv/stand-in ./" >/etc/apt/sources.list.d/stand-in.list'
    expect_exit 0
}

# What is seen in /proc of a driver that is loaded.
loaded_driver() {
    on_host sh -c "mount -t tmpfs stand-in /proc/driver && mkdir /proc/driver/nvidia &&
        echo 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  $1  Stand-in' >/proc/driver/nvidia/version"
    expect_exit 0
}

# Libraries of the names that a driver has, with nothing in them, known to ld.so.
libraries_of() {
    local name
    for name in libcuda libnvidia-ml; do
        gcc -shared -x c /dev/null -Wl,-soname,$name.so.1 -o "$suite_dir/$name"
        testbed exec "$host_name" sh -c "cat >/usr/lib/x86_64-linux-gnu/$name.so.$1" <"$suite_dir/$name"
    done
    on_host ldconfig
    expect_exit 0
}
