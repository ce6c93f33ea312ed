#!/usr/bin/env bash
# An API server refuses exec with HTTP 403 and a Status, as for any request. kubectl shows the Status's message. A good
# guess: client libraries raise what they raise for a refused list, with code and message. Seen on 2026-11-30:
#
#   kubernetes 37.0.2 (Python)     list: ForbiddenException, status 403. exec: ApiException with status 0, the code and
#                                  the Status only as text within `reason`, `body` None
#   kubernetes_asyncio 36.1.0      exec: WSServerHandshakeError, the message is lost
#   lightkube 1.0.1, kr8s 0.20.15  exec: WebSocketUpgradeError, the message is lost
#   @kubernetes/client-node 2.0.1  exec: no Error but an ErrorEvent, the message is lost
#
# Also seen: kr8s, asked for one pod by its name, sends no get but a list with the same field selector twice: a role that
# may `get` pods and not `list` them does not serve it.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(cat "$work/pid") 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip -q install kubernetes==37.0.2 kubernetes_asyncio==36.1.0 kr8s==0.20.15 lightkube==1.0.1
mkdir js && (cd js && npm init -y >/dev/null && npm install --silent --no-audit --no-fund @kubernetes/client-node@2.0.1 node@22.23.3 >/dev/null)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null

# One pod that can be read, and everything else refused.
cat > server.py <<'PY'
import http.server, json, os, socketserver, ssl
pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "shop"},
       "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Running", "conditions": [{"type": t, "status": "True"} for t in ("Ready", "ContainersReady")]}}
refusal = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "exec is not for you",
           "reason": "Forbidden", "details": {"kind": "pods"}, "code": 403}
version = {"major": "1", "minor": "35", "gitVersion": "v1.35.0"}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        path, _, query = self.path.partition("?")
        with open("seen", "a") as seen: seen.write(f"{self.command} {self.path}\n")
        code, answer = 403, refusal
        if path == "/api/v1/namespaces/shop/pods/web": code, answer = 200, pod
        elif path == "/api/v1/namespaces/shop/pods" and "fieldSelector" in query:
            code, answer = 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]}
        elif path.rstrip("/") == "/version": code, answer = 200, version
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer): daemon_threads = True
server = Server(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
with open("config.part", "w") as file:
    json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "w",
               "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{server.server_port}", "insecure-skip-tls-verify": True}}],
               "users": [{"name": "u", "user": {"token": "t"}}],
               "contexts": [{"name": "w", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}]}, file)
os.rename("config.part", "config")
server.serve_forever()
PY
cat > client.py <<'PY'
import asyncio, sys, warnings
warnings.simplefilter("ignore")
which = sys.argv[1]
try:
    if which.startswith("official"):
        from kubernetes import client, config
        from kubernetes.stream import stream
        config.load_kube_config()
        api = client.CoreV1Api()
        if which == "official-list": api.list_namespaced_pod("shop")
        else: stream(api.connect_get_namespaced_pod_exec, "web", "shop", command=["id"], stdout=True)
    elif which == "asyncio":
        async def run():
            from kubernetes_asyncio import client, config
            from kubernetes_asyncio.stream import WsApiClient
            await config.load_kube_config()
            async with WsApiClient() as api:
                await client.CoreV1Api(api_client=api).connect_get_namespaced_pod_exec("web", "shop", command=["id"], stdout=True)
        asyncio.run(run())
    elif which == "lightkube":
        from lightkube import Client
        Client().exec("web", namespace="shop", command=["id"])
    elif which == "kr8s":
        from kr8s.objects import Pod
        Pod.get("web", namespace="shop").exec(["id"])
except Exception as error:
    told = "told" if "exec is not for you" in str(error) else "not told"
    print(type(error).__name__, getattr(error, "status", None) if which.startswith(("official", "asyncio")) else "-", told)
PY
cat > js/client.mjs <<'JS'
import * as k8s from '@kubernetes/client-node';
const config = new k8s.KubeConfig();
config.loadFromDefault();
try { await new k8s.Exec(config).exec('shop', 'web', 'c', ['id'], null, null, null, false, () => {}); }
catch (error) { console.log(error.constructor.name, error instanceof Error, `${error} ${error.message}`.includes('not for you') ? 'told' : 'not told'); process.exit(); }
JS
python3 server.py & echo $! > pid
until [ -e config ]; do sleep 0.1; done
export KUBECONFIG=$work/config HOME=$work
failed=0
expect() { # what, wanted, command…
  local what=$1 wanted=$2 got
  shift 2
  got=$(timeout 60 "$@" 2>/dev/null) || true
  printf '%-16s %s\n' "$what" "$got"
  [ "$got" = "$wanted" ] || { echo "  changed: was $wanted"; failed=1; }
}
expect "official, list" "ForbiddenException 403 told" py/bin/python client.py official-list
expect "official, exec" "ApiException 0 told" py/bin/python client.py official-exec
expect asyncio "WSServerHandshakeError 403 not told" py/bin/python client.py asyncio
expect lightkube "WebSocketUpgradeError - not told" py/bin/python client.py lightkube
expect client-node "ErrorEvent false not told" js/node_modules/node/bin/node js/client.mjs
: > seen
expect kr8s "WebSocketUpgradeError - not told" py/bin/python client.py kr8s
first=$(grep -m 1 '/pods' seen)
echo "kr8s asks first: $first"
[ "$first" = "GET /api/v1/namespaces/shop/pods?limit=100&fieldSelector=metadata.name%3Dweb%2Cmetadata.name%3Dweb" ] || { echo "  changed"; failed=1; }
exit $failed
