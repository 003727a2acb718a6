#!/usr/bin/env bash
# Write requirements.txt: the newest versions that fit pyproject.toml, for Python 3.11 and later.
# CUDA's libraries are left to torch's own requirements, so that its CPU build fits the same lock.
# backports.strenum 1.3 is for Python before 3.11, which uv, unlike pip, overlooks.
set -euo pipefail
{
    echo "# The tested versions. Made by scripts/lock.sh from pyproject.toml; install: pip install -r requirements.txt"
    "${UV:-.venv/bin/uv}" pip compile pyproject.toml --extra train --extra export --extra serve --extra parquet --extra track --extra docs --extra notebooks --extra tune --extra dev --universal --python-version 3.11 \
        --constraint <(echo 'backports-strenum<1.3') --no-header --no-annotate --quiet | grep -vE '^(nvidia-|cuda-|triton)'
} >requirements.txt.new
mv requirements.txt.new requirements.txt
