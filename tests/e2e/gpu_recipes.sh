# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# The shipped recipes that a GPU is needed for, each twice, and each with what goes wrong on the way: a file missing at its origin, another
# package manager at work, a full disk. apt, dpkg, systemd, git, pip and Jupyter are real. GPUs, driver, toolkits (stand_in_nvidia.sh), conda
# (stand_in_conda.py) and MXNet (stand_in_index.py) are stand-ins: no case here says that a real one works.

# shellcheck source=tests/testbed/stand_in_nvidia.sh
. "$repository/tests/testbed/stand_in_nvidia.sh"

gpu_recipes_needs() {
    needs_gpustrap
    local tool
    for tool in gpg dpkg-scanpackages g++ git; do
        have "$tool" || echo "$tool is not installed"
    done
}

gpu_recipes_cases() {
    case_ "check-gpu: without a driver it says so, and changes nothing"
    boot_host gpu --gpu t4 --machine
    publish_stand_ins
    trust_origin
    up check-gpu --json
    expect_exit 1
    expect_output "no NVIDIA driver is installed: there is no nvidia-smi"

    case_ "cuda: behind another package manager, and with a package missing at its origin: said so"
    with_stand_ins cuda >"$suite_dir/cuda.yaml"
    package_manager_at_work 15
    mv "$repo/cuda-toolkit-12-9.deb" "$suite_dir/away.deb"
    up "$suite_dir/cuda.yaml" --var version=12.9 --var branch=580 --json
    expect_exit 1
    expect_output "(perl) holds the locks of apt"
    expect_output "cuda-toolkit-12-9"
    expect_output "404"
    mv "$suite_dir/away.deb" "$repo/cuda-toolkit-12-9.deb"

    case_ "cuda: a disk that is full where the toolkit is unpacked is named, and after room was made a rerun completes"
    full_disk /usr/local/cuda-12.9 1M
    up "$suite_dir/cuda.yaml" --var version=12.9 --var branch=580 --json
    expect_exit 1
    expect_output "No space left"
    make_room /usr/local/cuda-12.9
    up "$suite_dir/cuda.yaml" --var version=12.9 --var branch=580 --json
    expect_exit 0
    expect_output "Tesla T4"
    # shellcheck disable=SC2016 # expanded on the host
    as_login bash -ic 'nvcc --version; echo "libraries $LD_LIBRARY_PATH"'
    expect_output "release 12.9"

    case_ "cuda: the same command again changes nothing"
    up "$suite_dir/cuda.yaml" --var version=12.9 --var branch=580 --json
    expect_exit 0
    expect_unchanged

    case_ "check-gpu: the GPU answers and computes, and a second look says the same"
    up check-gpu --json
    expect_exit 0
    up check-gpu --json
    expect_exit 0
    expect_unchanged

    case_ "cuda-runfile: an installer that is not there, then a full disk, then whole"
    with_stand_ins cuda-runfile >"$suite_dir/runfile.yaml"
    runfile cuda_gone.run
    expect_exit 1
    expect_output "404"
    full_disk /usr/local/cuda-11.8 1M
    runfile cuda_11.8.0_stand-in.run
    expect_exit 1
    expect_output "No space left"
    make_room /usr/local/cuda-11.8
    package_manager_at_work 10
    runfile cuda_11.8.0_stand-in.run
    expect_exit 0
    on_host readlink -f /usr/local/cuda
    expect_output /usr/local/cuda-11.8
    runfile cuda_11.8.0_stand-in.run
    expect_exit 0
    expect_unchanged

    case_ "dlami: an image that has driver and toolkits: the one that is meant, proof, a course, a notebook"
    publish_book
    with_stand_ins dlami >"$suite_dir/dlami.yaml"
    package_manager_at_work 10
    image "$origin/~status=404/book.git"
    expect_exit 1
    expect_output "404"
    full_disk /home/ubuntu/jupyter-env 1M
    image "$origin/book.git"
    expect_exit 1
    expect_output "No space left"
    make_room /home/ubuntu/jupyter-env
    image "$origin/book.git"
    expect_exit 0
    on_host readlink -f /usr/local/cuda
    expect_output /usr/local/cuda-12.9
    image "$origin/book.git"
    expect_exit 0
    expect_unchanged

    case_ "d2l-2020: on a T4, with what goes wrong on the way, to a notebook of the book's own text"
    "$repository/tests/testbed/stand_in_conda.py" channel "$suite_dir/www/conda-forge"
    "$repository/tests/testbed/stand_in_conda.py" installer "$suite_dir/www/installer.sh" --channels "$origin/conda-forge"
    "$e2e_dir/stand_in_index.py" "$suite_dir/www/simple"
    book >"$suite_dir/d2l-2020.yaml"
    mv "$suite_dir/www/installer.sh" "$suite_dir/away.sh"
    package_manager_at_work 10
    up_book
    expect_exit 1
    expect_output "404"
    mv "$suite_dir/away.sh" "$suite_dir/www/installer.sh"
    full_disk /home/ubuntu/conda 1M
    up_book
    expect_exit 1
    expect_output "No space left"
    make_room /home/ubuntu/conda
    up_book
    expect_exit 0
    expect_output "with MXNet 1.7.0"
    on_host cat /home/ubuntu/d2l-2020/notebooks/chapter_one/page.ipynb
    expect_output "from mxnet import np"
    expect_no_output "import torch"
    expect_no_output "begin_tab"
    on_host grep -h LD_LIBRARY_PATH /home/ubuntu/conda/envs/d2l-2020/share/jupyter/kernels/d2l-2020/kernel.json
    expect_output /home/ubuntu/conda/envs/d2l-2020/lib
    up_book
    expect_exit 0
    expect_unchanged

    case_ "d2l-2020: a notebook that its user changed stays, and one that was deleted comes back with its mark"
    on_host sh -c 'cd /home/ubuntu/d2l-2020/notebooks; echo mine >chapter_one/page.ipynb; rm index.ipynb .complete'
    up_book
    expect_exit 0
    on_host cat /home/ubuntu/d2l-2020/notebooks/chapter_one/page.ipynb
    expect_equal "$(cat "$case_dir/stdout")" mine
    on_host test -e /home/ubuntu/d2l-2020/notebooks/index.ipynb

    case_ "d2l-2020: refused where CUDA 10.1 has no code for the GPU, before anything is installed"
    boot_host new --gpu l4 --machine
    trust_origin
    up_book
    expect_exit 1
    expect_output "CUDA 10.1 cannot run on NVIDIA L4 (sm_89): the first is 11.8"
    ! on_host test -e /home/ubuntu/conda
}

# A recipe that ships, with NVIDIA's stand-in instead of the repository, and with less room asked for.
with_stand_ins() {
    local stand_in="mirror: $origin/repos, fingerprint: \"$fingerprint\""
    "$bin/gpustrap" recipe show "$1" | sed "s/disk_free: [^ ]*GiB/disk_free: 100MiB/
        s|nvidia_driver: {|& source: nvidia, $stand_in,|
        s|^  - cuda: { version: \(\"[^\"]*\"\) }|  - cuda: { version: \1, $stand_in }|"
}

runfile() {
    up "$suite_dir/runfile.yaml" --var version=11.8 --var branch=580 --var "url=$origin/$1" \
        --var "sha256=$(sha256sum <"$suite_dir/www/cuda_11.8.0_stand-in.run" | cut -c1-64)" --json
}

image() { up "$suite_dir/dlami.yaml" --var version=12.9 --var "course=$1" --var port=8890 --json; }

# MXNet from the stand-in's index, the rest of the notebook's packages from where they really are.
book() {
    with_stand_ins d2l-2020 | sed "s|^  - conda: {|& url: $origin/installer.sh, sha256: $(sha256sum <"$suite_dir/www/installer.sh" | cut -c1-64),|
        s/python: \"3.7\"/python: \"3\"/
        s|^  - pip: .*|  - id: stand_in\n    pip: { env: d2l-2020, conda: \"\${{ vars.prefix }}\", packages: [mxnet-cu101==1.7.0], index: $origin/simple }\n  - pip: { env: d2l-2020, conda: \"\${{ vars.prefix }}\", packages: [jupyterlab] }|"
}

up_book() { up "$suite_dir/d2l-2020.yaml" --var "source=$origin/book.git" --var port=8892 --var disk=100MiB --json; }

# A book of two pages in the format of the real one, which the origin serves as a repository.
publish_book() {
    local tree=$suite_dir/book
    mkdir -p "$tree/chapter_one" "$tree/img"
    echo '# A book' >"$tree/index.md"
    echo '<svg xmlns="http://www.w3.org/2000/svg"/>' >"$tree/img/one.svg"
    cat >"$tree/chapter_one/page.md" <<'PAGE'
# A page
:label:`sec_page`

:begin_tab:`mxnet`
With MXNet.
:end_tab:

:begin_tab:`pytorch`
With PyTorch.
:end_tab:

```{.python .input}
from mxnet import np
```

```{.python .input}
#@tab pytorch
import torch
```

```{.python .input  n=2}
#@tab all
1 + 1
```
PAGE
    git -C "$tree" -c init.defaultBranch=master init --quiet
    git -C "$tree" add .
    git -C "$tree" -c user.name=Test -c user.email=test@example.org commit --quiet -m book
    git -C "$tree" tag v0.16.6
    git clone --quiet --bare "$tree" "$suite_dir/www/book.git"
    touch "$suite_dir/www/book.git/git-daemon-export-ok"
}

# The disk as it was before full_disk.
make_room() {
    on_host umount -l "$1"
    on_host sh -c "rmdir '$1' || true"
}
