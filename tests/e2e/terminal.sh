# shellcheck shell=bash disable=SC2154 # bin, suite_dir and the like come from the frame
# What a terminal is told: completions in the real shells, the manual page. No host is needed.

terminal_needs() { needs_gpustrap; }

# What bash would offer for a line, asked without a terminal: `offers LINE`.
offers() {
    cat >"$suite_dir/offers.bash" <<'PROBE'
eval "$(gpustrap completion bash)"
COMP_LINE=$1
COMP_POINT=${#COMP_LINE}
COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'
_gpustrap gpustrap
printf '%s\n' "${COMPREPLY[@]}"
PROBE
    run_recorded env "PATH=$bin:$PATH" bash --norc --noprofile "$suite_dir/offers.bash" "$1"
}

# Types at an interactive shell and looks for what stands there then: `typed SHELL TEXT EXPECTED`.
typed() {
    local -a shell=(bash --noprofile --rcfile "$suite_dir/bashrc" -i)
    [ "$1" != zsh ] || shell=(env "ZDOTDIR=$suite_dir" zsh -i)
    run_recorded "$e2e_dir/type_at.py" "$2" "$3" "${shell[@]}"
    expect_exit 0
}

# How gpustrap leaves by a signal while somebody whom it has asked says nothing: `leaves KIND PORT SIGNAL WORDS…`.
leaves() {
    local kind=$1 port=$2 signal=$3
    shift 3
    run_recorded "$e2e_dir/leave.py" "$kind" "$port" "$signal" "$bin/gpustrap" "$@"
    expect_output "exit 130, at once, left behind: nothing"
    expect_output "gpustrap: left before"
    expect_output "nothing was begun there"
}

terminal_cases() {
    mkdir -p "$HOME/.ssh" "$HOME/.config/gpustrap/recipes" "$suite_dir/work"
    printf 'Host gpu-box gpu-lab\n    HostName 203.0.113.7\nHost *.example.org\n' >"$HOME/.ssh/config"
    printf 'name: mine\nvars: { port: 1 }\nsteps:\n  - id: alpha\n    command: { run: "true", unless: "true" }\n    tags: [first]\n  - id: beta\n    command: { run: "true", unless: "true" }\n' \
        >"$HOME/.config/gpustrap/recipes/mine.yaml"
    cp "$HOME/.config/gpustrap/recipes/mine.yaml" "$suite_dir/work/lab.yaml"
    cat >"$suite_dir/bashrc" <<RC
PS1='READY> '
PATH=$bin:\$PATH
cd '$suite_dir/work'
bind 'set bell-style none'
eval "\$(gpustrap completion bash)"
RC
    mkdir -p "$suite_dir/zfunc"
    "$bin/gpustrap" completion zsh >"$suite_dir/zfunc/_gpustrap"
    cat >"$suite_dir/.zshrc" <<RC
PROMPT='READY> '
PATH=$bin:\$PATH
cd '$suite_dir/work'
fpath=('$suite_dir/zfunc' \$fpath)
unsetopt beep
autoload -Uz compinit && compinit -u -d '$suite_dir/zcompdump'
RC

    case_ "bash is offered verbs, recipes, hosts of ssh's configuration, steps and tags"
    offers "gpustrap att"
    expect_output attach
    offers "gpustrap up mi"
    expect_output mine
    offers "gpustrap up mine gpu-"
    expect_output gpu-box
    expect_output gpu-lab
    expect_no_output example.org
    offers "gpustrap up mine gpu-box --tag "
    expect_output first
    offers "gpustrap recipe ex"
    expect_output explain

    case_ "bash replaces only what stands behind a character that it breaks words at"
    offers "gpustrap up mine ubuntu@gpu-b"
    expect_equal "$(cat "$case_dir/stdout")" @gpu-box
    offers "gpustrap recipe lint x --format=s"
    expect_equal "$(cat "$case_dir/stdout")" sarif

    case_ "bash completes a file where one is wanted"
    cd "$suite_dir/work" || return
    offers "gpustrap up mine gpu-box -i la"
    expect_output lab.yaml
    offers "gpustrap up ./la"
    expect_output ./lab.yaml

    case_ "nothing is said aloud where there is nothing to say"
    offers "gpustrap nonsense "
    expect_equal "$(cat "$case_dir/output")" ""
    offers "gpustrap up no-such-recipe gpu-box --tag "
    expect_equal "$(cat "$case_dir/output")" ""

    case_ "a person at bash presses Tab"
    typed bash 'gpustrap canc\tgpu-b\t' 'gpustrap cancel gpu-box '
    typed bash 'gpustrap up mine ubuntu@gpu-b\t' 'gpustrap up mine ubuntu@gpu-box '
    typed bash 'gpustrap up mine gpu-box --var \t' '--var port='

    case_ "a person at zsh presses Tab"
    if have zsh; then
        typed zsh 'gpustrap canc\tgpu-b\t' 'gpustrap cancel gpu-box '
        typed zsh 'gpustrap up mine ubuntu@gpu-b\t' 'gpustrap up mine ubuntu@gpu-box '
        typed zsh 'gpustrap recipe lint ./la\t' 'gpustrap recipe lint ./lab.yaml '
    else
        skip_case "zsh is not installed"
    fi

    case_ "fish is offered the same, with what each is"
    if have fish; then
        # shellcheck disable=SC2016 # fish's own
        run_recorded env "PATH=$bin:$PATH" fish --no-config -c 'gpustrap completion fish | source
            complete -C "gpustrap atta"; complete -C "gpustrap up mine gpu-"; complete -C "gpustrap up mine ubuntu@gpu-b"
            complete -C "gpustrap recipe lint x --format "'
        expect_exit 0
        expect_output "$(printf 'attach\tFollows')"
        expect_output "$(printf 'gpu-lab\t~/.ssh/config')"
        expect_output ubuntu@gpu-box
        expect_output sarif
    else
        skip_case "fish is not installed"
    fi

    case_ "the manual page has no mistake that its readers know of"
    "$bin/gpustrap" man >gpustrap.1
    if have mandoc; then
        run_recorded mandoc -Tlint -Wwarning gpustrap.1
        expect_exit 0
        expect_equal "$(cat "$case_dir/output")" ""
    fi
    if have man; then
        run_recorded env MANWIDTH=80 LC_ALL=C.UTF-8 man --warnings -l gpustrap.1
        expect_exit 0
        expect_output "gpustrap recipe lint RECIPE..."
        expect_equal "$(cat "$case_dir/stderr")" ""
    fi
    have mandoc || have man || skip_case "neither mandoc nor man is installed"

    case_ "Ctrl-C and SIGTERM leave at once where a host takes the connection and says nothing"
    leaves tcp 0 SIGINT up jupyter lab@127.0.0.1 -p '{port}'
    leaves tcp 0 SIGTERM up jupyter lab@127.0.0.1 -p '{port}'
    leaves tcp 0 SIGTERM pull lab@127.0.0.1 notebooks -p '{port}'
    leaves tcp 0 SIGINT doctor lab@127.0.0.1 -p '{port}'

    case_ "and where a jump host does, with every ssh on the way to it"
    if have ssh; then
        local settings
        settings=$(<"$HOME/ssh_config")
        printf 'Host far\n    HostName 203.0.113.9\n    ProxyJump far@127.0.0.1:{port}\n%s\n' "$settings" >"$HOME/ssh_config"
        leaves tcp 0 SIGINT up jupyter lab@far
        printf 'Host near\n    HostName 127.0.0.1\n    Port {port}\nHost far\n    HostName 203.0.113.9\n    ProxyJump near,lab@203.0.113.8\n%s\n' \
            "$settings" >"$HOME/ssh_config"
        leaves tcp 0 SIGTERM up jupyter lab@far
        printf '%s\n' "$settings" >"$HOME/ssh_config"
    else
        skip_case "ssh is not installed"
    fi

    case_ "and where a name server does"
    echo "nameserver 127.0.0.1" >"$suite_dir/resolv.conf"
    echo "hosts: files dns" >"$suite_dir/nsswitch.conf"
    # A network of its own, in which nobody else answers for names.
    # shellcheck disable=SC2016 # words of the inner shell
    run_recorded unshare --mount --net sh -c 'ip link set lo up && mount --bind "$1/resolv.conf" /etc/resolv.conf &&
        mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf && shift && exec "$@"' sh "$suite_dir" \
        "$e2e_dir/leave.py" udp 53 SIGTERM "$bin/gpustrap" up jupyter lab@gpu.example.org
    expect_output "exit 130, at once, left behind: nothing"
}
