# shellcheck shell=bash disable=SC2034,SC2154 # host, key and the like come from the frame
# `recipe test`: a recipe twice on a host that is thrown away. It boots hosts of its own, so no case boots one.

recipe_test_needs() { needs_gpustrap; }

recipe_test() { gpustrap recipe test "$@"; }

junit() {
    python3 - "$1" "$2" <<'PARSE'
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
print(eval(sys.argv[2], {"root": root, "suites": root.findall("testsuite")}))
PARSE
}

# Of the document of the last test with --json.
said() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)" <"$suite_dir/document"; }

recipe_test_cases() {
    export XDG_CACHE_HOME=$outer_cache GPUSTRAP_TESTBED=$repository/tests/testbed
    cat >"$suite_dir/good.yaml" <<'RECIPE'
name: good
vars: { greeting: hello }
steps:
  - require: { os: [debian, ubuntu] }
  - file: { path: ~/greeting, content: "${{ vars.greeting }}\n" }
  - id: mark
    command: { run: touch ~/mark, creates: ~/mark }
  - id: only_gpu
    when: { gpu: true }
    command: { run: "grep -l 0x1eb8 /sys/bus/pci/devices/*/device >~/gpu", creates: ~/gpu }
RECIPE
    printf 'name: restless\nsteps:\n  - file: { path: ~/a, content: a }\n  - id: counts\n    command: { run: date >>~/log }\n' >"$suite_dir/restless.yaml"
    printf 'name: bad\nsteps:\n  - file: { path: ~/a, content: a }\n  - id: breaks\n    command: { run: "echo to no avail >&2; exit 3", creates: ~/never }\n' >"$suite_dir/bad.yaml"

    case_ "a good recipe passes: its second run has nothing to do"
    recipe_test "$suite_dir/good.yaml" --var greeting=hi --junit junit.xml
    expect_exit 0
    expect_output "good.yaml passes on Debian"
    expect_equal "$(junit junit.xml '[(s.get("tests"), s.get("failures"), s.get("skipped")) for s in suites]')" "[('4', '0', '1'), ('4', '0', '1')]"
    expect_equal "$(grep -l -s gpustrap-recipe-test /run/gpustrap-testbed/subnets/*)" ""

    case_ "nothing of it is remembered"
    gpustrap hosts
    expect_no_output 10.2

    case_ "with a GPU on its bus, the steps for one run as well"
    recipe_test "$suite_dir/good.yaml" --gpu t4 --junit junit.xml
    expect_exit 0
    expect_equal "$(junit junit.xml '[s.get("skipped") for s in suites]')" "['0', '0']"

    case_ "--codename has it run on another release"
    recipe_test "$suite_dir/good.yaml" --codename trixie
    expect_exit 0
    expect_output "good.yaml passes on Debian GNU/Linux 13"

    case_ "a release that does not exist is told, and nothing is left of it"
    recipe_test "$suite_dir/good.yaml" --codename no/such
    expect_exit 2
    expect_output "--codename no/such"
    recipe_test "$suite_dir/good.yaml" --codename nosuchrelease
    expect_exit 1
    expect_output "nosuchrelease"
    expect_equal "$(grep -l -s gpustrap-recipe-test /run/gpustrap-testbed/subnets/*)" ""

    case_ "a step that has something to do each time is named"
    recipe_test "$suite_dir/restless.yaml" --junit junit.xml
    expect_exit 1
    expect_output "second run, counts: it changed the host again"
    expect_equal "$(junit junit.xml '[(c.get("name"), c.find("failure") is not None) for c in suites[1]]')" "[('file', False), ('counts', True)]"

    case_ "--json has stdout for its document, with every step of both runs; how it went is told on stderr"
    recipe_test "$suite_dir/restless.yaml" --json
    expect_exit 1
    cp stdout "$suite_dir/document"
    expect_equal "$(said '["passes"]') $(said '["runs"][0]["passes"]') $(said '["runs"][1]["passes"]') $(said '["host"]')" "False True False None"
    expect_equal "$(said '["runs"][1]["steps"][1]["outcome"]') $(said '["runs"][0]["exit"]')" "changed 0"
    expect_output "second run, counts: it changed the host again"
    expect_output "The same again"

    case_ "the logs of both runs outlive the host, and report reads them"
    gpustrap report "$(said '["runs"][1]["log"]')"
    expect_exit 0
    expect_output counts
    gpustrap history
    expect_no_output restless

    case_ "a step that fails ends it in the first run"
    recipe_test "$suite_dir/bad.yaml" --junit junit.xml
    expect_exit 1
    expect_output "first run, breaks:"
    expect_output "to no avail"
    expect_no_output "The same again"
    expect_equal "$(junit junit.xml 'len(suites)')" 1

    case_ "mistakes are told before a host is booted"
    printf 'name: wrong\nsteps:\n  - fiel: { path: ~/a }\n' >wrong.yaml
    recipe_test ./wrong.yaml
    expect_exit 2
    expect_output "did you mean \`file\`?"
    expect_no_output Booting
    recipe_test "$suite_dir/good.yaml" --gpu t5
    expect_exit 2
    expect_no_output Booting

    case_ "what this machine lacks is named with the packages that bring it"
    mkdir few
    ln -s "$(command -v apt-get)" few/
    run_recorded env "PATH=$PWD/few" "$bin/gpustrap" recipe test "$suite_dir/good.yaml"
    expect_exit 2
    expect_output "it lacks mmdebstrap, systemd-container"
    expect_output "sudo apt-get install mmdebstrap systemd-container"

    case_ "a host that is to be kept answers, and goes by the command that is printed"
    recipe_test "$suite_dir/good.yaml" --keep-host
    expect_exit 0
    local way leave
    way=$(sed -n 's/^The host is kept: ssh -i //p' output)
    leave=$(sed -n 's/^  and goes by: //p' output)
    # shellcheck disable=SC2086 # a key and a host
    run_recorded ssh -o StrictHostKeyChecking=accept-new -i $way cat greeting
    expect_output hello
    run_recorded sh -c "$leave"
    expect_exit 0

    case_ "Ctrl-C ends it, and takes the host away"
    printf 'name: long\nsteps:\n  - id: waits\n    command: { run: sleep 300, creates: ~/never }\n' >"$suite_dir/long.yaml"
    follow recipe test "$suite_dir/long.yaml" -v
    await_that shown waits
    kill -INT "$follower"
    end_of_run
    expect_exit 130

    case_ "nothing is left of any of them"
    expect_equal "$(grep -l -s gpustrap-recipe-test /run/gpustrap-testbed/subnets/*)" ""
    expect_equal "$(find /var/tmp -maxdepth 1 -name 'gpustrap-recipe-test.*' -newer "$suite_dir/good.yaml")" ""
}
