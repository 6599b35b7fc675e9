"""Real kube-apiservers on one real etcd, on loopback, for tests and for recording the demo. Standard library only.

Objects are written into etcd as the API server would store them (`--storage-media-type=application/json`), so that ages
are what a scenario says and 50,000 pods take seconds. Everything is read back through the API server.
"""
import base64, concurrent.futures, http.client, json, os, pathlib, re, shutil, signal, socket, ssl, subprocess, tempfile, time, urllib.request, uuid

HERE = pathlib.Path(__file__).resolve().parent
GROUPS = {  # kind: (apiVersion, folder in etcd, namespaced)
    "Node": ("v1", "minions", False), "Pod": ("v1", "pods", True), "Namespace": ("v1", "namespaces", False),
    "Deployment": ("apps/v1", "deployments", True), "ReplicaSet": ("apps/v1", "replicasets", True), "StatefulSet": ("apps/v1", "statefulsets", True),
    "ConfigMap": ("v1", "configmaps", True), "DaemonSet": ("apps/v1", "daemonsets", True), "Job": ("batch/v1", "jobs", True), "CronJob": ("batch/v1", "cronjobs", True),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers", True), "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "ResourceSlice": ("resource.k8s.io/v1", "resourceslices", False), "DeviceClass": ("resource.k8s.io/v1", "deviceclasses", False),
    "ResourceClaim": ("resource.k8s.io/v1", "resourceclaims", True),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io/v1", "leaderworkerset.x-k8s.io/leaderworkersets", True),
}


def binaries():
    """The folder with etcd and kube-apiserver; builds them where they are missing."""
    return pathlib.Path(subprocess.run([str(HERE / "build.sh")], check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Testbed:
    """Use as a context manager. `clusters` are names; each is an API server with a world of its own."""

    def __init__(self, clusters=("test",), extra_flags=()):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-testbed-"))
        self.bin = binaries()
        self.children, self.names, self.extra = [], list(clusters), list(extra_flags)
        self.ports, self.cleanups = {}, []

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for run in reversed(self.cleanups):
            run()
        for child in reversed(self.children):
            child.send_signal(signal.SIGKILL)
            child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def spawn(self, name, *command, **more):
        with open(self.dir / f"{name}.log", "wb") as log:
            self.children.append(subprocess.Popen([str(c) for c in command], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **more))
        return self.children[-1]

    def _start(self):
        self._certificates()
        self.etcd = free_port()
        peer = free_port()
        self.spawn("etcd", self.bin / "etcd", "--data-dir", self.dir / "etcd", "--unsafe-no-fsync", "--listen-client-urls", f"http://127.0.0.1:{self.etcd}",
                   "--advertise-client-urls", f"http://127.0.0.1:{self.etcd}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                   "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}", "--quota-backend-bytes", str(6 << 30))
        (self.dir / "tokens.csv").write_text('admin-token,admin,1,"system:masters"\nreader-token,system:serviceaccount:gpuwaste:gpuwaste,2,\nnobody-token,nobody,3,\n')
        for name in self.names:
            self.ports[name] = free_port()
            self.spawn(f"apiserver-{name}", self.bin / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd}", f"--etcd-prefix=/{name}",
                       "--storage-media-type=application/json", "--bind-address=127.0.0.1", f"--secure-port={self.ports[name]}",
                       f"--tls-cert-file={self.dir}/server.pem", f"--tls-private-key-file={self.dir}/server.key", f"--token-auth-file={self.dir}/tokens.csv",
                       "--authorization-mode=RBAC", "--anonymous-auth=false", "--service-account-issuer=https://kubernetes.default.svc",
                       f"--service-account-key-file={self.dir}/sa.pub", f"--service-account-signing-key-file={self.dir}/sa.key",
                       "--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none", *self.extra)
        for name in self.names:
            self._wait(name)

    def _certificates(self):
        run = lambda *a: subprocess.run(["openssl", *a], check=True, capture_output=True, cwd=self.dir)
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=testbed-ca")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=kube-apiserver")
        (self.dir / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:kubernetes\nbasicConstraints=CA:FALSE\n")
        run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "san")
        run("genrsa", "-out", "sa.key", "2048")
        run("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def request(self, cluster, method, path, body=None, token="admin-token", kind="application/json"):
        context = ssl.create_default_context(cafile=str(self.dir / "ca.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports[cluster], context=context, timeout=30)
        connection.request(method, path, body=body if body is None or isinstance(body, str) else json.dumps(body), headers={"Authorization": f"Bearer {token}", "Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, text

    def _wait(self, cluster):
        for _ in range(300):
            try:
                if self.request(cluster, "GET", "/readyz")[0] == 200 and self.request(cluster, "GET", "/api/v1/namespaces/kube-system")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"the API server of {cluster} did not become ready: " + (self.dir / f"apiserver-{cluster}.log").read_text()[-2000:])

    def schedule(self, cluster, *flags):
        """Runs the real kube-scheduler on a cluster."""
        config = self.kubeconfig([cluster], "admin-token", name=f"scheduler-{cluster}")
        return self.spawn(f"scheduler-{cluster}", self.bin / "kube-scheduler", f"--kubeconfig={config}", f"--authentication-kubeconfig={config}",
                          f"--authorization-kubeconfig={config}", "--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
                          f"--cert-dir={self.dir}/scheduler-{cluster}-certs", *flags)

    # --- objects ---------------------------------------------------------------------------------------------------

    def seed(self, cluster, objects, batch=100):
        """Writes objects into etcd; `metadata.creationTimestamp` is kept."""
        puts = []
        for item in objects:
            version, folder, namespaced = GROUPS[item["kind"]]
            meta = item.setdefault("metadata", {})
            item["apiVersion"] = version
            meta.setdefault("uid", str(uuid.uuid5(uuid.NAMESPACE_URL, f"{cluster}/{folder}/{meta.get('namespace', '')}/{meta['name']}")))
            meta.setdefault("creationTimestamp", stamp(time.time()))
            path = f"/{cluster}/{folder}/{meta['namespace']}/{meta['name']}" if namespaced else f"/{cluster}/{folder}/{meta['name']}"
            puts.append({"requestPut": {"key": base64.b64encode(path.encode()).decode(), "value": base64.b64encode(json.dumps(item, separators=(",", ":")).encode() + b"\n").decode()}})
        send = lambda chunk: self._etcd("/v3/kv/txn", {"success": chunk})
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(send, (puts[i:i + batch] for i in range(0, len(puts), batch))))

    def _etcd(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.etcd}{path}", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def apply(self, cluster, text):
        """What `kubectl apply --server-side -f -` does as admin; the API server itself parses the YAML."""
        for document in text.split("\n---\n"):
            field = lambda name, indent="": next(iter(re.findall(rf"^{indent}{name}: *\"?([^\s\"]+)", document, re.M)), None)
            version, kind, name, namespace = field("apiVersion"), field("kind"), field("name", "  "), field("namespace", "  ")
            if kind is None:
                continue
            folder = {"Role": "roles", "RoleBinding": "rolebindings", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
                      "ServiceAccount": "serviceaccounts", "Namespace": "namespaces", "CronJob": "cronjobs"}[kind]
            place = f"namespaces/{namespace}/" if namespace and folder not in ("clusterroles", "clusterrolebindings", "namespaces") else ""
            path = f"/{'apis' if '/' in version else 'api'}/{version}/{place}{folder}/{name}?fieldManager=testbed&force=true&fieldValidation=Strict"
            status, answer = self.request(cluster, "PATCH", path, document, kind="application/apply-patch+yaml")
            if status not in (200, 201):
                raise RuntimeError(f"could not apply {kind} {name}: {status} {answer[:500]}")

    def kubeconfig(self, clusters=None, token="reader-token", name=None, **cluster_extra):
        """A kubeconfig with one context a cluster; the first is current."""
        clusters = clusters or self.names
        ca = base64.b64encode((self.dir / "ca.pem").read_bytes()).decode()
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": clusters[0],
            "clusters": [{"name": c, "cluster": {"server": f"https://127.0.0.1:{self.ports[c]}", "certificate-authority-data": ca, **cluster_extra}} for c in clusters],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": c, "context": {"cluster": c, "user": "user"}} for c in clusters],
        }
        path = self.dir / (name or f"kubeconfig-{'-'.join(clusters)}-{token}")
        path.write_text(json.dumps(config))
        return path

    # --- pods that answer ------------------------------------------------------------------------------------------

    def network(self, addresses, pages, base="10.231.0.1"):
        """A network namespace with `addresses`; `pages` maps "ip:port/path" to a body. Needs root and iproute2."""
        space = f"gpuwaste{os.getpid() % 10000}"
        self.space = space
        near, far = f"gw{os.getpid() % 10000}a", f"gw{os.getpid() % 10000}b"
        run = lambda *a: subprocess.run(a, check=True, capture_output=True)
        run("ip", "netns", "add", space)
        self.cleanups.append(lambda: subprocess.run(["ip", "netns", "del", space], capture_output=True))
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        run("ip", "link", "set", far, "netns", space)
        run("ip", "addr", "add", f"{base}/16", "dev", near)
        run("ip", "link", "set", near, "up")
        for address in addresses:
            run("ip", "-n", space, "addr", "add", f"{address}/16", "dev", far)
        run("ip", "-n", space, "link", "set", far, "up")
        run("ip", "-n", space, "link", "set", "lo", "up")
        (self.dir / "pages.json").write_text(json.dumps(pages))
        ports = sorted({int(k.split("/", 1)[0].rsplit(":", 1)[1]) for k in pages})
        self.spawn("pages", "ip", "netns", "exec", space, "python3", HERE / "serve.py", self.dir / "pages.json", *ports)
        first = next(iter(pages)).split("/", 1)[0]
        host, port = first.rsplit(":", 1)
        for _ in range(100):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the pages are not served")


def can_make_networks():
    return os.geteuid() == 0 and shutil.which("ip") is not None
