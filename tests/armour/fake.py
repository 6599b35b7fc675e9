"""A small API server over a world of objects, which answers as the real one does until a fault says otherwise. Standard library only.

Faults are the rows of faults.json, which the tests in crates/collect read too: the same answers in process and over a socket.
"""
import calendar, contextlib, email.utils, gzip, http.server, json, pathlib, re, socket, struct, sys, tempfile, threading, time, urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
TABLE = json.loads((HERE / "faults.json").read_text())
FAILURES = {f["name"]: f for f in TABLE["failures"]}
READS = {r["name"]: r for r in TABLE["reads"]}

RESOURCES = {(r["group"], r["version"], r["plural"]): r for r in TABLE["resources"]}


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class World:
    """Objects by kind, pages of pods by (namespace, pod, port, path), answers of stores by (namespace, service, path)."""

    def __init__(self, objects=(), pages=None, store=None, groups=None, uid="uid-kube-system", ahead=0):
        self.objects = [json.loads(json.dumps(o)) for o in objects]
        self.pages, self.store, self.ahead = pages or {}, store, ahead
        if not any(o["kind"] == "Namespace" and o["metadata"]["name"] == "kube-system" for o in self.objects):
            self.objects.append({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}})
        self.groups = groups if groups is not None else sorted({(r["group"], r["version"]) for r in TABLE["resources"] if r["group"] and r.get("served", True)})

    def answer(self, target):
        """(code, body, content type) as the real API server would have it."""
        url = urllib.parse.urlsplit(target)
        path, query = url.path, dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if path == "/version":
            return self.json({"major": "1", "minor": "36", "gitVersion": "v1.36.3"})
        if path == "/apis":
            groups = {}
            for group, version in self.groups:
                groups.setdefault(group, []).append({"groupVersion": f"{group}/{version}", "version": version})
            return self.json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": g, "versions": v, "preferredVersion": v[0]} for g, v in groups.items()]})
        m = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/:]+):(\d+)/proxy(/.*)", path)
        if m:
            page = self.pages.get((m[1], m[2], int(m[3]), m[4]))
            return (200, page.encode() if isinstance(page, str) else page, "text/plain") if page is not None else (404, b"not found", "text/plain")
        m = re.fullmatch(r"/api/v1/namespaces/([^/]+)/services/([^/]+)/proxy(/.*)", path)
        if m and self.store:
            return self.store(m[1], m[2], m[3], query)
        m = re.fullmatch(r"/(?:api/(v1)|apis/([^/]+)/([^/]+))/(?:namespaces/([^/]+)/)?([a-z]+)(?:/([^/]+))?", path)
        known = m and RESOURCES.get((m[2] or "", m[1] or m[3], m[5]))
        if not known or (m[2] and (m[2], m[3]) not in {(g, v) for g, v in self.groups}):
            return 404, b"404 page not found\n", "text/plain"
        namespace, name = m[4], m[6]
        return self.one(known, namespace, name) if name else self.list(known, namespace, query)

    def found(self, known, namespace):
        return [o for o in self.objects if o["kind"] == known["kind"] and (not namespace or o["metadata"].get("namespace") == namespace)]

    def one(self, known, namespace, name):
        for o in self.found(known, namespace):
            if o["metadata"]["name"] == name:
                return self.json({"apiVersion": api_version(known), **o})
        return self.json(status(404, "NotFound", f'{known["plural"]} "{name}" not found', name), 404)

    def list(self, known, namespace, query):
        items = self.found(known, namespace)
        field = query.get("fieldSelector", "")
        if field.startswith("spec.nodeName="):
            items = [o for o in items if o.get("spec", {}).get("nodeName", "") == field.split("=", 1)[1]]
        if "labelSelector" in query:
            key, _, values = query["labelSelector"].partition(" in ")
            wanted = values.strip("()").split(",") if values else None
            if wanted is None:
                key, _, value = query["labelSelector"].partition("=")
                wanted = [value]
            items = [o for o in items if o["metadata"].get("labels", {}).get(key) in wanted]
        start = int(query["continue"]) if query.get("continue", "").isdigit() else 0
        limit = int(query.get("limit") or len(items) or 1)
        meta = {"resourceVersion": "1"}
        if start + limit < len(items):
            meta["continue"] = str(start + limit)
        return self.json({"kind": known["kind"] + "List", "apiVersion": api_version(known), "metadata": meta, "items": [{k: v for k, v in o.items() if k != "apiVersion"} if known.get("bare", True) else o for o in items[start:start + limit]]})

    def json(self, body, code=200):
        return code, json.dumps(body).encode(), "application/json"


def api_version(known):
    return known["version"] if not known["group"] else f'{known["group"]}/{known["version"]}'


def status(code, reason, message, name=None):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, **({"details": {"name": name}} if name else {}), "code": code}


def resource_of(path):
    """The table's row that a path is about."""
    m = re.match(r"/(?:api/(v1)|apis/([^/]+)/([^/]+))/(?:namespaces/[^/]+/)?([a-z]+)", urllib.parse.urlsplit(path).path)
    return (m and RESOURCES.get((m[2] or "", m[1] or m[3], m[4]))) or {"group": "", "version": "v1", "plural": "x", "kind": "Thing"}


def rendered(failure, path, good):
    """(code, headers, body) of a failure for one path; `good` is the body that would have been right."""
    known = resource_of(path)
    values = {"KIND": known["kind"], "APIVERSION": api_version(known), "PLURAL": known["plural"]}
    body = failure.get("body", "")
    if not isinstance(body, str):
        body = json.dumps(body)
    for key, value in values.items():
        body = body.replace("${" + key + "}", value)
    if "${METADATA}" in body:
        # What a client gets that asked for metadata alone: the same objects without spec and status.
        whole = json.loads(good) if good else {}
        items = whole.get("items", [whole])
        body = body.replace('"${METADATA}"', json.dumps([{"metadata": i.get("metadata", {})} for i in items]))
    return failure.get("code", 200), failure.get("headers", {}), body.encode("utf-8", "surrogateescape")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *where):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*where)


@contextlib.contextmanager
def serve(world, fault=None, where=lambda path: False, headers=None, address=("127.0.0.1", 0)):
    """The world over HTTP. `fault` (a row of the table) is what paths of `where` get. Yields the server; `asked` are its requests."""
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "fake", ""

        def log_message(self, *_):
            pass

        def date_time_string(self, timestamp=None):
            return email.utils.formatdate(time.time() + world.ahead, usegmt=True)

        def do_POST(self):
            form = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            self.path = f"{self.path}?{form}"
            self.do_GET()

        def do_GET(self):
            with lock:
                server.asked.append((self.command, self.path, dict(self.headers)))
            code, body, kind = world.answer(self.path)
            extra = dict(headers or {})
            if fault and where(self.path):
                way = fault.get("transport")
                if way == "reset":
                    return self.drop()
                if way == "black-hole":
                    stop.wait(60)
                    return self.drop()
                if way == "cut":
                    return self.send(code, body[:max(1, len(body) // 2)], kind, extra, length=len(body) + 1000)
                if way == "slow":
                    return self.dribble(code, body, kind)
                code, more, body = rendered(fault, self.path, body)
                extra.update(more)
                kind = extra.pop("Content-Type", "application/json")
            self.send(code, body, kind, extra)

        def send(self, code, body, kind, extra, length=None):
            if extra.pop("X-Gzip", None):
                body, extra = gzip.compress(body), {**extra, "Content-Encoding": "gzip"}
            self.send_response(code)
            self.send_header("Content-Type", kind)
            if code not in (204, 304):
                self.send_header("Content-Length", str(len(body) if length is None else length))
            for name, value in extra.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            if length is not None and length != len(body):
                self.close_connection = True

        def dribble(self, code, body, kind):
            """A byte a second, for ever."""
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(10 ** 6))
            self.end_headers()
            for byte in body + b" " * 1000:
                if stop.wait(1):
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            self.close_connection = True

        def drop(self):
            """RST instead of FIN."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    stop = threading.Event()
    server = Server(address, Handler)
    server.asked, server.stop = [], stop
    server.url = f"http://{server.server_address[0]}:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def kubeconfig(*servers, names=None, users=None):
    """One context a server."""
    names = names or [f"c{i}" if i else "c" for i in range(len(servers))]
    users = users or [{"token": "t"}] * len(servers)
    url = lambda s: s if isinstance(s, str) else s.url
    return {"apiVersion": "v1", "kind": "Config", "current-context": names[0],
            "clusters": [{"name": n, "cluster": {"server": url(s)}} for n, s in zip(names, servers)],
            "users": [{"name": n, "user": u} for n, u in zip(names, users)],
            "contexts": [{"name": n, "context": {"cluster": n, "user": n}} for n in names]}


@contextlib.contextmanager
def config(*servers, **more):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "config"
        path.write_text(json.dumps(kubeconfig(*servers, **more)))
        yield path


class Store:
    """A Prometheus that knows `names` (of nodes and pods), and nothing of what they did. `asked`: (service or None, path)."""
    METRICS = ["DCGM_FI_DEV_GPU_UTIL", "vllm:num_requests_running"]
    LABELS = ["pod", "namespace", "UUID", "Hostname", "node"]
    ahead = 0

    def __init__(self, names=(), metrics=METRICS, labels=LABELS):
        self.names, self.metrics, self.labels, self.asked = list(names), metrics, labels, []

    def __call__(self, namespace, service, path, query):
        self.asked.append((f"{namespace}/{service}", path))
        ok = lambda data: (200, json.dumps({"status": "success", "data": data}).encode(), "application/json")
        if path.endswith("/label/__name__/values"):
            return ok(self.metrics)
        if path.endswith("/labels"):
            return ok(self.labels)
        if "/label/" in path:
            return ok([])
        if path.endswith("/buildinfo"):
            return ok({"version": "3.5.0", "goVersion": "go1.24"})
        if "/status/" in path:
            return ok({"storageRetention": "30d"})
        text = query.get("query", "")
        known = text.startswith("count(last_over_time(") and any(n in text.replace("\\\\", "") for n in self.names)
        kind = "matrix" if path.endswith("query_range") else "vector"
        return ok({"resultType": kind, "result": [{"metric": {}, "value": [time.time(), "1"]}] if known else []})

    def answer(self, target):
        """As a server of its own."""
        url = urllib.parse.urlsplit(target)
        return self(None, None, url.path, dict(urllib.parse.parse_qsl(url.query)))
