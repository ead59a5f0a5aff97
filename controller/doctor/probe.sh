# shellcheck shell=sh disable=SC2010,SC2012,SC2013,SC2016,SC2154
# What `gpustrap doctor` asks a host, in one go. POSIX sh: dash, busybox sh and bash run it from a variable, as what is on a full or read-only
# disk could not be written anywhere. It only reads: no file, no package list, no module, no device node is made by it. Every command that
# could hang is bounded in time where the host has `timeout`, and in bytes. Passwords and tokens do not leave the host.
#
# Output: "gpustrap-probe 1", then sections: "@section NAME STATUS BYTES", so many bytes, a newline; then "@end COUNT". controller/doctor/
# evidence.cc reads it. $part is `login` (all of it, begun as who logged in), or `rest` (what root sees). $word and $script come from
# probe.cc: sudo's password or nothing, and this text. $now is what the controller's clock says.

given=$PATH
LC_ALL=C LANGUAGE=C PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin:/opt/bin
export LC_ALL LANGUAGE PATH
# Where /dev/null is broken, a command whose output goes there is not even run. /dev/zero swallows as well.
null=/dev/null
{ [ -c /dev/null ] && [ -w /dev/null ]; } || null=/dev/zero
unset LD_PRELOAD GREP_OPTIONS BASH_ENV ENV
count=0

# Run by the shell itself until `timeout` is known to be there.
bound() { shift; "$@"; }

have() { command -v "$1" >"$null" 2>&1; }

# As many processes at once as a question may need, by forks alone: "deep" where all of them came to be.
deep() { echo deep | again | again | again | again | again | again | again | again | again | again; }
again() { IFS= read -r a_line && echo "$a_line"; }

# Asks, and says behind the answer with which status it ended. Where processes cannot be made, an answer is none: a shell that cannot fork is
# gone before it comes to the mark, and programs that are missing from a pipe leave it empty.
answer() {
  "$@"
  a_status=$?
  [ "$(deep)" = deep ] || a_status=125
  echo "@:$a_status"
}

# sec NAME BYTES COMMAND…: what it says on both outputs, and its status: 125 where it did not come to its end. The mark comes behind the text,
# and again behind what was cut. What ld.so says of a broken /etc/ld.so.preload, in every program's name, is nobody's answer.
sec() {
  s_name=$1 s_most=$2
  shift 2
  s_out=$({ : | answer "$@" 2>&1; } | sed '/^ERROR: ld\.so: object /d' | tr -d '\000' | { head -c "$s_most"; tail -c 6; })
  case $s_out in
    *@:[0-9] | *@:[0-9][0-9] | *@:[0-9][0-9][0-9]) s_status=${s_out##*@:} s_out=${s_out%@:*} ;;
    *) s_status=125 ;;
  esac
  plain_sec "$s_name" "$s_status" "$s_out"
}
plain_sec() {
  printf '@section %s %s %s\n%s\n' "$1" "$2" "${#3}" "$3"
  count=$((count + 1))
}

# cmd NAME BYTES COMMAND…: the same for a program, in at most 10 s; 127 where there is none.
cmd() {
  c_name=$1 c_most=$2
  shift 2
  if have "$1"; then sec "$c_name" "$c_most" bound 10 "$@"; else sec "$c_name" 100 absent "$1"; fi
}
absent() { echo "$1: not found"; return 127; }

# What is said in files, and to programs, of secrets and addresses with passwords. An empty secret stays: that there is none is a finding.
secrets='(token|password|passwd|secret|api_?key|access_?key)'
masked() {
  sed -E -e "s#(://|proxy[\"'=: ]+)[^/ ]*@#\\1***@#gI" \
    -e 's#/t/[^/ ]{6,}#/t/***#g' \
    -e "s/(--[a-z0-9_.-]*${secrets}) [^\"' -][^\"' ]*/\\1 ***/gI" \
    -e "s/(${secrets}[\"']?[]) :=]+[a-z_.]*[(]?\")([^\"\\]|\\\\.)+(\"|\$)/\\1***\"/gI" \
    -e "s/(${secrets}[\"']?[]) :=]+[a-z_.]*[(]?')([^'\\]|\\\\.)+('|\$)/\\1***'/gI" \
    -e "s/(${secrets}=)[^\"' ]+/\\1***/gI"
}

# Lines of files that match, with the file's name; none is no failure.
lines_of() {
  l_what=$1
  shift
  for l_file in "$@"; do
    [ -f "$l_file" ] && [ -r "$l_file" ] && grep -E -H -n -- "$l_what" "$l_file" | masked
  done
  return 0
}

# ---- whether this shell can ask at all

nl='
'
said=
say() { said=$said$1$nl; }

# What a process of this login may have, and who says so; by the shell's own words alone, since each program may be one too many.
limits() {
  if [ -r /proc/self/status ]; then
    while read -r l_name l_value _; do [ "$l_name" != Uid: ] || say "uid $l_value"; done </proc/self/status
  fi
  if [ -r /proc/self/limits ]; then
    while read -r _ l_name l_rest; do
      case $l_name in processes | open | address) say "limit $l_name $l_rest" ;; esac
    done </proc/self/limits
  fi
  for l_file in /etc/security/limits.conf /etc/security/limits.d/*.conf; do
    [ -r "$l_file" ] || continue
    l_number=0
    while read -r l_who l_kind l_item l_value _; do
      l_number=$((l_number + 1))
      case $l_who-$l_item in
        '#'*) ;;
        *-nproc | *-nofile | *-as) [ "${#said}" -ge 3000 ] || say "set $l_file:$l_number:$l_who $l_kind $l_item $l_value" ;;
      esac
    done <"$l_file"
  done
}

# One that gives another answer than it must makes all other answers worthless.
asked() { [ "$2" = "$3" ] || fails "$1" "$({ "$1" --version; } 2>&1)"; }
fails() {
  f_words=${2%%"$nl"*}
  case $f_words in 'ERROR: ld.so'*) f_words= ;; esac
  say "fails $1 $f_words"
}
programs() {
  # The deepest question has a pipe, in a pipe, in what is caught of it.
  p_deep=$(deep | { again | { again | { again | again; }; }; } | again | again | again)
  [ "$p_deep" = deep ] || { fails processes ""; return; }
  asked cat a "$(echo a | cat)"
  asked grep b "$(printf 'a\nb\n' | grep -E -v '^a')"
  asked sed acb "$(echo ab | sed -E 's/(a)(b)/\1c\2/')"
  asked head a "$(printf 'a\nb\n' | head -n 1)"
  asked tail b "$(printf 'a\nb\n' | tail -n 1)"
  asked tr b "$(echo a | tr a b)"
  asked cut b "$(echo 'a b' | cut -d' ' -f2)"
  asked sort "a${nl}b" "$(printf 'b\na\nb\n' | sort -u)"
  asked uniq b "$(printf 'a\nb\nb\n' | uniq -d)"
  p_said=$(echo a | wc -c)
  asked wc 2 "${p_said##* }"
  asked ls / "$(ls -d /)"
  asked uname Linux "$(uname -s)"
  for p_name in id date; do
    case $p_name in id) p_said=$(id -u) ;; *) p_said=$(date +%s) ;; esac
    case $p_said in '' | *[!0-9]*) asked "$p_name" number "$p_said" ;; esac
  done
  p_said=$(echo | cat 2>&1)
  [ -z "$p_said" ] || say "noise ${p_said%%"$nl"*}"
}

# ---- as who logged in

who() {
  echo "uid $(id -u)"
  echo "user $(id -un 2>"$null")"
  echo "home $HOME"
  echo "shell $SHELL"
  echo "groups $(id -Gn 2>"$null")"
  echo "rights $1"
  echo "library-path $LD_LIBRARY_PATH"
  echo "path $given"
  (PATH=$given && command -v ls >"$null" 2>&1 && command -v uname >"$null" 2>&1) || echo "path-lacks ls uname"
  [ -z "$PYTHONHOME" ] || echo "PYTHONHOME $PYTHONHOME"
  [ -z "$PYTHONPATH" ] || echo "PYTHONPATH $PYTHONPATH"
  [ ! -e /etc/resolv.conf ] || [ -r /etc/resolv.conf ] || echo "unreadable $(ls -l /etc/resolv.conf)"
  [ -z "$2" ] || printf '%s\n' "$2" | head -n 4 | sed 's/^/sudo-said /'
}

# Folders whose mode or owner breaks other programs.
folders() {
  ls -ldn /tmp /var/tmp "$HOME" "$HOME/.ssh" 2>"$null"
  bound 5 find "$HOME" -maxdepth 2 ! -user "$(id -u)" 2>"$null" | head -n 12 | sed 's/^/foreign /'
  return 0
}

login_files() {
  lines_of '^[^#]*(LD_LIBRARY_PATH|CUDA_VISIBLE_DEVICES|CUDA_HOME|LD_PRELOAD|PYTHONHOME|PYTHONPATH)' "$HOME/.bashrc" "$HOME/.profile" \
    "$HOME/.bash_profile" "$HOME/.bash_login" "$HOME/.bash_aliases" "$HOME/.zshrc" "$HOME/.zprofile" "$HOME/.zshenv" \
    "$HOME/.config/fish/config.fish"
}
# Of the files that are read before every command, what they do to PATH.
login_path() {
  lines_of '^([^#]*[^A-Za-z_#])?PATH([ =]|$)' /etc/environment "$HOME/.bashrc" /etc/bash.bashrc "$HOME/.zshenv" /etc/zsh/zshenv \
    "$HOME/.config/fish/config.fish" "$HOME/.ssh/environment"
}

# What every program takes for granted.
basics() {
  for f in /dev/null /dev/zero /dev/urandom; do
    if [ -e "$f" ]; then echo "device $f $(ls -ln "$f")"; else echo "device $f missing"; fi
  done
  for f in /etc/passwd /etc/group /etc/hosts /etc/nsswitch.conf /etc/ld.so.cache /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$f" ] || [ -r "$f" ] || echo "unreadable $f $(ls -ld "$f")"
  done
  for w in $(sed 's/#.*//' /etc/ld.so.preload 2>"$null" | tr ':' ' '); do
    case $w in *\$*) ;; /*) [ -e "$w" ] || echo "preload-missing $w" ;; esac
  done
  v=
  have dpkg-query && v=$(bound 5 dpkg-query -W -f '${db:Status-Abbrev}${Version}' python3-minimal 2>"$null")
  for f in /usr/bin/python3 /usr/local/bin/python3; do
    [ ! -e "$f" ] || continue
    if [ -L "$f" ]; then echo "python-gone $f $(readlink "$f")"
    else case $f-$v in /usr/bin/python3-i*) echo "python-gone $f nothing" ;; esac; fi
  done
  case $v in i*) echo "python-packaged ${v##* }" ;; esac
  for f in /usr/bin/python3.[0-9]*; do case ${f##*python3.} in *[!0-9]*) ;; *) [ -x "$f" ] && echo "python $f" ;; esac; done
  environments | while IFS= read -r e; do
    [ -f "$e/pyvenv.cfg" ] || continue
    for f in "$e"/bin/python "$e"/bin/python3*; do
      { [ -L "$f" ] && [ ! -e "$f" ]; } || continue
      case $(readlink "$f") in /*) echo "venv-gone $(readlink "$f") $e"; break ;; esac
    done
  done
  return 0
}

conda_prefixes() {
  for p in "$HOME/conda" "$HOME/miniconda3" "$HOME/miniconda" "$HOME/anaconda3" "$HOME/miniforge3" "$HOME/mambaforge" "$HOME/micromamba" \
    /opt/conda /opt/miniconda3 /opt/miniforge3 /opt/anaconda3; do
    [ -d "$p/conda-meta" ] && echo "$p"
  done
}

environments() {
  {
    for p in $(conda_prefixes); do
      echo "$p"
      for e in "$p"/envs/*; do [ -d "$e/conda-meta" ] && echo "$e"; done
    done
    [ -r "$HOME/.conda/environments.txt" ] && head -n 40 "$HOME/.conda/environments.txt"
    for e in "$HOME"/*/pyvenv.cfg "$HOME"/.*/pyvenv.cfg "$HOME"/*/*/pyvenv.cfg /opt/*/pyvenv.cfg; do [ -f "$e" ] && echo "${e%/pyvenv.cfg}"; done
    for e in "$HOME/.local" /usr/local /usr; do echo "$e"; done
  } | sort -u | head -n 60
}

# No Python is started: names of folders and two small files say it.
python_packages() {
  environments | while IFS= read -r e; do
    for s in "$e"/lib/python3*/site-packages "$e"/lib/python3*/dist-packages "$e"/lib64/python3*/site-packages; do
      [ -d "$s" ] || continue
      [ -L "${s%/*/*}" ] && continue
      for d in "$s"/torch-*.dist-info "$s"/tensorflow-*.dist-info "$s"/tensorflow_*.dist-info "$s"/jax*-*.dist-info "$s"/mxnet*-*.dist-info \
        "$s"/cupy*-*.dist-info "$s"/nvidia_cudnn*-*.dist-info "$s"/nvidia_cuda_runtime*-*.dist-info "$s"/jupyter_server-*.dist-info \
        "$s"/numpy-*.dist-info; do
        [ -d "$d" ] && echo "$e: ${d##*/}"
      done
      [ -f "$s/torch/version.py" ] && grep -E '^(__version__|cuda|hip)\b' "$s/torch/version.py" | sed "s#^#$e: torch/version.py: #"
      for l in "$e"/lib/libcudnn.so.*; do [ -e "$l" ] && { echo "$e: lib/libcudnn"; break; }; done
      b=$s/tensorflow/python/platform/build_info.py
      [ -f "$b" ] && grep -o -E "\"?'?(cuda_version|cudnn_version|cuda_compute_capabilities|is_cuda_build)\"?'?[^)}]*" "$b" | head -n 8 |
        cut -c 1-400 | sed "s#^#$e: tensorflow/build_info: #"
    done
  done
  return 0
}

conda_state() {
  for p in $(conda_prefixes); do
    for m in "$p"/conda-meta/conda-[0-9]*.json "$p"/conda-meta/conda-anaconda-tos-*.json "$p"/conda-meta/mamba-[0-9]*.json; do
      [ -f "$m" ] && echo "$p: has ${m##*/}"
    done
    lines_of 'defaults|conda-forge|repo.anaconda.com|nodefaults|^channels|plugins|auto_accept' "$p/.condarc"
    grep -l -s -r 'tos_accepted.*true' "$p/conda-meta/tos" | sed "s#^#accepted #"
  done
  lines_of 'defaults|conda-forge|repo.anaconda.com|nodefaults|^channels|plugins|auto_accept' "$HOME/.condarc" /etc/conda/.condarc
  grep -l -s -r 'tos_accepted.*true' "$HOME/.conda/tos" "$HOME/.config/conda/tos" /etc/conda/tos /var/lib/conda/tos | sed "s#^#accepted #"
  return 0
}

# As who logged in: root's own look may leave files beside the database.
rpm_state() {
  # busybox has an rpm of its own, and hosts with dpkg may have one to look into files.
  { have rpm && { [ -e /var/lib/rpm ] || [ -e /usr/lib/sysimage/rpm ]; }; } || { absent rpm; return; }
  all=$(bound 20 rpm -qa --qf '%{NAME}.%{ARCH} %{VERSION}-%{RELEASE}\n' 2>&1)
  r=$?
  printf '%s\n' "$all" | grep -i -E '^(error|warning):' | head -n 6
  printf '%s\n' "$all" | grep -v -i -E '^(error|warning|kernel|gpg-pubkey|kmod-)' | cut -d' ' -f1 | sort | uniq -d | head -n 20 | sed 's/^/twice /'
  printf '%s\n' "$all" | grep -i -E '^(nvidia|cuda|kmod-nvidia|libnvidia|libcudnn|libnccl|docker|dnf-automatic|dkms)' | head -n 80 | sed 's/^/has /'
  grep -s -E '^[^#]' /etc/dnf/plugins/versionlock.list /etc/yum/pluginconf.d/versionlock.list | head -n 20 | sed 's/^/locked /'
  grep -s -E '^(exclude|excludepkgs)' /etc/dnf/dnf.conf /etc/yum.conf | sort -u | head -n 4 | sed 's/^/excluded /'
  for f in /run/dnf.pid /run/yum.pid /var/cache/dnf/*.pid; do
    [ -r "$f" ] && read -r l <"$f" && [ -d "/proc/$l" ] && echo "busy $l $(cat "/proc/$l/comm")"
  done
  ls -d /var/lib/yum/transaction-all.* 2>"$null" | sed 's/^/unfinished /'
  return "$r"
}

rpm_sources() {
  for f in /etc/yum.repos.d/*.repo; do
    [ -r "$f" ] && grep -H -E '^(\[|baseurl|enabled)' "$f" | masked
  done
  return 0
}

jupyter_config() {
  lines_of '^[^#]*(ip|token|password|hashed_password|password_required|allow_origin|certfile|port)[]"'\'']? *[:=]' \
    "$HOME"/.jupyter/jupyter_*config.py "$HOME"/.jupyter/jupyter_*config.json /etc/jupyter/jupyter_*config.* \
    /usr/local/etc/jupyter/jupyter_*config.* "$HOME"/*/etc/jupyter/jupyter_*config.* "$HOME"/.local/etc/jupyter/jupyter_*config.*
}

# ---- with root's rights, where there are any

system() {
  uname -s -r -m
  cat /etc/os-release /usr/lib/os-release 2>"$null" | grep -E '^(ID|VERSION_ID|VERSION_CODENAME|PRETTY_NAME)=' | sort -u
  echo "clock $(date +%s)"
  sed -n 's/^CapEff:[^0-9a-f]*/capabilities /p' /proc/self/status 2>"$null"
  echo "uptime $(cut -d' ' -f1 /proc/uptime)"
  echo "pid1 $(cat /proc/1/comm 2>"$null")"
  c=no
  if [ -e /run/systemd/container ] || [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then c=yes; fi
  echo "container $c"
  grep -q -s -i microsoft /proc/sys/kernel/osrelease && echo "wsl yes"
  echo "instance $(cat /sys/class/dmi/id/product_name 2>"$null")"
  return 0
}

# ADDRESS DEVICE CLASS SUBSYSTEM DRIVER, of NVIDIA's functions alone.
pci() {
  for d in /sys/bus/pci/devices/*; do
    read -r v <"$d/vendor" || continue
    [ "$v" = 0x10de ] || continue
    read -r i <"$d/device"
    read -r k <"$d/class"
    read -r u <"$d/subsystem_device"
    w=$(readlink "$d/driver")
    echo "${d##*/} ${i#0x} ${k#0x} ${u#0x} ${w##*/}"
  done 2>"$null"
  [ -d /sys/bus/pci/devices ]
}

module_files() {
  for k in /lib/modules/*; do
    [ -d "$k" ] && bound 10 find "$k" -name 'nvidia.ko*' 2>"$null" | head -n 4
  done
  return 0
}

headers() {
  k=$(uname -r)
  [ -e "/lib/modules/$k/build/Makefile" ] && echo "headers $k yes" || echo "headers $k no"
  have dkms && echo "dkms yes"
  have gcc && echo "gcc yes"
  have make && echo "make yes"
  for l in /var/lib/dkms/nvidia*/*/build/make.log; do
    [ -f "$l" ] || continue
    echo "log $l"
    grep -E -i 'error|fatal|Kernel preparation' "$l" | tail -n 6 | cut -c 1-300
  done
  return 0
}

# nvidia-smi would load the module, and make what is missing in /dev: it is asked where both are there, or where there is no module that it
# could load (a driver from outside, tools alone).
nothing_to_load() {
  [ ! -d /sys/module/nvidia ] || return 1
  [ -e /proc/driver/nvidia/version ] || ! bound 5 modinfo -n nvidia >"$null" 2>&1
}
smi() {
  have nvidia-smi || { absent nvidia-smi; return; }
  [ -z "$smi_hangs" ] || { echo "not asked: nvidia-smi hangs"; return 124; }
  [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || nothing_to_load || { echo "not run: there is no /dev/nvidiactl"; return 126; }
  # One that waits in the kernel for a broken GPU cannot be killed, nor waited for: it is left behind, and its pipe too.
  m_out=$({ { bound 20 nvidia-smi "$@"; echo "@$?"; } 2>&1 & } | bound 23 cat)
  case $m_out in *@[0-9] | *@[0-9][0-9] | *@[0-9][0-9][0-9]) ;; *) m_out=$m_out@124 ;; esac
  printf '%s' "${m_out%@*}"
  return "${m_out##*@}"
}

devices() { ls -l /dev/nvidia* /dev/dxg 2>"$null" | cut -c 1-120; echo looked; }

kernel_log() {
  l=$(bound 10 dmesg 2>"$null") && [ -n "$l" ] || l=$(bound 10 journalctl -k -b -q -o short-monotonic --no-pager 2>"$null" | tail -n 20000)
  [ -n "$l" ] || { echo "the kernel's log cannot be read"; return 77; }
  printf '%s\n' "$l" | grep -E -i 'NVRM|nvidia|nouveau|Xid|AER:|out of memory|oom-kill|oom_reaper|key was rejected|module verification|unavailable key|unsigned module|lockdown|I/O error|remounting filesystem|fallen off|clocksource|Secure boot' |
    tail -n 160 | cut -c 1-300
  return 0
}

# What keeps a module from being loaded.
module_settings() {
  lines_of '^[[:space:]]*(blacklist[[:space:]]+nvidia([-_](drm|uvm|modeset))?[[:space:]]*$|(install|alias)[[:space:]]+nvidia[[:space:]]+(off|/bin/(true|false)|/usr/bin/(true|false)))' \
    /etc/modprobe.d/*.conf /run/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf
  [ -L /lib ] || lines_of '^[[:space:]]*blacklist[[:space:]]+nvidia[[:space:]]*$' /lib/modprobe.d/*.conf
}

# Whether sshd would pass on the connections of a tunnel: as it says itself, and where that is said.
ssh_forwarding() {
  have sshd || { absent sshd; return; }
  [ "$(id -u)" = 0 ] || return 77
  bound 5 "$(command -v sshd)" -T 2>"$null" | grep -i -E '^(allowtcpforwarding|disableforwarding) '
  lines_of '^[[:space:]]*([Aa]llow[Tt][Cc][Pp][Ff]orwarding|[Dd]isable[Ff]orwarding)[[:space:]=]' /etc/ssh/sshd_config.d/*.conf /etc/ssh/sshd_config
}

secure_boot() {
  if [ ! -d /sys/firmware/efi ]; then echo "no EFI"; return 0; fi
  have mokutil && bound 5 mokutil --sb-state
  for v in /sys/firmware/efi/efivars/SecureBoot-*; do
    [ -r "$v" ] && echo "variable $(od -An -tu1 -j4 -N1 "$v" | tr -d ' ')"
  done
  [ -r /sys/kernel/security/lockdown ] && echo "lockdown $(cat /sys/kernel/security/lockdown)"
  return 0
}

packages() {
  have dpkg-query || { absent dpkg-query; return; }
  all=$(bound 10 dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n') || return
  printf '%s\n' "$all" | grep -E '^(h.|.[^in]|..[^ ])' | grep -v -E '^(rc|un|pn) ' | head -n 60
  printf '%s\n' "$all" | grep -E '^i' |
    grep -E ' (lib)?(nvidia|cuda|cudnn|nccl|xserver-xorg-video-n|docker|containerd|podman|dkms|unattended-upgrades|needrestart|linux-(image|headers|modules)|chrony|ntp|gpg|ca-certificates)' |
    head -n 300
  return 0
}

# As many packages as files say, and what is left of the database before.
dpkg_database() {
  [ -r /var/lib/dpkg/status ] || { absent dpkg; return; }
  echo "known $(grep -c '^Package:' /var/lib/dpkg/status)"
  echo "listed $(ls /var/lib/dpkg/info | grep -c '\.list$')"
  for f in /var/lib/dpkg/status /var/lib/dpkg/status-old /var/backups/dpkg.status.*; do [ -s "$f" ] && echo "copy $f $(wc -c <"$f")"; done
  return 0
}

certificates() {
  for f in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem \
    /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
    [ ! -r "$f" ] || echo "bundle $f $(wc -c <"$f")"
  done
  echo "looked"
}

runfile_driver() {
  for f in /usr/bin/nvidia-uninstall /usr/bin/nvidia-installer /var/lib/nvidia/log /var/log/nvidia-installer.log; do [ -e "$f" ] && echo "$f"; done
  return 0
}

# The lines of apt's sources that say something; other files in that folder apt does not read.
apt_lines() {
  grep -h -s -v -E '^[[:space:]]*(#|$)' /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources
  return 0
}

apt_sources() {
  have apt-get || { absent apt-get; return; }
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$f" ] || [ -r "$f" ] || echo "$f:unreadable"
    [ -r "$f" ] && grep -H -v -E '^[[:space:]]*(#|$)' "$f" | masked
  done
  echo "looked"
}

# gpg only takes the files apart: to judge a key it would make a database.
apt_keys() {
  [ -s /etc/apt/trusted.gpg ] && echo "legacy /etc/apt/trusted.gpg"
  for f in $(apt_lines | grep -i -o -E 'signed-by[:=] *[^] ]+' |
    sed -E 's/^[^:=]*[:=] *//' | tr ',' '\n' | sort -u); do
    case $f in /*) [ -e "$f" ] || echo "missing $f" ;; esac
  done
  have gpg || { echo "no gpg"; return 0; }
  for f in /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d/* /usr/share/keyrings/* /etc/apt/keyrings/*; do
    [ -r "$f" ] || continue
    case $f in *.gpg | *.asc | *.pgp) ;; *) continue ;; esac
    apt_lines | grep -q -F -e "$f" || case $f in /etc/apt/trusted*) ;; *) continue ;; esac
    echo "file $f"
    bound 5 gpg --homedir / --no-options --no-keyring --lock-never --trust-model always --batch --no-autostart --list-packets "$f" 2>"$null" |
      grep -E '^:(public|user ID|signature)|created [0-9]|keyid: |subpkt 9 len' | grep -v 'subpkt 2 ' | head -n 200
  done
  return 0
}

# Whose lists have never come: wrong address, wrong suite, or nobody has asked yet.
apt_lists() {
  have apt-get || { absent apt-get; return; }
  bound 10 apt-get -q --print-uris -o Debug::NoLocking=1 update 2>"$null" | while read -r u f _; do
    case $f in *_InRelease) ;; *) continue ;; esac
    l=/var/lib/apt/lists/$f u=${u#?} u=${u%?}
    if [ -e "$l" ] || [ -e "${l%InRelease}Release" ]; then echo "has $u"; else echo "lacks $u"; fi
  done | masked
  return 0
}

# Nothing is locked and no cache of packages is written. What is broken, and what an upgrade would do, in one.
apt_check() {
  have apt-get || { absent apt-get; return; }
  apt_said=$(bound 20 apt-get -o Debug::NoLocking=1 -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -s -q dist-upgrade 2>&1)
  a=$?
  w='^[EW]: '
  [ "$a" = 0 ] || w='^([EW]: | |The following|You might)'
  printf '%s\n' "$apt_said" | grep -E "$w" | head -n 60 | masked | cut -c 1-300
  echo "upgrades"
  printf '%s\n' "$apt_said" | grep -E '^Inst (lib)?(nvidia|cuda|linux-(image|modules)|xserver-xorg-video-nvidia)' | head -n 60 | cut -c 1-200
  return $a
}
# Of the last 7 days, and of sources and keys as they are now: what was said before they were changed may be repaired.
apt_errors() {
  have journalctl || return 0
  since=$(($(date +%s) - 604800))
  for t in $(stat -c %Z /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/sources.list.d/* /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d \
    /etc/apt/trusted.gpg.d/* /etc/apt/keyrings /etc/apt/keyrings/* /usr/share/keyrings /usr/share/keyrings/* 2>"$null"); do
    [ "$t" -le "$since" ] || since=$t
  done
  bound 10 journalctl -q -u apt-daily.service -u apt-daily-upgrade.service -n 300 -o cat --no-pager --since "@$since" 2>"$null" |
    grep -E '^(E|W|Err)[: ]' | tail -n 30 | masked | cut -c 1-300
  return 0
}
unattended() {
  have apt-config || { absent apt-config; return; }
  bound 5 apt-config dump | grep -E '^(APT::Periodic::|Unattended-Upgrade::(Allowed-Origins|Origins-Pattern|Package-Blacklist))'
  [ -x /usr/bin/unattended-upgrade ] && echo "program yes"
  return 0
}
apt_locks() {
  [ -r /proc/locks ] || return 77
  for f in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do
    n=$(ls -i "$f" 2>"$null") || continue
    n=${n%% *}
    while read -r _ _ _ _ pid where _; do
      case $where in *:"$n") [ -d "/proc/$pid" ] && echo "$f $pid $(cat "/proc/$pid/comm")" ;; esac
    done </proc/locks
  done
  return 0
}

units() {
  [ "$(cat /proc/1/comm)" = systemd ] || { echo "no systemd"; return 127; }
  for u in nvidia-persistenced.service nvidia-fabricmanager.service docker.service systemd-timesyncd.service chrony.service chronyd.service \
    ntp.service ntpsec.service apt-daily-upgrade.timer; do
    echo "$u $(bound 5 systemctl show -p LoadState -p ActiveState -p UnitFileState "$u" | cut -d= -f2 | tr '\n' ' ')"
  done
  bound 5 systemctl list-units --failed --no-legend --plain --no-pager | head -n 12 | sed 's/^/failed /'
  return 0
}

libraries() {
  have ldconfig || { absent ldconfig; return; }
  bound 5 ldconfig -p | grep -E '(libcuda|libnvidia-ml|libcudart|libcudnn|libcublas|libnccl)\.so' | while read -r name rest; do
    f=${rest##*=> }
    echo "$name $f $(readlink -f "$f")"
  done
  echo looked
}
library_configuration() { lines_of '^[^#]*(cuda|nvidia|stubs|cudnn)' /etc/ld.so.conf /etc/ld.so.conf.d/*; }
loose_cudnn() {
  for f in /usr/local/cuda*/lib64/libcudnn.so.* /usr/local/cuda*/targets/*/lib/libcudnn.so.* /usr/lib/*-linux-gnu/libcudnn.so.* /usr/local/lib/libcudnn.so.*; do
    [ -e "$f" ] && [ ! -L "$f" ] && echo "$f"
  done
  return 0
}

cuda() {
  for d in /usr/local/cuda /usr/local/cuda-*; do
    [ -e "$d" ] || [ -L "$d" ] || continue
    v=
    [ -r "$d/version.json" ] && v=$(grep -A 3 '"cuda" *:' "$d/version.json" | grep -o '"version" *: *"[^"]*"' | head -n 1 | cut -d'"' -f4)
    [ -z "$v" ] && [ -r "$d/version.txt" ] && v=$(grep -o '[0-9][0-9.]*' "$d/version.txt" | head -n 1)
    n=no
    [ -x "$d/bin/nvcc" ] && n=nvcc
    [ -e "$d" ] || n=dangling
    echo "$d $n $(readlink -f "$d") $v"
  done
  return 0
}

surroundings() {
  lines_of '^[^#]*(LD_LIBRARY_PATH|LD_PRELOAD|CUDA_VISIBLE_DEVICES|PYTHONHOME|PYTHONPATH|[hH][tT][tT][pP][sS]?_[pP][rR][oO][xX][yY]|NO_PROXY|no_proxy)' /etc/environment /etc/profile \
    /etc/bash.bashrc /etc/profile.d/*
  lines_of '^[^#/]*Acquire::[a-z]+::[Pp]roxy' /etc/apt/apt.conf /etc/apt/apt.conf.d/*
}

# try URL: whether its server takes a connection; only bash can try without a program of its own.
try() {
  a=${1#*//}
  a=${a##*@}
  case $a in *:*) ;; *) case $1 in https:*) a=$a:443 ;; *) a=$a:80 ;; esac ;; esac
  case $a in *[!A-Za-z0-9.:-]*) return ;; esac
  if bound 4 bash -c ': <"/dev/tcp/$1/$2"' bash "${a%:*}" "${a##*:}" 2>"$null"; then echo "answers $a"; else echo "silent $a"; fi
}

indexes() {
  have bash || { absent bash; return; }
  for f in "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" /etc/pip.conf; do
    [ -r "$f" ] && grep -E '^[[:space:]]*(extra-)?index-url' "$f"
  done | grep -o -E 'https?://[^/";[:space:]]+' | sort -u | head -n 3 | while IFS= read -r u; do try "$u"; done
  return 0
}

# Whether the proxies that are set take a connection.
proxies() {
  have bash || { absent bash; return; }
  cat /etc/environment /etc/apt/apt.conf /etc/apt/apt.conf.d/* 2>"$null" | grep -i -E '^[^#/]*proxy' | grep -o -E 'https?://[^/";[:space:]]+' | sort -u | head -n 4 |
    while IFS= read -r u; do try "$u"; done
  return 0
}

# Whether the servers that apt is told of take a connection; with a proxy that is the proxy's business.
mirrors() {
  have bash || { absent bash; return; }
  cat /etc/environment /etc/apt/apt.conf /etc/apt/apt.conf.d/* 2>"$null" | grep -q -i -E '^[^#/]*proxy.*//' && { echo "by a proxy"; return 0; }
  for u in $(apt_lines | grep -o -E 'https?://[^/"; ]+' | sort -u | head -n 3); do
    n=${u#*//} n=${n##*@}
    # One that does not resolve is another fault.
    have getent && ! bound 8 getent hosts "${n%:*}" >"$null" 2>&1 && continue
    try "$u"
  done
  return 0
}

containers() {
  for p in docker podman nvidia-ctk nvidia-container-runtime nvidia-container-cli; do have "$p" && echo "program $p"; done
  have docker && have getent && getent group docker | sed 's/^/group /'
  [ -r /etc/docker/daemon.json ] && { echo "daemon.json"; masked </etc/docker/daemon.json; echo; echo "end of daemon.json"; }
  for f in /etc/cdi/*.yaml /var/run/cdi/*.yaml; do [ -f "$f" ] && echo "cdi $f"; done
  lines_of '^[^#]*(no-cgroups|mode)' /etc/nvidia-container-runtime/config.toml
}

# All that is on a disk of the machine's own, and the usual places.
disks() { bound 10 df -P "$1" -l 2>"$null" | grep -E '^/dev/' | grep -v -E '^/dev/(loop|ram)'; }
room() { { disks -k; bound 10 df -P -k / /tmp /var /var/lib /var/log /var/cache /var/tmp /usr /usr/local /home "$HOME" /boot /opt /dev/shm 2>"$null"; } | grep -v '^Filesystem' | sort -u; }
inodes() { { disks -i; bound 10 df -P -i / /tmp /var /var/lib /var/log /var/cache /var/tmp /home "$HOME" /boot /opt /usr/local 2>"$null"; } | grep -v '^Filesystem' | sort -u; }
mounts() { grep -E '^[^ ]+ (/|/tmp|/var|/usr|/usr/local|/home|/boot|/opt|/dev/shm) ' /proc/mounts; }
memory() {
  grep -E '^(MemTotal|MemAvailable|SwapTotal|SwapFree|Shmem|Committed_AS|CommitLimit)' /proc/meminfo
  for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.events; do [ -r "$f" ] && sed "s#^#$f #" "$f"; done
  return 0
}

names() {
  if [ -L /etc/resolv.conf ] && [ ! -e /etc/resolv.conf ]; then echo "dangling $(readlink /etc/resolv.conf)"; fi
  [ -e /etc/resolv.conf ] || [ -L /etc/resolv.conf ] || echo "no-resolv-conf"
  for f in /run/systemd/resolve/stub-resolv.conf /run/systemd/resolve/resolv.conf /run/NetworkManager/resolv.conf /run/resolvconf/resolv.conf; do
    [ -s "$f" ] && echo "could-be $f"
  done
  [ -e /lib/systemd/system/systemd-resolved.service ] || [ -e /usr/lib/systemd/system/systemd-resolved.service ] && echo "has-resolved"
  lines_of '^[[:space:]]*(nameserver|search|options)' /etc/resolv.conf
  n=$(apt_lines | grep -o -E 'https?://[^/: ]+' | head -n 1)
  n=${n#*//}
  n=${n#*@}
  case $n in '' | [0-9]*.[0-9]*) n=pypi.org ;; esac
  have getent || { echo "no getent"; return 0; }
  a=$(bound 8 getent hosts "$n" 2>"$null")
  # A server of names that is not there makes getent wait; whatever else keeps it from an answer says nothing of names.
  case $?-$a in 0-?*) echo "resolves $n" ;; 2-* | 124-* | 137-*) echo "does-not-resolve $n" ;; *) return 125 ;; esac
  read -r h </proc/sys/kernel/hostname || return 125
  bound 8 getent hosts "$h" >"$null" 2>&1
  case $? in 0) echo "own-name $h yes" ;; 2) echo "own-name $h no" ;; esac
  lines_of '^hosts:' /etc/nsswitch.conf
  grep -q -s -E '^[^#]*[[:space:]]localhost([[:space:]]|$)' /etc/hosts
  case $? in 0) l=yes ;; 1 | 2) l=no ;; *) return 125 ;; esac
  bound 8 getent hosts localhost >"$null" 2>&1
  case $? in 0) echo "localhost $l resolves" ;; 2) echo "localhost $l fails" ;; esac
  return 0
}
# What time it is by neither of the two clocks, where they differ: what a server says from which packages come anyway.
third_clock() {
  case $now in '' | *[!0-9]*) return 0 ;; esac
  d=$(($(date +%s) - now))
  [ "${d#-}" -ge 60 ] || return 0
  have bash || { absent bash; return; }
  for n in $(apt_lines | grep -o -E 'http://[^/: ]+' | sed -E 's#http://(.*@)?##' | sort -u | head -n 2) pypi.org; do
    a=$(bound 6 bash -c 'exec 3<>"/dev/tcp/$1/80" && printf "HEAD / HTTP/1.0\r\nHost: %s\r\n\r\n" "$1" >&3 && head -c 2000 <&3' bash "$n" 2>"$null" |
      tr -d '\r' | grep -i -m 1 '^date: ')
    [ -z "$a" ] || { echo "date $n ${a#*: }"; return 0; }
  done
  return 0
}
links() {
  for d in /sys/class/net/*; do
    [ -r "$d/mtu" ] && echo "${d##*/} $(cat "$d/mtu") $(cat "$d/operstate" 2>"$null")"
  done
  # Only what was read to its end tells that there is no route.
  if [ -r /proc/net/route ]; then
    while read -r i dest _; do [ "$dest" = 00000000 ] && echo "default $i"; done </proc/net/route
    echo "routes 4"
  fi
  # In /sys a container may see another's.
  l=
  have ip && l=$(bound 5 ip link show lo 2>"$null")
  case $l in *,UP*) ;; *LOOPBACK*) echo "loopback no" ;; esac
  [ -r /proc/net/ipv6_route ] || { echo "routes 6"; return 0; }
  while read -r dest bits _ _ _ _ _ _ _ i; do
    case $dest-$bits-$i in *-00-lo) ;; 00000000000000000000000000000000-00-*) echo "default $i" ;; esac
  done </proc/net/ipv6_route
  echo "routes 6"
  return 0
}

listening() {
  if have ss; then
    bound 5 ss -H -l -t -n -p 2>"$null" | cut -c 1-240
  else
    cut -c 1-150 /proc/net/tcp /proc/net/tcp6 2>"$null" | grep ' 0A ' | sed 's/^/proc /'
  fi
  return 0
}
notebooks() {
  for f in $(grep -a -l -s -E 'jupyter|notebook' /proc/[0-9]*/cmdline); do
    p=${f#/proc/}
    p=${p%/cmdline}
    [ "$p" = "$$" ] && continue
    echo "$p $(tr '\000' ' ' <"$f" | masked | cut -c 1-600)"
  done 2>"$null" | grep -v -E 'grep -a|ipykernel' | head -n 20
  return 0
}
restart_wanted() {
  for f in /run/reboot-required /var/run/reboot-required; do [ -e "$f" ] && { echo "required"; sed 's/^/package /' "$f.pkgs" 2>"$null" | sort -u | head -n 20; break; }; done
  for f in /boot/vmlinuz-*; do [ -e "$f" ] && echo "kernel ${f#/boot/vmlinuz-}"; done
  return 0
}
kernel_restart() {
  have needrestart || { absent needrestart; return; }
  [ "$(id -u)" = 0 ] || return 77
  bound 15 needrestart -b -k -r l 2>"$null" | grep -E '^NEEDRESTART-K'
  return 0
}

rest() {
  sec system 4000 system
  sec pci 20000 pci
  sec modules 2000 grep -E '^(nvidia|nouveau|vfio)' /proc/modules
  sec driver 1000 cat /proc/driver/nvidia/version
  cmd modinfo 4000 modinfo -k "$(uname -r)" nvidia
  sec module-files 4000 module_files
  sec headers 8000 headers
  cmd dkms 4000 dkms status
  sec devices 4000 devices
  sec smi 20000 smi --query-gpu=index,uuid,name,pci.bus_id,driver_version,memory.total,persistence_mode,compute_mode --format=csv,noheader,nounits
  case $s_status in 124 | 137) smi_hangs=1 ;; *) smi_hangs= ;; esac
  sec smi-ecc 8000 smi --query-gpu=index,ecc.mode.current,ecc.errors.uncorrected.volatile.total,ecc.errors.uncorrected.aggregate.total --format=csv,noheader,nounits
  sec smi-rows 8000 smi --query-remapped-rows=gpu_bus_id,remapped_rows.uncorrectable,remapped_rows.pending,remapped_rows.failure --format=csv,noheader
  sec smi-heat 8000 smi --query-gpu=index,temperature.gpu,clocks_throttle_reasons.hw_thermal_slowdown,clocks_throttle_reasons.hw_power_brake_slowdown --format=csv,noheader,nounits
  sec smi-mig 4000 smi --query-gpu=index,mig.mode.current --format=csv,noheader
  sec smi-list 8000 smi -L
  sec kernel-log 48000 kernel_log
  sec cmdline 4000 cat /proc/cmdline
  sec module-settings 2000 module_settings
  sec secure-boot 2000 secure_boot
  sec packages 40000 packages
  sec dpkg-database 1000 dpkg_database
  sec certificates 1000 certificates
  sec runfile 1000 runfile_driver
  sec apt-sources 16000 apt_sources
  sec apt-keys 40000 apt_keys
  sec apt-lists 8000 apt_lists
  sec apt-check 16000 apt_check
  sec apt-errors 8000 apt_errors
  sec apt-locks 2000 apt_locks
  sec unattended 8000 unattended
  sec units 4000 units
  sec libraries 16000 libraries
  sec library-configuration 4000 library_configuration
  sec loose-cudnn 4000 loose_cudnn
  sec cuda 4000 cuda
  sec environment 8000 surroundings
  sec proxies 1000 proxies
  sec mirrors 1000 mirrors
  sec containers 8000 containers
  sec room 8000 room
  sec inodes 8000 inodes
  sec mounts 4000 mounts
  sec memory 2000 memory
  sec swaps 2000 cat /proc/swaps
  cmd timedatectl 2000 timedatectl show
  sec third-clock 1000 third_clock
  sec names 4000 names
  sec links 4000 links
  sec forwarding 2000 ssh_forwarding
  sec listening 16000 listening
  sec notebooks 16000 notebooks
  sec restart 4000 restart_wanted
  sec kernel-restart 1000 kernel_restart
  cmd cloud-init 2000 cloud-init status
}

# The script again as root's, by way of its input: its text is no argument, where sudo would log it and everybody could read it.
by_sudo() {
  case $HOME in *[!A-Za-z0-9/._-]*) HOME=/ ;; esac
  printf '%s\n' "$word" "#gpustrap-probe" "part=rest begun=$count HOME=$HOME" "$script" |
    sudo "$@" sh -c 'while IFS= read -r l; do test "$l" = "#gpustrap-probe" && break; done; script=$(cat); eval "$script"'
}

# What hangs is ended, where the host can.
begin_with_timeout() {
  if timeout -k 1 5 true 2>"$null"; then bound() { timeout -k 1 "$@"; }; fi
}

if [ "${part:-login}" = rest ]; then
  count=${begun:-0}
  begin_with_timeout
  rest
  echo "@end $count"
else
  echo "gpustrap-probe 1"
  limits
  plain_sec limits 0 "$said"
  said=
  programs
  plain_sec programs 0 "$said"
  case $said in *fails*) echo "@end $count"; exit 0 ;; esac
  begin_with_timeout
  rights=none sudo_said=
  if [ "$(id -u)" = 0 ]; then
    rights=root
  elif [ -n "$word" ] && have sudo; then
    rights=password
  elif have sudo && sudo_said=$(: | bound 10 sudo -n true 2>&1); then
    rights=sudo
    sudo_said=$(printf '%s\n' "$sudo_said" | grep -E 'syntax error|parse error')
  elif [ -e /usr/bin/sudo ] && ! have sudo; then
    sudo_said="sudo cannot be run: $(ls -l /usr/bin/sudo)"
  fi
  sec login 4000 who "$rights" "$sudo_said"
  sec folders 4000 folders
  sec login-files 8000 login_files
  sec login-path 4000 login_path
  sec basics 4000 basics
  sec python 32000 python_packages
  sec conda 8000 conda_state
  sec jupyter 8000 jupyter_config
  sec indexes 1000 indexes
  sec rpm 16000 rpm_state
  sec rpm-sources 8000 rpm_sources
  case $rights in
    sudo) by_sudo -n ;;
    password) by_sudo -k -S -p '' ;;
    *)
      rest
      echo "@end $count"
      ;;
  esac
fi
