"""A store that misbehaves: `http://HOST:PORT/MODE/…` answers in that way, else passes the question on to a real Prometheus.

usage: backend.py ADDRESS PORT MODE: misbehaves in one way only, below `/`.
"""
import http.server, json, sys, threading, time, urllib.error, urllib.parse, urllib.request

# Modes of another clock, and by how many seconds it is ahead.
SKEWS = {"ahead": 3 * 3600, "behind": -3 * 3600}


class Backend:
    def __init__(self, real, address="127.0.0.1", port=0, only=None):
        self.real, self.asked, self.only = real, [], only
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                backend.answer(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, mode):
        return f"http://127.0.0.1:{self.server.server_port}/{mode}"

    def answer(self, handler):
        _, mode, rest = (f"/{self.only}" * bool(self.only) + handler.path).split("/", 2)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.asked.append((mode, handler.command, "/" + rest, body.decode(), dict(handler.headers)))
        # "q-MODE": look-ups work, queries do not.
        only_queries = mode.startswith("q-")
        if only_queries and not rest.startswith("api/v1/query"):
            return self.send(handler, *self.ask(handler, rest, body))
        kind = mode[2:] if only_queries else mode
        error = lambda code, text: self.send(handler, code, json.dumps({"status": "error", "errorType": "execution", "error": text}).encode())
        if kind == "slow":
            time.sleep(6)
            return self.send(handler, *self.ask(handler, rest, body))
        if kind in ("422", "503", "504"):
            return error(int(kind), {"422": "query processing would load too many samples into memory in query execution", "503": "query timed out in expression evaluation", "504": "gateway time-out"}[kind])
        if kind == "html":
            return self.send(handler, 200, b"<!doctype html><html><title>Sign in</title></html>", "text/html")
        if kind == "login":
            handler.send_response(302)
            handler.send_header("Location", "https://login.invalid/")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return None
        if kind == "401":
            return self.send(handler, 401, b"unauthorized\n", "text/plain")
        if kind in SKEWS:
            skew = SKEWS[kind]
            code, data, content = self.ask(handler, *moved(rest, body, -skew))
            handler.date_time_string = lambda timestamp=None: type(handler).date_time_string(handler, time.time() + skew)
            return self.send(handler, code, answered(data, skew), content)
        if kind == "timeless":
            # No Date, and no word of its own.
            handler.send_response = lambda code: (handler.log_request(code), handler.send_response_only(code))
            if b"vector" in body:
                return error(422, "no such function")
        code, data, content = self.ask(handler, rest, body)
        if kind == "type":
            content = "text/plain"
        if kind == "warnings" and code == 200:
            answer = json.loads(data)
            data = json.dumps({**answer, "warnings": ["No StoreAPIs matched for this query"]}).encode()
        if kind == "cut":
            handler.send_response(code)
            handler.send_header("Content-Type", content)
            handler.send_header("Content-Length", str(len(data) + 1000))
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
            return None
        if kind == "heavy" and rest.startswith("api/v1/query") and b"size." not in body and b"%5B0-3%5D" not in body and not any(c in body for c in (b"%5B4-7%5D", b"%5B89ab%5D", b"%5B0-9ab%5D", b"%5Ba-f%5D", b"%5Bg-m%5D", b"%5Bn-s%5D", b"%5B%5Ea-s%5D")) and b"query_range" not in rest.encode() and b"1800s" not in body:
            return error(422, "query processing would load too many samples into memory in query execution")
        return self.send(handler, code, data, content)

    def ask(self, handler, rest, body):
        if self.real is None:
            return 200, b'{"status":"success","data":[]}', "application/json"
        request = urllib.request.Request(f"{self.real}/{rest}", data=body or None, headers={"Content-Type": handler.headers.get("Content-Type") or "text/plain"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers["Content-Type"]

    def send(self, handler, code, data, content="application/json"):
        try:
            handler.send_response(code)
            handler.send_header("Content-Type", content)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass


def moved(rest, body, by):
    """The question as it is by another clock."""
    def form(text):
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
        return urllib.parse.urlencode([(k, f"{float(v) + by:.3f}" if k in ("time", "start", "end") else v) for k, v in pairs])
    path, mark, query = rest.partition("?")
    return path + mark + form(query), form(body.decode()).encode()


def answered(data, by):
    """The answer as it is by another clock."""
    answer = json.loads(data)
    rows = answer["data"].get("result", []) if isinstance(answer.get("data"), dict) else []
    for row in rows:
        for pair in ([row["value"]] if "value" in row else []) + row.get("values", []):
            if not row["metric"] and abs(float(pair[1]) - pair[0]) < 1:
                pair[1] = str(float(pair[1]) + by)
            pair[0] += by
    return json.dumps(answer).encode()


if __name__ == "__main__":
    Backend(None, sys.argv[1], int(sys.argv[2]), sys.argv[3])
    print("ready", flush=True)
    threading.Event().wait()
