#!/usr/bin/env bash
# Install a wheel as its image does, ask it for a photo, and write what it consists of (CycloneDX):
#
#     scripts/try_wheel.sh dist/image_classification_trash-0.1.0-py3-none-any.whl sbom.cdx.json
#
# PYTHON runs pip and the wheel; SBOM is cyclonedx-py, from `make wheel`'s environment unless said otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(realpath "${1:?usage: try_wheel.sh WHEEL SBOM}") sbom=$(realpath -m "${2:?usage: try_wheel.sh WHEEL SBOM}")
python=${PYTHON:-python3} root=$PWD folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv --without-pip "$folder/venv"
pip() { "$python" -m pip --python "$folder/venv/bin/python" "$@"; }
pip install --quiet --require-hashes -r deploy/gateway-requirements.txt
pip install --quiet --no-index --no-deps "$wheel"
pip check
mkdir "$folder/elsewhere"
(cd "$folder/elsewhere" && "$folder/venv/bin/trash-classifier" predict "$root"/data/sample/test/glass/*.jpg --json >answer.json)
"$folder/venv/bin/python" -c "
import json, sys
answers = json.load(open(sys.argv[1]))['predictions']
assert answers and all(answer['decision'] for answer in answers), answers" "$folder/elsewhere/answer.json"
"${SBOM:-.venv-build/bin/cyclonedx-py}" environment --output-reproducible --validate --pyproject pyproject.toml \
    --output-file "$sbom" "$folder/venv/bin/python"
