# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# The recipes that ship with gpustrap, each on a bare host, twice, and with what goes wrong on the way. apt, pip, Python and Jupyter are
# real; the frameworks are stand-ins (stand_in_index.py), and there is no GPU.

recipes_needs() { needs_gpustrap; }

recipes_cases() {
    case_ "pytorch: while another package manager is at work, then from an index that fails half-way: said so, and completed by a rerun"
    boot_host box
    mkdir -p "$suite_dir/www"
    "$e2e_dir/stand_in_index.py" "$suite_dir/www/simple"
    serve "$suite_dir/www"
    trust_origin
    package_manager_at_work 20
    up_recipe pytorch "$origin/~status=404/simple/"
    expect_exit 1
    expect_output "torch"
    expect_output "(perl) holds the locks of apt"
    expect_output '"step":"apt","outcome":"changed"'
    up_recipe pytorch "$origin/simple/"
    expect_exit 0
    expect_output '"step":"framework","outcome":"skipped"' # there is no GPU
    as_login /home/ubuntu/pytorch-env/bin/python -c 'import torch; print("torch", torch.__version__)'
    expect_output "torch 2.14.0"

    case_ "pytorch: the same command again changes nothing"
    up_recipe pytorch "$origin/simple/"
    expect_exit 0
    expect_unchanged_but_skipped

    case_ "tensorflow: while another package manager is at work, from an index that fails, and onto a full disk: each is said"
    package_manager_at_work 10
    up_recipe tensorflow "$origin/~status=404/simple/"
    expect_exit 1
    expect_output "tensorflow"
    full_disk /home/ubuntu/tensorflow-env 24M
    up_recipe tensorflow "$origin/simple/"
    expect_exit 1
    expect_output "No space left"
    on_host umount -l /home/ubuntu/tensorflow-env

    case_ "tensorflow: beside another recipe's environment, whose notebook it takes over"
    up_recipe tensorflow "$origin/simple/"
    expect_exit 0
    as_login /home/ubuntu/tensorflow-env/bin/python -c 'import tensorflow as tf; print("tensorflow", tf.__version__)'
    expect_output "tensorflow 2.21.0"
    on_host systemctl show -p ExecStart gpustrap-jupyter.service
    expect_output tensorflow-env

    case_ "tensorflow: the same command again changes nothing"
    up_recipe tensorflow "$origin/simple/"
    expect_exit 0
    expect_unchanged_but_skipped

    case_ "pytorch: a disk that fills up while packages are unpacked is named, and after room was made a rerun completes"
    full_disk /home/ubuntu/pytorch-env 24M
    up_recipe pytorch "$origin/simple/"
    expect_exit 1
    expect_output "No space left"
    on_host mount -o remount,size=1G /home/ubuntu/pytorch-env
    expect_exit 0
    up_recipe pytorch "$origin/simple/"
    expect_exit 0
    on_host umount -l /home/ubuntu/pytorch-env
    expect_exit 0

    case_ "pip: a wheel whose download is cut is gone on with, not begun anew"
    make_large_wheel >"$suite_dir/pip.yaml"
    up "$suite_dir/pip.yaml" --json
    expect_exit 0
    grep -q "large-1.0-py3-none-any.whl bytes=" "$suite_dir/origin/requests" || fail_case "nothing was asked for from where the download was cut"

    case_ "jupyter: while another package manager is at work, from an index that fails, and onto a full disk: each is said"
    boot_host plain
    trust_origin
    package_manager_at_work 20
    on_host sh -c "cp /etc/pip.conf /root/pip.conf; printf '[global]\nindex-url = $origin/~status=404/simple/\n' >/etc/pip.conf"
    up jupyter --var port=8895 --json
    expect_exit 1
    expect_output "(perl) holds the locks of apt"
    expect_output "jupyterlab"
    on_host cp /root/pip.conf /etc/pip.conf
    full_disk /home/ubuntu/jupyter-env 24M
    up jupyter --var port=8895 --json
    expect_exit 1
    expect_output "No space left"
    on_host umount -l /home/ubuntu/jupyter-env

    case_ "jupyter: and completed by a rerun, which the next one finds whole"
    up jupyter --var port=8895 --json
    expect_exit 0
    up jupyter --var port=8895 --json
    expect_exit 0
    expect_unchanged
}

# A stand-in wheel of 6 MB, that the index leads to in a way that is cut once; and a recipe that installs it.
make_large_wheel() {
    local folder=$suite_dir/www/cut/large
    mkdir -p "$folder"
    python3 - "$folder/large-1.0-py3-none-any.whl" <<'WHEEL'
import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("large.bin", os.urandom(6_000_000))
    wheel.writestr("large-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: large\nVersion: 1.0\n")
    wheel.writestr("large-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("large-1.0.dist-info/RECORD", "large.bin,,\nlarge-1.0.dist-info/METADATA,,\nlarge-1.0.dist-info/WHEEL,,\nlarge-1.0.dist-info/RECORD,,\n")
WHEEL
    echo "<a href=\"$origin/~cut=2000000;times=1/cut/large/large-1.0-py3-none-any.whl\">large-1.0-py3-none-any.whl</a>" >"$folder/index.html"
    cat <<RECIPE
name: large
steps:
  - venv: { path: ~/large-env }
  - pip: { venv: ~/large-env, packages: [large], index: $origin/cut }
RECIPE
}

up_recipe() { up "$1" --var "index=$2" --var disk=1GiB --json "${@:3}"; }

expect_unchanged_but_skipped() {
    local other
    other=$(json_events step_finished | grep -v -E '"outcome": *"(unchanged|skipped)"' || true)
    [ -n "$(json_events step_finished)" ] || fail_case "no step finished"
    [ -z "$other" ] || fail_case "steps that were not unchanged:"$'\n'"$other"
}
