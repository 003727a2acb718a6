#!/usr/bin/env bash
# Write the locks, for Python 3.11 and later. requirements.txt is the one that the others follow: the newest versions
# that fit pyproject.toml.
#
#     scripts/lock.sh             all of them, with new versions
#     scripts/lock.sh --hashes    only those with hashes, in the versions of requirements.txt
#
# The images and the release install nothing without a hash. Hashes are those that the package index states.
# CUDA's libraries are left to torch's own requirements, so that its CPU build fits the same lock; it has no hashes for
# the same reason. backports.strenum 1.3 is for Python before 3.11, which uv, unlike pip, overlooks.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    "${UV:-.venv/bin/uv}" pip compile --universal --python-version 3.11 --no-header --no-annotate --quiet "$@"
}

# hashed FILE TITLE [uv's words]: a lock with hashes, in the versions of requirements.txt where it has them.
hashed() {
    local file=$1 title=$2
    shift 2
    { echo "# $title Made by scripts/lock.sh."
      compile --generate-hashes --constraint requirements.txt "$@" --output-file "$folder/lock.txt" >/dev/null
      cat "$folder/lock.txt"; } >"$file.new"
    mv "$file.new" "$file"
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ "${1:-}" != --hashes ]; then
    {
        echo "# The tested versions. Made by scripts/lock.sh from pyproject.toml; install: pip install -r requirements.txt"
        compile pyproject.toml --extra train --extra export --extra openvino --extra serve --extra trace --extra parquet --extra cloud --extra ray --extra track --extra docs --extra notebooks --extra tune --extra dev \
            --constraint <(echo 'backports-strenum<1.3') | grep -vE '^(nvidia-|cuda-|triton)'
    } >requirements.txt.new
    mv requirements.txt.new requirements.txt
fi
hashed deploy/gateway-requirements.txt "What the gateway's image holds." pyproject.toml --extra serve
printf '%s\n' ai-edge-litert h11 numpy pillow >"$folder/serverless.in"
hashed deploy/serverless-requirements.txt \
    "What the Lambda's package holds; installed without dependencies, as the handler imports no others." "$folder/serverless.in" --no-deps
hashed deploy/build-requirements.txt "What builds the wheel, in images and for a release." --group pyproject.toml:build
hashed .github/release-requirements.txt "What checks and describes a release, beside deploy/build-requirements.txt." \
    --group pyproject.toml:release --constraint deploy/build-requirements.txt
# The stand-in has versions of its own, as KServe holds back others: they are edited by hand and get their hashes here.
grep -oE '^[A-Za-z0-9][^ \\]*==[^ \\]+' deploy/stand-in-requirements.txt >"$folder/stand-in.in"
compile --generate-hashes --no-deps "$folder/stand-in.in" --output-file "$folder/lock.txt" >/dev/null
{ sed '/^[^#]/,$d' deploy/stand-in-requirements.txt; cat "$folder/lock.txt"; } >deploy/stand-in-requirements.txt.new
mv deploy/stand-in-requirements.txt.new deploy/stand-in-requirements.txt
