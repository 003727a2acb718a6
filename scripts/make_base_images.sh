#!/usr/bin/env bash
# Base images for trying the dockerfiles where no container registry can be reached: Debian with its own Python, under
# the names that the dockerfiles ask for. As root on Debian or Ubuntu:
#
#     scripts/make_base_images.sh FOLDER
#     source FOLDER/environment        # podman, from then on, works in FOLDER alone
#     scripts/make_base_images.sh --remove FOLDER
#
# They stand in for the real ones: the same Python and the same layout, but not the same builds of either.
# PACKAGES names another Debian mirror than debootstrap's own.
set -euo pipefail
RELEASE=trixie # its Python is 3.13

remove() {
    # shellcheck source=/dev/null
    [ ! -f "$1/environment" ] || (source "$1/environment" && podman system reset --force >/dev/null 2>&1) || true
    { findmnt -rno TARGET || true; } | { grep -F "$1/" || true; } | sort -r | xargs -r umount
    rm -rf "$1"
}

install_tools() {
    local tools=(podman buildah runc netavark aardvark-dns iptables debootstrap)
    dpkg -s "${tools[@]}" >/dev/null 2>&1 && return
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${tools[@]}" >/dev/null
}

write_settings() {
    mkdir -p "$folder"/{storage,run,networks}
    cat >"$folder/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$folder/run/libpod"
[network]
network_backend = "netavark"
network_config_dir = "$folder/networks"
END
    cat >"$folder/storage.conf" <<END
[storage]
driver = "${DRIVER:-overlay}"
graphroot = "$folder/storage"
runroot = "$folder/run"
END
    printf 'export %s\n' "CONTAINERS_CONF=$folder/containers.conf" \
        "CONTAINERS_STORAGE_CONF=$folder/storage.conf" BUILDAH_FORMAT=docker >"$folder/environment"
}

# As docker.io/library/python:3.13-slim: Python and pip on the path.
make_python_image() {
    debootstrap --variant=minbase --include=ca-certificates,python3-pip,python3-venv \
        "$RELEASE" "$folder/debian" ${PACKAGES:+"$PACKAGES"} >"$folder/debootstrap.log"
    ln -s python3 "$folder/debian/usr/bin/python"
    rm -rf "$folder"/debian/var/cache/apt/* "$folder"/debian/var/lib/apt/lists/*
    tar -C "$folder/debian" --exclude=./dev/* -c . |
        podman import --quiet --change "ENV PIP_BREAK_SYSTEM_PACKAGES=1" - docker.io/library/python:3.13-slim
    rm -rf "$folder/debian"
}

# As public.ecr.aws/lambda/python:3.13: the handler's folder, the runtime's client, and the emulator before it.
make_lambda_image() {
    local context=$folder/lambda
    mkdir "$context"
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$context" aws-sam-cli
    python3 -m zipfile -e "$context"/aws_sam_cli-*.whl "$context/sam"
    cp "$context/sam/samcli/local/rapid/aws-lambda-rie-x86_64" "$context/aws-lambda-rie"
    python3 -m pip install --quiet --only-binary :all: --python-version 3.13 --target "$context/runtime" awslambdaric
    printf '%s\n' '#!/bin/sh' 'export PYTHONPATH=/var/runtime:$LAMBDA_TASK_ROOT' \
        'client="/usr/bin/python3 -m awslambdaric"' \
        '[ -n "${AWS_LAMBDA_RUNTIME_API:-}" ] || client="/usr/local/bin/aws-lambda-rie $client"' \
        'exec $client "$@"' >"$context/lambda-entrypoint.sh"
    chmod +x "$context/lambda-entrypoint.sh" "$context/aws-lambda-rie"
    podman build --quiet --tag public.ecr.aws/lambda/python:3.13 --file - "$context" <<'END'
FROM docker.io/library/python:3.13-slim
COPY aws-lambda-rie /usr/local/bin/
COPY lambda-entrypoint.sh /
COPY runtime /var/runtime
ENV LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime
WORKDIR /var/task
ENTRYPOINT ["/lambda-entrypoint.sh"]
END
    rm -rf "$context"
}

if [ "${1:-}" = --remove ]; then
    remove "$(realpath "$2")"
    exit
fi
[ "$(id -u)" = 0 ] || { echo "make_base_images.sh: needs root, for debootstrap and podman." >&2; exit 1; }
folder=$(realpath -m "${1:?usage: make_base_images.sh [--remove] FOLDER}")
install_tools || { echo "make_base_images.sh: podman and its like cannot be installed." >&2; exit 77; }
write_settings
# shellcheck source=/dev/null
source "$folder/environment"
make_python_image
make_lambda_image
