#!/bin/sh
# README's table of methods: LaFTer next to the methods after it on domains of several shifts, three seeds each.
# benches/methods.sh LAFTER OUT [CLIP TRAIN TEST DESCRIPTIONS]: the program, a folder for the results, and pictures of one's own.
# About 20 minutes of two cores a domain; a run that was done is not done again.
set -eu
lafter=$1 out=$2
here=$(dirname "$0")
mkdir -p "$out"
sed -n '/TEMPLATES:/,/;/p' "$here/../src/data/scenes/demo.rs" | grep -oE '"[^"]*"' | tr -d '"' >"$out/templates.txt"

"$lafter" ablate --model demo --preset demo --methods --seeds 3 --out "$out/demo"

# domain NAME OPTIONS…: as many pictures as the demo has
domain() {
  name=$1
  shift
  if [ ! -d "$out/$name-test" ]; then
    "$lafter" scenes --out "$out/$name-train" --count 1500 --seed 11 "$@"
    "$lafter" scenes --out "$out/$name-test" --count 1008 --seed 12 "$@"
  fi
  "$lafter" ablate --model demo --preset demo --methods --seeds 3 --train "$out/$name-train" --test "$out/$name-test" \
    --descriptions "$here/../src/data/scenes/descriptions.json" --templates "$out/templates.txt" --out "$out/$name"
}
domain contrast --domain source --shift 'contrast=[0.35,0.6]'
domain noise --domain source --shift noise=0.35
domain blur --shift blur=2 --shift noise=0.08

if [ $# -gt 2 ]; then
  "$lafter" ablate --model "$3" --train "$4" --test "$5" --descriptions "$6" --methods --seeds 3 --limit-train 600 --limit-test 1000 \
    --epochs 4 --eval-every 4 --out "$out/own"
fi
