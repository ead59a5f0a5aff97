# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # host, address and key are the frame's
# Some steps of a recipe: --from, --only, --skip, --force, for one host and for many.

choice_needs() { needs_gpustrap; }

choice_cases() {
    cat >"$suite_dir/lab.yaml" <<'RECIPE'
name: lab
steps:
  - id: first
    as: root
    command: { run: "date +%N >/etc/lab-first", creates: /etc/lab-first }
  - id: second
    as: root
    command: { run: "date +%N >/etc/lab-second", creates: /etc/lab-second }
  - id: third
    file: { path: /etc/lab-third, content: "third\n" }
RECIPE
    boot_host one
    one=$address

    case_ "--only leaves the others out, with that reason, and says whose needs are not looked at"
    up "$suite_dir/lab.yaml" --only second --json
    expect_exit 0
    expect_equal "$(outcome_of first)" skipped
    expect_equal "$(outcome_of second)" changed
    expect_equal "$(outcome_of third)" skipped
    expect_output "left out of this run, as asked"
    expect_output "Left out, and not looked at although needed: first (for second)."
    ! on_host test -e /etc/lab-first
    expect_exit 1

    case_ "attach shows the run as it was"
    gpustrap attach "$host" --json
    expect_exit 0
    expect_equal "$(outcome_of first)" skipped
    expect_equal "$(json_events step_finished | wc -l)" 3

    case_ "a run without the flags does what is missing, and another one nothing"
    up "$suite_dir/lab.yaml" --json
    expect_exit 0
    expect_equal "$(outcome_of first)" changed
    expect_equal "$(outcome_of second)" unchanged
    expect_equal "$(outcome_of third)" changed
    up "$suite_dir/lab.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "plan tells what would be forced and what is left out, and changes nothing"
    take_listing
    gpustrap plan "$suite_dir/lab.yaml" "$host" --from second --force second --json
    expect_exit 0
    expect_equal "$(outcome_of first)" skipped
    expect_equal "$(outcome_of second)" would_change
    expect_equal "$(outcome_of third)" unchanged
    expect_output "forced; it was: "
    expect_same_listing

    case_ "--force acts though there is nothing to do, and only that step"
    on_host cat /etc/lab-first /etc/lab-second
    cp output before
    up "$suite_dir/lab.yaml" --force second --json
    expect_exit 0
    expect_equal "$(outcome_of first)" unchanged
    expect_equal "$(outcome_of second)" changed
    on_host cat /etc/lab-first /etc/lab-second
    expect_equal "$(head -n 1 output)" "$(head -n 1 before)"
    expect_different "$(tail -n 1 output)" "$(tail -n 1 before)"

    case_ "a forced step of a kind that looks again does its work anew"
    up "$suite_dir/lab.yaml" --only third --force third --json
    expect_exit 0
    expect_equal "$(outcome_of third)" changed

    case_ "the same words again, then without them: all unchanged"
    up "$suite_dir/lab.yaml" --skip second --json
    expect_exit 0
    expect_equal "$(outcome_of second)" skipped
    up "$suite_dir/lab.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "a wrong id is told with those there are, before the host is reached"
    gpustrap up "$suite_dir/lab.yaml" nobody.invalid --from secnd
    expect_exit 2
    expect_output "did you mean \`second\`?"
    expect_output "its steps: first, second, third"

    case_ "a person sees what is left out; where a step fails, the command to repeat carries the choice"
    on_host rm /etc/lab-second
    on_host mkdir /etc/lab-second # the step's file cannot be made
    sed 's/creates: .etc.lab-second/unless: test -f \/etc\/lab-second/' "$suite_dir/lab.yaml" >"$suite_dir/fails.yaml"
    up "$suite_dir/fails.yaml" --skip first
    expect_exit 1
    expect_output "left out of this run, as asked"
    expect_output "--skip first"
    on_host rmdir /etc/lab-second

    case_ "a run of other steps of the same recipe is not joined: what runs is said, and how to wait or stop it"
    cat >"$suite_dir/gated.yaml" <<'RECIPE'
name: gated
steps:
  - id: gate
    as: root
    command: { run: "touch /run/at-gate; until test -e /run/gate; do sleep 0.1; done; touch /run/passed", creates: /run/passed }
  - id: more
    as: root
    needs: []
    command: { run: "touch /run/more", creates: /run/more }
RECIPE
    gpustrap up "$suite_dir/gated.yaml" "$host" --only gate --detach -y
    expect_exit 9
    await_that testbed exec one test -e /run/at-gate
    up "$suite_dir/gated.yaml"
    expect_exit 10
    expect_output "a run of gated is in progress on this host with another choice of steps (all but more) than this command's (all)"
    expect_output "wait for its end with \`gpustrap attach $host\`, or stop it with \`gpustrap cancel $host\`"
    up "$suite_dir/gated.yaml" --only more --force more
    expect_exit 10
    expect_output "than this command's (all but gate; more forced)"
    follow up "$suite_dir/gated.yaml" "$host" --only gate -y --no-tunnel --json
    await_that shown '"event":"step_started"'
    on_host touch /run/gate
    end_of_run
    expect_exit 0
    up "$suite_dir/gated.yaml" --json
    expect_exit 0
    expect_equal "$(outcome_of more)" changed

    case_ "many hosts take the same choice"
    boot_host two
    two=$address
    gpustrap up "$suite_dir/lab.yaml" "$user@$one" "$user@$two" -i "$key" --accept-new-host-key -y --only first,third --json
    expect_exit 0
    expect_equal "$(grep '"event":"step_finished"' stdout | grep -c '"step":"second".*"outcome":"skipped"')" 2
    expect_output "Left out, and not looked at although needed: second (for third)."
    testbed exec two test -e /etc/lab-first

    case_ "a step that stands where a host does is told apart"
    gpustrap up "$suite_dir/lab.yaml" "$user@$one" "$user@$two" --only first third
    expect_exit 2
    expect_output "several steps have commas between them: --only first,third"
}

outcome_of() { json_events step_finished | grep "\"step\":\"$1\"" | grep -o '"outcome":"[a-z_]*"' | tail -n 1 | cut -d'"' -f4; }
