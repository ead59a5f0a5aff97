# shellcheck shell=bash disable=SC2034,SC2154 # host, key and the like come from the frame
# An author's day: a recipe from nothing, what lint and editors say of it, a script made into one that leads to the same.

authoring_needs() {
    needs_gpustrap
    /usr/bin/python3 -c 'import jsonschema' 2>/dev/null || echo "python3-jsonschema is not installed"
}

# What the script of the last cases makes of a host, in a form that can be compared.
outcome_of() {
    use_host "$1"
    # shellcheck disable=SC2016 # the host's own
    testbed exec "$1" runuser --login ubuntu --command 'cd
        find course notes -printf "%p %y %l\n" | sort
        find course -type f -exec sha256sum {} + | sort
        dpkg-query -W -f "\${Package} \${Status}\n" unzip wget
        bash -lic "echo \$COURSE" 2>/dev/null'
}

# Whether a document fits the schema that is printed for editors: `fits FILE`.
fits() {
    "$bin/gpustrap" recipe schema >schema.json
    run_recorded /usr/bin/python3 -c '
import json, sys, jsonschema
schema = json.load(open("schema.json"))
jsonschema.Draft7Validator.check_schema(schema)
for problem in jsonschema.Draft7Validator(schema).iter_errors(json.load(open(sys.argv[1]))):
    print(problem.message)' "$1"
}

authoring_cases() {
    case_ "a recipe to begin with has nothing that lint would name, and is never written over another"
    gpustrap recipe new lab.yaml
    expect_exit 0
    expect_output "gpustrap plan lab.yaml HOST"
    gpustrap recipe lint lab.yaml
    expect_exit 0
    cp lab.yaml before.yaml
    gpustrap recipe new lab.yaml
    expect_exit 2
    expect_output "is there already, and stays as it is"
    cmp -s lab.yaml before.yaml || fail_case "it was changed"
    cp lab.yaml "$suite_dir/starter.yaml"

    case_ "it runs, and the second time there is nothing to do"
    boot_host one
    gpustrap plan "$suite_dir/starter.yaml" "$host" -i "$key" --accept-new-host-key
    expect_exit 0
    up "$suite_dir/starter.yaml"
    expect_exit 0
    up "$suite_dir/starter.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "lint names rule, place and way out, and programs can read it"
    cat >poor.yaml <<'RECIPE'
name: poor
steps:
  - command: { run: wget http://example.org/latest/tool.sh }
  - download: { url: "http://example.org/tool.tgz", to: ~/tool.tgz }
RECIPE
    gpustrap recipe lint poor.yaml
    expect_exit 1
    expect_output "poor.yaml:3:"
    expect_output "[command-unguarded]"
    expect_output "[digest-missing]"
    expect_output "[url-plain-http]"
    gpustrap recipe lint poor.yaml --format json
    expect_exit 1
    python3 -m json.tool "$case_dir/stdout" >/dev/null
    gpustrap recipe lint poor.yaml --format sarif
    expect_exit 1
    expect_equal "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["version"])' "$case_dir/stdout")" 2.1.0

    case_ "what is right all the same is allowed with a reason, and only with one"
    cat >allowed.yaml <<'RECIPE'
name: allowed
steps:
  # lint: allow command-unguarded its output is what counts
  - command: { run: date }
RECIPE
    gpustrap recipe lint allowed.yaml
    expect_exit 0
    sed -i 's/ its output is what counts//' allowed.yaml
    gpustrap recipe lint allowed.yaml
    expect_exit 1
    expect_output "[allow-unexplained]"

    case_ "a recipe that does not load is told with line and column, by lint and by plan"
    printf 'name: broken\nsteps:\n  - apt: { packges: [git] }\n' >broken.yaml
    gpustrap recipe lint broken.yaml
    expect_exit 1
    expect_output "broken.yaml:3:12:"
    gpustrap plan ./broken.yaml "$host" -i "$key"
    expect_exit 2
    expect_output "broken.yaml:3:12: \`packges\` is not a field of apt; did you mean \`packages\`?"

    case_ "the schema that editors are given takes what gpustrap takes, and refuses what it refuses"
    echo '{"name": "good", "steps": [{"apt": ["git"]}, {"file": {"path": "~/a", "content": "a"}}]}' >good.json
    fits good.json
    expect_exit 0
    expect_equal "$(cat "$case_dir/output")" ""
    echo '{"name": "bad", "steps": [{"apt": {"packges": ["git"]}}]}' >bad.json
    fits bad.json
    expect_output packges

    case_ "explain tells what a recipe would do on a machine, and what a kind takes"
    gpustrap recipe explain d2l-2020 --gpu h100 --os ubuntu:22.04
    expect_exit 1
    expect_output "10.1"
    gpustrap recipe explain "$suite_dir/starter.yaml" --gpu none --os debian:12
    expect_exit 0
    gpustrap recipe explain archive
    expect_exit 0
    expect_output sha256
    gpustrap recipe explain archve
    expect_exit 2
    expect_output "did you mean \`archive\`?"

    case_ "a script made into a recipe leads to the host that the script leads to"
    mkdir -p "$suite_dir/served"
    python3 - "$suite_dir/served/notes.zip" <<'PYTHON'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as file:
    file.writestr("week1/optics.txt", "light\n")
    file.writestr("week2/waves.txt", "water\n")
PYTHON
    boot_host script
    serve "$suite_dir/served"
    cat >"$suite_dir/setup.sh" <<SCRIPT
#!/bin/bash
# A course's set-up.
set -e
sudo apt-get update
sudo apt-get install -y unzip wget
mkdir -p ~/course/data
wget -O ~/course/data/notes.zip $origin_http/notes.zip
unzip -o ~/course/data/notes.zip -d ~/course/notes
rm ~/course/data/notes.zip
echo 'export COURSE=optics' >> ~/.bashrc
ln -s ~/course/notes ~/notes
echo ready > ~/course/state.txt
SCRIPT
    testbed exec script sh -c 'cat >/home/ubuntu/setup.sh' <"$suite_dir/setup.sh"
    as_login bash /home/ubuntu/setup.sh
    expect_exit 0
    gpustrap adopt "$suite_dir/setup.sh" -o "$suite_dir/setup.yaml"
    expect_exit 0
    expect_output "to review"
    # What is an error in a recipe stays one: this origin speaks no https.
    gpustrap recipe lint "$suite_dir/setup.yaml"
    expect_exit 1
    expect_output "1 error"
    expect_output "[url-plain-http]"
    use_host one
    up "$suite_dir/setup.yaml"
    expect_exit 0
    local wanted got
    wanted=$(outcome_of script)
    got=$(outcome_of one)
    [[ $wanted == *optics* ]] || fail_case "the script did not do its work: $wanted"
    expect_equal "$got" "$wanted"

    case_ "and unlike the script it has nothing to do the second time"
    use_host one
    up "$suite_dir/setup.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "a script on standard input, and one that is none"
    printf 'sudo apt-get install -y git\n' | "$bin/gpustrap" adopt - >from_stdin.yaml
    run_recorded cat from_stdin.yaml
    expect_output "packages: [git]"
    gpustrap adopt /nonexistent.sh
    expect_exit 2
    expect_output /nonexistent.sh
}
