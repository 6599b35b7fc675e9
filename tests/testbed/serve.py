"""Serves recorded pages by local address: `serve.py PAGES.json PORT…`; PAGES maps "ip:port/path" to a body.

A body that is a list stands for the answers of successive requests (the last one repeats).
"""
import http.server, json, sys, threading

PAGES = json.load(open(sys.argv[1]))
ASKED = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        host, port = self.connection.getsockname()[:2]
        key = f"{host}:{port}{self.path.split('?')[0]}"
        body = PAGES.get(key)
        if isinstance(body, list):
            at = ASKED[key] = ASKED.get(key, -1) + 1
            body = body[min(at, len(body) - 1)]
        data = (body or "not found\n").encode()
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Type", "application/json" if data[:1] in b"{[" else "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


servers = [Server(("0.0.0.0", int(port)), Handler) for port in sys.argv[2:]]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
