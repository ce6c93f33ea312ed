#!/usr/bin/env bash
# `sslrootcert=system` (libpq 16 and later) says: trust what this machine trusts. A good guess: where an authority is in
# Debian's store, as bundle and by its hash, a PostgreSQL driver told so accepts its certificates, as Python's ssl does.
# Seen on 2026-11-30, with Debian 12's store:
#
#   psycopg 3.3.9 [binary], psycopg2-binary 2.9.13   certificate verify failed: the OpenSSL in the wheel looks below the
#                                                    folder that it was built in; SSL_CERT_FILE mends both
#   asyncpg 0.32.0, pg 8.23.1 (node-postgres)        no such file: they open a file of the name "system"
#   postgres 3.4.9 (postgres.js)                     does not look at it: Node's own list decides
#   psqlpy 0.13.1 (tokio-postgres)                   unknown option
#
# So one connection string cannot say it for all, and files of the system alone reach none of these drivers.
# Root is needed: the store is changed in a mount namespace of the script's own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip -q install 'psycopg[binary]==3.3.9' psycopg-binary==3.3.9 psycopg2-binary==2.9.13 asyncpg==0.32.0 psqlpy==0.13.1
mkdir js && (cd js && npm init -y >/dev/null && npm install --silent --no-audit --no-fund pg@8.23.1 postgres@3.4.9 >/dev/null)

key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -days 30 -subj /CN=own-authority -addext keyUsage=critical,keyCertSign 2>/dev/null
openssl req "${key[@]}" -keyout server.key -out server.csr -subj /CN=localhost 2>/dev/null
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n' > extensions
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out server.pem 2>/dev/null
mkdir store && cp -rL /etc/ssl/certs/. store 2>/dev/null || true
cat ca.pem >> store/ca-certificates.crt
cp ca.pem "store/$(openssl x509 -hash -noout -in ca.pem).0"

# Answers SSLRequest, and whoever completes the handshake reads an error of its own.
cat > server.py <<'PY'
import socket, ssl, struct, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
context.set_alpn_protocols(["postgresql"])
listener = socket.create_server(("127.0.0.1", 0))
with open("port.part", "w") as file: file.write(str(listener.getsockname()[1]))
import os; os.rename("port.part", "port")
def serve(client):
    try:
        client.settimeout(5)
        client.recv(8)
        client.sendall(b"S")
        tls = context.wrap_socket(client, server_side=True)
        tls.recv(struct.unpack("!i", tls.recv(4))[0] - 4)
        message = b"SFATAL\0VFATAL\0C28000\0Mtrusted\0\0"
        tls.sendall(b"E" + struct.pack("!i", len(message) + 4) + message)
        tls.close()
    except (OSError, struct.error): pass
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY
cat > client.py <<'PY'
import asyncio, socket, ssl, sys
driver, port = sys.argv[1:]
dsn = f"postgresql://u:p@localhost:{port}/d?sslmode=verify-full&sslrootcert=system"
try:
    if driver == "ssl":
        raw = socket.create_connection(("localhost", int(port)))
        raw.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f"); raw.recv(1)
        ssl.create_default_context().wrap_socket(raw, server_hostname="localhost"); print("trusted")
    elif driver == "psycopg":
        import psycopg; psycopg.connect(dsn)
    elif driver == "psycopg2":
        import psycopg2; psycopg2.connect(dsn)
    elif driver == "asyncpg":
        import asyncpg; asyncio.run(asyncpg.connect(dsn))
    elif driver == "psqlpy":
        import psqlpy
        async def connect(): await psqlpy.connect(dsn)
        asyncio.run(connect())
except Exception as error: print(error)
PY
cat > js/client.mjs <<'JS'
const [driver, port] = process.argv.slice(2);
const dsn = `postgresql://u:p@localhost:${port}/d?sslmode=verify-full&sslrootcert=system`;
try {
  if (driver === 'pg') { const { default: pg } = await import('pg'); await new pg.Client({ connectionString: dsn }).connect(); }
  else { const { default: postgres } = await import('postgres'); await postgres(dsn, { max: 1 })`select 1`; }
} catch (error) { console.log(error.message); process.exit(); }
JS
cat > inside.sh <<'SH'
set -euo pipefail
mount --bind store /etc/ssl/certs
python3 server.py & server=$!
trap 'kill $server' EXIT
until [ -e port ]; do sleep 0.1; done
port=$(cat port) failed=0
expect() { # driver, part of what it says, command…
  local driver=$1 wanted=$2 got
  shift 2
  got=$(env -i PATH="$PATH" HOME=/nonexistent timeout 30 "$@" "$port" 2>&1 | tr '\n' ' ') || true
  printf '%-22s %s\n' "$driver" "$got"
  case $got in *"$wanted"*) ;; *) echo "  changed: was $wanted"; failed=1 ;; esac
}
expect "Python's ssl" trusted py/bin/python client.py ssl
expect psycopg "certificate verify failed" py/bin/python client.py psycopg
expect psycopg2 "certificate verify failed" py/bin/python client.py psycopg2
expect "psycopg, SSL_CERT_FILE" trusted env SSL_CERT_FILE=store/ca-certificates.crt py/bin/python client.py psycopg
expect "psycopg2, SSL_CERT_FILE" trusted env SSL_CERT_FILE=store/ca-certificates.crt py/bin/python client.py psycopg2
expect asyncpg "No such file" py/bin/python client.py asyncpg
expect pg "no such file or directory, open 'system'" node js/client.mjs pg
expect postgres.js "unable to verify the first certificate" node js/client.mjs postgres
expect psqlpy 'unknown option `sslrootcert`' py/bin/python client.py psqlpy
exit $failed
SH
unshare --mount bash inside.sh
