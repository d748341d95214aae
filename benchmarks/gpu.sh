#!/usr/bin/env bash
# The standing job for a machine with an accelerator: tables on the screen, JSON in a folder.
#
#   benchmarks/gpu.sh [--small] [PART ...]      PART: ceilings step augmentation losses fashion
#
# Without parts it runs them all, each under 10 minutes. Environment:
#   OUT            where the JSON goes (benchmarks/out)
#   PYTHON         a Python with jax for this accelerator (python3)
#   TORCH_PYTHON   a Python with PyTorch, for the rival of `step` (PYTHON)
#   WHEELS         a folder of wheels for packages that PYTHON lacks, installed aside without network
#   MINUTES        of training in `fashion` (5)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

small=()
parts=()
for argument in "$@"; do
  case "$argument" in
    --small) small=(--small) ;;
    ceilings | step | augmentation | losses | fashion) parts+=("$argument") ;;
    *) echo "error: unknown part '$argument'; write ceilings, step, augmentation, losses or fashion" >&2
       exit 2 ;;
  esac
done
[ ${#parts[@]} -gt 0 ] || parts=(ceilings augmentation step losses fashion)

out=${OUT:-benchmarks/out}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONUNBUFFERED=1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# One compilation for all parts and for the next call.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/ssl_jax/xla}
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl || exit 1
  export PYTHONPATH="$PYTHONPATH:$site"
fi

failed=0
for part in "${parts[@]}"; do
  echo "== $part"
  case "$part" in
    augmentation) extra=(--size 224 --batch 256)
      [ ${#small[@]} -eq 0 ] || extra=(--size 16 --batch 4 --seconds 0.01) ;;
    step) extra=(--torch_python "${TORCH_PYTHON-$python}" "${small[@]}") ;;
    fashion) extra=(--minutes "${MINUTES:-5}" "${small[@]}") ;;
    *) extra=("${small[@]}") ;;
  esac
  timeout 590 "$python" -m "benchmarks.$part" "${extra[@]}" --json "$out/$part.json"
  status=$?
  [ $status -eq 0 ] || { echo "error: part $part ended with status $status" >&2; failed=1; }
done
exit $failed
