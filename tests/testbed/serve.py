"""Serves recorded pages by local address: `serve.py PAGES.json PORT…`; PAGES maps "ip:port/path" to a body.

A body that is a list stands for the answers of successive requests (the last one repeats). One that is a map misbehaves:
`hex` (bytes that are no text), `head` and `repeat` up to `bytes` in all, `length` (announced, not kept), `code`, `wait` (seconds).
The file is read again when it changes.
"""
import http.server, json, os, sys, threading, time

PAGES, READ, LOCK, ASKED = {}, [0.0], threading.Lock(), {}


def pages():
    with LOCK:
        changed = os.stat(sys.argv[1]).st_mtime_ns
        if changed != READ[0]:
            with open(sys.argv[1]) as file:
                PAGES.clear()
                PAGES.update(json.load(file))
            READ[0] = changed
        return PAGES


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        host, port = self.connection.getsockname()[:2]
        key = f"{host}:{port}{self.path.split('?')[0]}"
        body = pages().get(key)
        if isinstance(body, list):
            at = ASKED[key] = ASKED.get(key, -1) + 1
            body = body[min(at, len(body) - 1)]
        odd = body if isinstance(body, dict) else {}
        time.sleep(odd.get("wait", 0))
        data = bytes.fromhex(odd["hex"]) if "hex" in odd else (odd.get("head", "") if odd else body or "not found\n").encode()
        more = odd.get("repeat", "").encode()
        total = max(odd.get("bytes", 0), len(data))
        self.send_response(odd.get("code", 200 if body is not None else 404))
        self.send_header("Content-Type", "application/json" if data[:1] in (b"{", b"[") else "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(odd.get("length", total)))
        self.end_headers()
        try:
            self.wfile.write(data)
            chunk = more * (65536 // max(len(more), 1) + 1)
            for at in range(len(data), total, len(chunk) or total):
                self.wfile.write(chunk[:total - at])
        except OSError:
            pass
        if odd:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


servers = [Server(("0.0.0.0", int(port)), Handler) for port in sys.argv[2:]]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
