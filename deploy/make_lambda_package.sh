#!/bin/sh
# Fills a folder with what the Lambda's handler needs and nothing else; run from the repository's root.
#
#     deploy/make_lambda_package.sh FOLDER [PYTHON]
#
# PYTHON is the interpreter that will run the package: libraries are compiled for its version. The package index is the
# one that pip is set to (PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf).
set -eu
folder=$1
python=${2:-python3}
"$python" -m pip install --quiet --no-cache-dir --no-compile --no-deps --only-binary :all: \
    --require-hashes --requirement deploy/serverless-requirements.txt --target "$folder"

# The package, but for what trains, draws or serves over HTTP.
source=image_classification_trash
mkdir -p "$folder/$source/serving/http"
cp "$source/__init__.py" "$source/errors.py" "$source/files.py" "$source/version.py" "$folder/$source/"
cp -R "$source/inference" "$folder/$source/"
for module in __init__ lambda_function pipeline safe_fetch http/__init__ http/api_errors http/long_json http/request_json; do
    cp "$source/serving/$module.py" "$folder/$source/serving/$module.py"
done

cd "$folder"
# LiteRT: the interpreter alone, without accelerators, vendors' compilers, tools and the newer interface.
find ai_edge_litert -type f ! -name __init__.py ! -name interpreter.py ! -name 'metrics_*.py' \
    ! -name '_pywrap_litert_interpreter_wrapper*.so' ! -name 'libpywrap_litert_common.so' -delete
# numpy: no tests, no compilers' headers, and none of the parts that it loads only when asked for.
(cd numpy && rm -rf f2py fft ma polynomial random testing typing/tests _core/include _core/lib _core/_simd*.so \
    _core/*_tests.*.so _core/_struct_ufunc_tests*.so)
# Pillow: the formats that photos come in; no text, colour profiles, displays.
find PIL -name '*ImagePlugin.py' ! -name 'Avif*' ! -name 'Bmp*' ! -name 'Gif*' ! -name 'Jpeg*' ! -name 'Mpo*' \
    ! -name 'Png*' ! -name 'Ppm*' ! -name 'Tiff*' ! -name 'WebP*' -delete
rm -f PIL/_imagingft.*.so PIL/_imagingtk.*.so PIL/_imagingcms.*.so PIL/_imagingmath.*.so PIL/_imagingmorph.*.so \
    PIL/ImageQt.py PIL/ImageTk.py \
    pillow.libs/libfreetype-* pillow.libs/libharfbuzz-* pillow.libs/libbrotli* pillow.libs/liblcms2-*
# The installer's own notes; the libraries' licences stay.
rm -rf bin ./*.dist-info/RECORD ./*.dist-info/sboms
find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
find . -name '*.pyi' -delete
find . -type d -empty -delete

# A Lambda's disk is read-only, so byte code that is not there now is made anew in every cold start.
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash .
