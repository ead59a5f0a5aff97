# shellcheck shell=bash disable=SC2034,SC2154 # bin, suite_dir and the like come from the frame
# What an editor makes of `recipe schema`: the real yaml-language-server is asked, as editors ask it. No host is needed.

editors_needs() {
    needs_gpustrap
    have npm && have node || echo "node and npm are not installed: they run yaml-language-server"
}

# `ask FILE LINE COLUMN`, both from 1; the answer's parts by `part EXPRESSION`.
ask() {
    python3 "$repository/tests/e2e/ask_language_server.py" "$server" "$suite_dir/recipe.schema.json" "$@" >answer 2>trouble ||
        fail_case "the language server gave no answer: $(tail -n 3 trouble)"
}
part() { python3 -c 'import json, sys; print(eval(sys.argv[1], {"answer": json.load(open("answer"))}))' "$1"; }

editors_cases() {
    local folder=$outer_cache/gpustrap/yaml-language-server-2.0.0
    server=$folder/node_modules/yaml-language-server/bin/yaml-language-server
    [ -e "$server" ] || HOME=$outer_home npm install --prefix "$folder" --no-audit --no-fund --silent yaml-language-server@2.0.0

    case_ "a recipe that loads has no problem, a built-in one neither"
    gpustrap recipe schema
    expect_exit 0
    cp stdout "$suite_dir/recipe.schema.json"
    local recipe
    for recipe in d2l tensorflow check-gpu; do
        cp "$repository/recipes/$recipe.yaml" .
        ask "$recipe.yaml" 1 1
        expect_equal "$(part 'answer["problems"]')" "[]"
    done

    case_ "what is misspelt or of another type is underlined where it stands"
    printf 'name: lab\nsteps:\n  - apt: { package: [git] }\n  - file: { path: ~/a, content: a, mode: [1] }\n  - fiel: { path: ~/a }\n' >wrong.yaml
    ask wrong.yaml 1 1
    expect_equal "$(part 'sorted({problem.split(":")[0] for problem in answer["problems"]})')" "['3', '4', '5']"

    case_ "a step's kinds are completed, and its common fields"
    printf 'name: lab\nsteps:\n  - \n' >kinds.yaml
    ask kinds.yaml 3 5
    expect_equal "$(part '[one for one in ("apt", "conda_env", "nvidia_driver", "pip", "needs", "when") if one not in answer["complete"]]')" "[]"

    case_ "a kind's own fields are completed"
    printf 'name: lab\nsteps:\n  - pip:\n      venv: ~/env\n      \n' >fields.yaml
    ask fields.yaml 5 7
    expect_equal "$(part '[one for one in ("packages", "requirements", "index", "upgrade") if one not in answer["complete"]]')" "[]"
    expect_equal "$(part '"recommends" in answer["complete"]')" False

    case_ "hovering over a kind tells what it is for, and what it takes"
    printf 'name: lab\nsteps:\n  - nvidia_driver: { branch: auto }\n' >hover.yaml
    ask hover.yaml 3 7
    expect_equal "$(part '"nvidia" in answer["hover"] and "branch" in answer["hover"]')" True
}
