# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# Drivers and toolkits on hosts with stand-in GPUs. apt, dpkg, signatures, systemd and restarts are real. NVIDIA's repository is a
# stand-in: a throw-away key, and tiny packages of the real names. Their "module" is a file, "loading" it shows the file that a driver
# would show in /proc, and their nvidia-smi answers by that. No case here says that a real driver works.

# shellcheck source=tests/testbed/stand_in_nvidia.sh
. "$repository/tests/testbed/stand_in_nvidia.sh"

driver_needs() {
    needs_gpustrap
    local tool
    for tool in gpg dpkg-scanpackages; do
        have "$tool" || echo "$tool is not installed"
    done
}

driver_cases() {
    case_ "what would be done is told before anything is changed"
    boot_host gpu --gpu t4 --machine
    publish_stand_ins
    trust_origin
    driver_recipe 535 >"$suite_dir/old.yaml"
    driver_recipe 580 12.9 >"$suite_dir/recipe.yaml"
    # The first one brings the agent; the second leaves no trace.
    gpustrap plan "$suite_dir/recipe.yaml" "$host" -i "$key" --accept-new-host-key
    take_listing
    gpustrap plan "$suite_dir/recipe.yaml" "$host" -i "$key"
    expect_exit 0
    expect_output "Tesla T4 (sm_75): driver branch 580, open modules"
    expect_output "install from NVIDIA's repository: nvidia-open-580"
    expect_output "cuda-toolkit-12-9"
    expect_same_listing

    case_ "a key that is not NVIDIA's is not trusted, and apt is left as it was"
    sed "s/fingerprint: \"[0-9A-F]*/fingerprint: \"00000000000000000000000000000000$key_id/" "$suite_dir/recipe.yaml" >"$suite_dir/wrong.yaml"
    up "$suite_dir/wrong.yaml"
    expect_exit 1
    expect_output "is not the key that is trusted: it holds $fingerprint"
    on_host test ! -e /etc/apt/sources.list.d/nvidia-cuda.sources
    expect_exit 0

    case_ "a driver is installed, loaded without a restart, and held with its services"
    up "$suite_dir/old.yaml" --json
    expect_exit 0
    expect_output "nvidia-smi answers: Tesla T4"
    expect_output "driver 535.261.03 is loaded and stays"
    expect_no_output '"event":"rebooting"'
    on_host apt-mark showhold
    expect_output "nvidia-open-535"
    on_host systemctl is-active nvidia-persistenced
    expect_output active
    up "$suite_dir/old.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "a driver that programs compute with is left to them"
    on_host sh -c 'echo "812, python3" >/run/stand-in-programs'
    up "$suite_dir/recipe.yaml"
    expect_exit 1
    expect_output "812 (python3) computes on the GPUs, and another driver would end that"
    printf 'name: restart\nsteps:\n  - reboot: always\n' >"$suite_dir/restart.yaml"
    up "$suite_dir/restart.yaml"
    expect_exit 1
    expect_output "812 (python3) computes on the GPUs, and a restart would end that"
    on_host rm /run/stand-in-programs

    case_ "another branch needs a restart, which is journalled, and the run goes on behind it"
    up "$suite_dir/recipe.yaml" --json
    expect_exit 0
    expect_output '"event":"rebooting"'
    expect_output "driver 535.261.03 is loaded and in use, and 580.95.05 is installed"
    expect_output "driver 580.95.05 is loaded and stays"
    on_host /usr/local/cuda/bin/nvcc --version
    expect_output "release 12.9"
    # shellcheck disable=SC2016 # dpkg's own placeholders
    on_host dpkg-query -W -f '${Package} ${Status}\n' 'nvidia-open*' 'cuda*'
    expect_output "cuda-toolkit-12-9 install ok installed"
    expect_output "nvidia-open-580 hold ok installed"
    expect_no_output "cuda-drivers"
    up "$suite_dir/recipe.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "a second run with everything in place touches nothing"
    take_listing
    up "$suite_dir/recipe.yaml" --json
    expect_exit 0
    expect_unchanged
    expect_same_listing

    case_ "a toolkit beside the first, and back again: each by one word of the recipe"
    sed 's/12\.9/12.8/' "$suite_dir/recipe.yaml" >"$suite_dir/other.yaml"
    up "$suite_dir/other.yaml" --json
    expect_exit 0
    on_host readlink -f /usr/local/cuda
    expect_output /usr/local/cuda-12.8
    up "$suite_dir/recipe.yaml" --json
    expect_exit 0
    on_host readlink -f /usr/local/cuda
    expect_output /usr/local/cuda-12.9
    on_host readlink /usr/local/cuda
    expect_output /etc/alternatives/cuda

    case_ "a toolkit by NVIDIA's installer stands beside those of packages"
    runfile_recipe >"$suite_dir/runfile.yaml"
    up "$suite_dir/runfile.yaml" --json
    expect_exit 0
    on_host readlink -f /usr/local/cuda
    expect_output /usr/local/cuda-11.8
    on_host cat /var/lib/stand-in/runfile-arguments
    expect_output "--silent --toolkit --override"
    up "$suite_dir/runfile.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "a toolkit that would bring a driver along is refused"
    sed 's/12\.9/12.6/' "$suite_dir/recipe.yaml" >"$suite_dir/greedy.yaml"
    up "$suite_dir/greedy.yaml"
    expect_exit 1
    expect_output "cuda-toolkit-12-6 would install cuda-drivers along with it"

    case_ "a CUDA that the GPU cannot run is refused with the reason"
    boot_host old --gpu k80 --machine
    trust_origin
    driver_recipe auto 12.9 >"$suite_dir/k80.yaml"
    up "$suite_dir/k80.yaml"
    expect_exit 1
    expect_output "CUDA 12.9 cannot run on Tesla K80 (sm_37): the last is 11.8 with driver branch 470"
    on_host test ! -e /etc/apt/sources.list.d/nvidia-cuda.sources
    expect_exit 0

    case_ "Debian's own driver, which is real, tells what it lacks: its component, then the kernel's headers"
    cat >"$suite_dir/debian.yaml" <<RECIPE
name: debian
steps:
  - nvidia_driver: { source: debian, modules: proprietary }
RECIPE
    boot_host debian --gpu t4 --machine --codename bookworm
    up "$suite_dir/debian.yaml"
    expect_exit 1
    expect_output "Debian has it in the component non-free"
    on_host sh -c 'sed -i "s/^Components:.*/Components: main contrib non-free non-free-firmware/; s/ main$/ main contrib non-free non-free-firmware/" /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null; rm -rf /var/lib/apt/lists/*'
    up "$suite_dir/debian.yaml"
    expect_exit 1
    expect_output "the headers of the running kernel $(uname -r) are not to be had"
    ! on_host dpkg-query -W nvidia-kernel-dkms

    case_ "NVIDIA's real tool without its driver is told apart"
    on_host apt-get install -y -qq --no-install-recommends nvidia-smi
    printf 'name: smi\nsteps:\n  - nvidia_smi: {}\n' >"$suite_dir/smi.yaml"
    up "$suite_dir/smi.yaml"
    expect_exit 1
    expect_output "there is no nvidia module for the kernel"

    case_ "in a container nothing is installed, and that is said"
    boot_host box --gpu t4
    trust_origin
    up "$suite_dir/recipe.yaml"
    expect_exit 1
    expect_output "a container has its driver from outside, and none is loaded"
    on_host test ! -e /etc/apt/sources.list.d/nvidia-cuda.sources
    expect_exit 0
}

# driver_recipe BRANCH [CUDA]
driver_recipe() {
    cat <<RECIPE
name: driver
steps:
  - nvidia_driver: { branch: "$1", source: nvidia, mirror: $origin/repos, fingerprint: "$fingerprint" }
RECIPE
    [ -z "${2:-}" ] || echo "  - cuda: { version: \"$2\", mirror: $origin/repos, fingerprint: \"$fingerprint\" }"
}

runfile_recipe() {
    local digest
    digest=$(sha256sum "$suite_dir/www/cuda_11.8.0_stand-in.run" | cut -c1-64)
    cat <<RECIPE
name: runfile
steps:
  - cuda: { version: "11.8", from: runfile, url: $origin/cuda_11.8.0_stand-in.run, sha256: $digest }
RECIPE
}
