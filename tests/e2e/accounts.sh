# shellcheck shell=bash disable=SC2154 # host, key and the like come from the frame
# Who logs in and how: login shells, banners, sudo in all its moods.

accounts_needs() { needs_gpustrap; }

accounts_cases() {
    recipes

    case_ "a first run pushes the agent and works with sudo"
    boot_host plain
    up "$suite_dir/root.yaml"
    expect_exit 0
    on_host cat /etc/gpustrap-test
    expect_output "from root"

    local shell
    for shell in dash fish zsh; do
        case_ "a login shell that is $shell, and that chats at every login"
        # shellcheck disable=SC2016 # meant as it stands
        boot_host "$shell" --shell "$shell" --banner 'Welcome! "Authorised" users only; $HOME is `watched`'
        up "$suite_dir/root.yaml"
        expect_exit 0
        up "$suite_dir/root.yaml" --json
        expect_exit 0
        expect_unchanged
    done

    case_ "a user without sudo is told so, before anything is changed"
    boot_host nosudo --sudo none
    take_listing
    up "$suite_dir/root.yaml"
    expect_exit 6
    expect_output sudo
    expect_same_listing

    case_ "and can run what needs no root"
    up "$suite_dir/login.yaml"
    expect_exit 0
    on_host cat /home/ubuntu/made
    expect_output "from ubuntu"
    on_host sh -c 'ls -d /var/lib/gpustrap /usr/local/lib/gpustrap 2>/dev/null; true'
    expect_no_output gpustrap

    case_ "sudo with a password is asked for it"
    boot_host asks --sudo password
    up "$suite_dir/root.yaml"
    expect_exit 6
    expect_output --ask-sudo-password
    at_terminal "Password of sudo" "$password" up "$suite_dir/root.yaml" --ask-sudo-password
    expect_exit 0
    on_host cat /etc/gpustrap-test
    expect_output "from root"

    case_ "what root ran is seen with the password too, and its lack is named"
    gpustrap attach "$host"
    expect_exit 1
    expect_output --ask-sudo-password
    gpustrap keep "$host" 1h
    expect_exit 1
    expect_output "only root may put off what stops this host"
    expect_output --ask-sudo-password
    at_terminal "Password of sudo" "$password" gpustrap attach "$host" --ask-sudo-password
    expect_exit 0
    expect_output as-root
    at_terminal "Password of sudo" "$password" gpustrap status "$host" --ask-sudo-password
    expect_exit 0
    expect_output "as-root done"

    case_ "a wrong sudo password is one clear error"
    at_terminal "Password of sudo" "not-$password" up "$suite_dir/root.yaml" --ask-sudo-password
    expect_exit 6
    expect_output password

    case_ "a password is nowhere on the host, and in no output"
    at_terminal "Password of sudo" "$password" up "$suite_dir/root.yaml" --ask-sudo-password --json
    expect_no_output "$password"
    ! on_host grep -r -l -F "$password" /var/lib/gpustrap /var/log /home /root /etc
    expect_equal "$(cat stdout)" ''

    case_ "root needs no sudo"
    boot_host root --root-login
    on_host rm -f /usr/bin/sudo
    up "$suite_dir/root.yaml"
    expect_exit 0
}

recipes() {
    cat >"$suite_dir/root.yaml" <<'RECIPE'
name: as-root
steps:
  - file: { path: /etc/gpustrap-test, content: "from root\n" }
  - command: { run: "echo from login", creates: /etc/gpustrap-test }
RECIPE
    cat >"$suite_dir/login.yaml" <<'RECIPE'
name: as-login
steps:
  - command: { run: "echo from $(id -un) >~/made", creates: ~/made }
RECIPE
}
