#!/usr/bin/env bash
# Prepares a machine (Debian 12 or newer, Ubuntu 24.04 or newer) to build and test this project:
# system packages, then LibTorch and the CUDA libraries it loads, under .deps/.
#
#   scripts/setup.sh [--cpu | --cuda] [--no-apt] [--python] [--bundle]
#
# --cpu      no CUDA: LibTorch's CPU side and the two small CUDA libraries that even it loads
# --cuda     all of LibTorch and all it loads; the default where a CUDA toolkit 13 is found
# --no-apt   leave the system packages alone
# --python   also a Python with torch, numpy and transformers in .deps/python, for tests of what Python sees and for
#            making goldens; needs CPython 3.11 and implies --cuda, since Python's torch loads all of its libraries
# --bundle   also copies the headers and libraries of the system packages into .bundle/, for building on a machine
#            that has none of them: cmake -DCMAKE_PREFIX_PATH=$PWD/.bundle/usr (scripts/gpu_check.sh does)
#
# CUDA libraries of an installed toolkit are linked, and only the missing ones are downloaded. Downloads are kept in
# ${XDG_CACHE_HOME:-~/.cache}/vlmamba, so that a second clone is quick. The handwritten digits of the quickstart come
# out of scikit-learn's wheel in the same way. Without root, install the packages listed below and pass --no-apt.
# Run it again at any time: it does what is missing, and nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

libraries=(  # what the build links, as package names of their development files
  nlohmann-json3-dev libspdlog-dev libfmt-dev libcli11-dev libgtest-dev libgmock-dev libutf8proc-dev libssl-dev
  libjpeg62-turbo-dev libpng-dev libwebp-dev libgif-dev zlib1g-dev)
packages=(
  ca-certificates clang-14 clang-format-14 libclang-rt-14-dev git g++ cmake ninja-build ccache mold python3 python3-pip
  unzip "${libraries[@]}")
wheels=scripts/wheels.txt
deps=$PWD/.deps
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vlmamba/wheels
mode='' apt=yes python=no bundle=no
for argument in "$@"; do
  case $argument in
    --cpu | --cuda) mode=${argument#--} ;;
    --no-apt) apt=no ;;
    --python) python=yes ;;
    --bundle) bundle=yes ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
  esac
done

# --- system packages -----------------------------------------------------------------------------
if [[ $apt == yes ]] && ! dpkg-query -W -f='${Status}\n' "${packages[@]}" 2>&1 | awk '!/^install ok/ {exit 1}'; then
  sudo=$([[ $EUID == 0 ]] || echo sudo)
  $sudo apt-get update -q
  $sudo apt-get install -y -q --no-install-recommends "${packages[@]}"
fi

# --- the CUDA toolkit, if there is one -----------------------------------------------------------
nvcc=$(command -v nvcc || command -v "${CUDA_HOME:-}/bin/nvcc" || true)
toolkit=''
if [[ -n $nvcc ]] && "$nvcc" --version | grep -q 'release 13\.'; then
  toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
fi
mode=${mode:-$([[ -n $toolkit ]] && echo cuda || echo cpu)}
[[ $python == no ]] || mode=cuda
echo "setup: mode $mode, CUDA toolkit ${toolkit:-none}"

# --- the bundle ----------------------------------------------------------------------------------
# Development files as they lie in /usr, with the shared libraries that they link, without static twins of those.
if [[ $bundle == yes ]]; then
  rm -rf .bundle
  dpkg -L "${libraries[@]}" libgtest-dev googletest | sort -u | grep -E '^/usr/(include|lib|share/cmake)/' |
    grep -vE '/lib(ssl|crypto|png.*|jpeg|webp.*|gif|z|fmt|utf8proc|turbojpeg|spdlog)\.a$|^/usr/lib/debug/' |
    while read -r file; do
      if [[ -L $file && $file == *.so ]]; then
        for library in "$(readlink -f "$file")" "$file" "${file%/*}/$(objdump -p "$file" | awk '/SONAME/ {print $2}')"; do
          mkdir -p ".bundle${library%/*}" && cp -a "$library" ".bundle$library"
        done
      elif [[ -f $file ]]; then
        mkdir -p ".bundle${file%/*}" && cp -a "$file" ".bundle$file"
      fi
    done
  # No compiler looks into the folder of an architecture there.
  find .bundle/usr/include -maxdepth 1 -name '*-linux-gnu' -exec cp -an {}/. .bundle/usr/include/ \; -exec rm -r {} +
  echo "setup: $(du -sh .bundle | cut -f1) in .bundle"
fi

# LibTorch looks for the CUDA libraries in nvidia/*/lib beside its own folder.
mkdir -p "$deps/torch" "$deps/nvidia/cu13/lib"
find "$deps/nvidia/cu13/lib" -xtype l -delete
for folder in ${toolkit:+"$toolkit/lib64" "$toolkit/extras/CUPTI/lib64"}; do
  find "$folder/" -maxdepth 1 -name '*.so.*' -exec ln -sf -t "$deps/nvidia/cu13/lib" {} + 2>/dev/null || true
done

# --- the wheels ----------------------------------------------------------------------------------
# Is this library linked from the toolkit, or unpacked from this very wheel?
present() {  # library sha256
  local file
  file=$(compgen -G "$deps/torch/lib/$1" || compgen -G "$deps/nvidia/*/lib/$1" || compgen -G "$deps/digits/$1") &&
    { [[ -L $file ]] || grep -qsx "$1 $2" "$deps/unpacked.txt"; }
}

missing=$(
  while read -r for_mode library wheel sha256; do
    [[ $for_mode == cpu || $for_mode == "$mode" ]] || continue
    present "$library" "$sha256" || echo "$library $wheel $sha256"
  done <"$wheels"
)

# --- Python ----------------------------------------------------------------------------------------
make_python() {
  local site=$deps/python/lib/python3.11/site-packages
  if cmp -s scripts/python.txt "$deps/python/requirements.txt"; then return; fi
  rm -rf "$deps/python"
  python3.11 -m venv "$deps/python"
  "$deps/python/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --find-links "$cache" -r scripts/python.txt
  ln -s "$deps/nvidia" "$site/nvidia"
  "$deps/python/bin/python" -c 'import torch; print("setup: Python with torch", torch.__version__)'
  cp scripts/python.txt "$deps/python/requirements.txt"
}

if [[ -z $missing ]]; then
  [[ $python == no ]] || make_python
  echo "setup: .deps is complete"
  exit
fi

work=$(mktemp -d "$deps/unpacking.XXXXXX")
trap 'rm -rf "$work"' EXIT
awk '{print $2, "--hash=sha256:" $3}' <<<"$missing" | sort -u | tee "$work/requirements.txt"

# One Python tag for everybody: nothing of LibTorch's Python side is kept.
platforms=(--platform manylinux2014_x86_64)
for glibc in 17 18 25 27 28; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
mkdir -p "$cache" "$work/tree/digits"
python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
  --python-version 3.11 --implementation cp --abi cp311 --abi none "${platforms[@]}" \
  -r "$work/requirements.txt" -d "$cache"

sha256sum "$cache"/*.whl >"$work/hashes.txt"
while read -r sha256 wheel; do
  grep -q "$sha256" "$work/requirements.txt" || continue
  case $(basename "$wheel") in
    torch-*)
      skip=('torch/lib/libtorch_python.so' 'torch/lib/libshm*')
      [[ $mode == cuda ]] || skip+=('torch/lib/*cuda*' 'torch/lib/*nv*' 'torch/lib/libtorch.so')
      unzip -q "$wheel" 'torch/include/*' 'torch/lib/*' 'torch/share/*' -x "${skip[@]}" -d "$work/tree" ;;
    scikit_learn-*)
      unzip -qoj "$wheel" sklearn/datasets/data/digits.csv.gz sklearn/datasets/descr/digits.rst -d "$work/tree/digits"
      gunzip "$work/tree/digits/digits.csv.gz" ;;
    *) unzip -qo "$wheel" 'nvidia/*' -d "$work/tree" ;;
  esac
done <"$work/hashes.txt"
[[ ! -d $work/tree/torch ]] || rm -rf "$deps/torch"
cp -al --remove-destination "$work/tree/." "$deps/"
awk '{print $1, $3}' <<<"$missing" >>"$deps/unpacked.txt"
rm -rf "$work"
[[ $python == no ]] || make_python
echo "setup: done, $(du -sh "$deps" | cut -f1) in .deps"
