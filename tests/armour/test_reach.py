#!/usr/bin/env python3
"""Nothing is contacted that was not named, and no token goes anywhere else: every connection and every datagram of a scan is recorded, in a network namespace from which nothing leads out.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_reach.py  (root: it makes the namespace itself)
"""
import contextlib, http.server, json, os, pathlib, re, shutil, socket, ssl, subprocess, sys, tempfile, threading, time, unittest

HERE = pathlib.Path(__file__).resolve().parent
INSIDE = "GPUWASTE_TEST_IN_NAMESPACE"
if __name__ == "__main__" and not os.environ.get(INSIDE):
    if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("ip") and subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True).returncode == 0:
        os.execvpe("unshare", ["unshare", "-n", "-m", sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    if os.environ.get("CI"):
        sys.exit("CI must be able to make network namespaces (root, unshare, iproute2)")

sys.path.insert(0, str(HERE))
import fake
from world import BINARY, deployment, gpuwaste, node, owned, page, pod

TOKEN = "CANARY-token-of-the-api-server"
STORE_TOKEN = "CANARY-token-of-the-store"
#: A pod's address, and those that none can have.
POD, ODD = "10.99.0.9", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "127.0.0.1", "metadata.google.internal", "10.99.0.9@198.51.100.7", "198.51.100.7/x?"]
PROXIES = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]


class Recorder(threading.Thread):
    """(protocol, address, port) of each TCP connection that is begun and each datagram that is sent, on every interface."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self.over = set(), False
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.socket.settimeout(0.05)

    def run(self):
        while True:
            try:
                packet, (_, kind, *_) = self.socket.recvfrom(65535)
            except TimeoutError:
                if self.over:
                    return
                continue
            if kind == 0x0800:
                ahead, protocol, to = (packet[0] & 15) * 4, packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20])
            elif kind == 0x86DD:
                ahead, protocol, to = 40, packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40])
            else:
                continue
            rest = packet[ahead:]
            if protocol == 6 and rest[13] & 0x12 == 0x02:
                self.seen.add(("tcp", to, int.from_bytes(rest[2:4], "big")))
            elif protocol == 17:
                self.seen.add(("udp", to, int.from_bytes(rest[2:4], "big")))


@contextlib.contextmanager
def recorded():
    recorder = Recorder()
    recorder.start()
    try:
        yield recorder.seen
    finally:
        time.sleep(0.1)
        recorder.over = True
        recorder.join()
        recorder.socket.close()


@contextlib.contextmanager
def stranger(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"):
    """Somebody who listens and was not named: what was sent to it."""
    heard, server = [], socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                client.settimeout(1)
                with contextlib.suppress(OSError):
                    heard.append(client.recv(65535))
                    client.sendall(answer)
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1], heard
    finally:
        server.close()


@contextlib.contextmanager
def tunnel():
    """An HTTP proxy with CONNECT: all bytes that it saw, its own dialogue first."""
    seen, server = [], socket.create_server(("127.0.0.1", 0))

    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                seen.append(data)
                b.sendall(data)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_WR)

    def one(client):
        with client:
            through(client)

    def through(client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        seen.append(head)
        host, port = head.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port))) as there:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(there, client), daemon=True)
            back.start()
            pump(client, there)
            back.join(5)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1], seen
    finally:
        server.close()


def sent(headers):
    """The credentials of a request."""
    return {name.lower(): value for name, value in headers.items()}.get("authorization")


def fleet(*more):
    """Whose names lead elsewhere, if somebody followed them."""
    away = owned("away", "gpu-1", gpus=4, image="evil.example:5000/vllm/vllm-openai:v0.11.0", args=("--model", "https://evil.example/model?sig=x"))
    stored = owned("stored", "gpu-1", gpus=2, args=("--model", "s3://evil-bucket/model"), annotations={"serving.kserve.io/model": "hf://evil/model"})
    return [node("gpu-1"), node("gpu-2"), away, *deployment("away"), stored, *deployment("stored"), *more]


class Reach(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not os.environ.get(INSIDE):
            raise unittest.SkipTest("SKIPPED LOUDLY: no root or no namespaces: what a scan contacts is not recorded here")
        run = lambda *a: subprocess.run(a, check=True)
        run("ip", "link", "set", "lo", "up")
        # Everything else has a way that leads nowhere, and is recorded there.
        run("ip", "link", "add", "away0", "type", "veth", "peer", "name", "away1")
        run("ip", "link", "set", "away0", "arp", "off")
        run("ip", "link", "set", "away1", "up")
        run("ip", "addr", "add", "10.99.0.2/24", "dev", "away0")
        run("ip", "addr", "add", f"{POD}/32", "dev", "lo")
        run("ip", "-6", "addr", "add", "fd99::2/64", "dev", "away0", "nodad")
        run("ip", "link", "set", "away0", "up")
        run("ip", "route", "add", "default", "dev", "away0")
        run("ip", "-6", "route", "add", "default", "dev", "away0")
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.dir = pathlib.Path(cls.folder.name)
        ssl_ = lambda *a: subprocess.run(["openssl", *a], check=True, capture_output=True, cwd=cls.dir)
        ssl_("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")
        ssl_("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem", "-out", "csr", "-subj", "/CN=api")
        (cls.dir / "san").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        ssl_("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "cert.pem", "-days", "2", "-extfile", "san")
        (cls.dir / "store-token").write_text(STORE_TOKEN)

    def scan(self, *args, world=None, config=None, env=None, tls=False, headers=None, fault=None, expect=(0, 3)):
        """(contacts, what the API server heard, the run) of a scan; contacts without the API server itself."""
        world = world or fake.World(fleet())
        quiet = {name: "" for name in [*PROXIES, "NO_PROXY", "no_proxy"]}
        with fake.serve(world, *([fault, lambda path: True] if fault else []), headers=headers) as server:
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.dir / "cert.pem", self.dir / "key.pem")
                server.socket = context.wrap_socket(server.socket, server_side=True)
                server.url = server.url.replace("http:", "https:")
            with fake.config(server, users=[{"token": TOKEN}]) as path, recorded() as seen:
                if tls:
                    told = json.loads(path.read_text())
                    told["clusters"][0]["cluster"]["certificate-authority"] = str(self.dir / "ca.pem")
                    path.write_text(json.dumps(told))
                given = {**quiet, **(env(server) if callable(env) else env or {})}
                done = gpuwaste("scan", "--format", "json", "--observe", "0", "--timeout", "3s", *args, config=path if config is None else config or None, env=given)
            self.assertIn(done.returncode, expect, done.stderr)
            self.assertNotIn("CANARY", done.stdout + done.stderr)
            return seen - {("tcp", "127.0.0.1", server.server_port)}, server, done

    def test_the_recorder_sees_what_leaves(self):
        """Or none of the tests here could fail."""
        with recorded() as seen:
            for address in ("198.51.100.7", "fd99::7"):
                with contextlib.suppress(OSError):
                    socket.create_connection((address, 80), timeout=0.2)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(b"x", ("203.0.113.9", 53))
        self.assertLessEqual({("tcp", "198.51.100.7", 80), ("udp", "203.0.113.9", 53)}, seen)

    def test_a_scan_contacts_the_api_server_alone(self):
        seen, server, _ = self.scan()
        self.assertEqual(seen, set())
        self.assertTrue(server.asked and all(sent(h) == f"Bearer {TOKEN}" for _, _, h in server.asked))

    def test_redirects_lead_nowhere(self):
        with stranger() as (port, heard):
            for place in (f"http://127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/iam/security-credentials/", "https://evil.example/", "//198.51.100.7/"):
                for code in (301, 302, 307, 308):
                    with self.subTest(place, code=code):
                        seen, _, _ = self.scan(fault={"code": code, "headers": {"Location": place}, "body": ""}, expect=(2, 3, 0))
                        self.assertEqual((seen, heard), (set(), []))

    def test_proxies_of_the_environment_read_no_token(self):
        with stranger() as (port, heard):
            every = {name: f"http://127.0.0.1:{port}" for name in PROXIES}
            # In the clear none is used: it would read the token.
            seen, _, _ = self.scan(env=every)
            self.assertEqual((seen, heard), (set(), []))
            with fake.serve(fake.Store(["gpu-1"])) as store:
                seen, _, _ = self.scan("--prometheus", store.url, "--prometheus-token-file", self.dir / "store-token", env=every)
                self.assertEqual((seen, heard), ({("tcp", "127.0.0.1", store.server_port)}, []))
                self.assertTrue(all(sent(h) == f"Bearer {STORE_TOKEN}" for _, _, h in store.asked))
        # With TLS it is used as kubectl uses it, and sees who is called alone; what NO_PROXY names goes without.
        with tunnel() as (port, passed):
            proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{port}"}
            seen, server, _ = self.scan(tls=True, env=proxy)
            self.assertEqual(seen, {("tcp", "127.0.0.1", port)})
            self.assertIn(f"CONNECT 127.0.0.1:{server.server_port} ".encode(), passed[0])
            self.assertNotIn(TOKEN.encode(), b"".join(passed))
            self.assertTrue(server.asked)
            dry = gpuwaste("scan", "--dry-run", config=self.tls_config(server), env={**{n: "" for n in PROXIES}, **proxy, "NO_PROXY": ""})
            self.assertIn(f"through the proxy http://127.0.0.1:{port}", dry.stdout)
            passed.clear()
            for name in ("127.0.0.1", "127.0.0.0/8", "*"):
                seen, _, _ = self.scan(tls=True, env={**proxy, "NO_PROXY": name})
                self.assertEqual((seen, passed), (set(), []), name)

    def tls_config(self, server):
        path = self.dir / "tls-config"
        path.write_text(json.dumps(fake.kubeconfig(server, users=[{"token": TOKEN}])))
        return path

    def test_other_variables_move_nothing(self):
        with stranger() as (port, heard):
            url = f"http://127.0.0.1:{port}"
            env = {"KUBE_RS_DEBUG_OVERRIDE_URL": url, "KUBERNETES_SERVICE_HOST": "198.51.100.7", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_MASTER": url, "HF_ENDPOINT": url, "PROMETHEUS_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "RUST_LOG": "trace"}
            seen, _, _ = self.scan(env=env)
            self.assertEqual((seen, heard), (set(), []))

    def test_no_chain_of_aws_credentials(self):
        with stranger() as (port, heard), fake.serve(fake.Store(["gpu-1"])) as store:
            url = f"http://127.0.0.1:{port}"
            chain = {"AWS_PROFILE": "x", "AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_ENDPOINT_URL": url, "AWS_WEB_IDENTITY_TOKEN_FILE": "/dev/null", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}
            named = ("--prometheus", store.url, "--prometheus-sigv4-region", "eu-west-1")
            keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
            seen, _, done = self.scan(*named, env={**chain, **keys})
            self.assertEqual((seen, heard, store.asked), (set(), [], []), "no keys, no request")
            self.assertIn("AWS_ACCESS_KEY_ID", done.stdout + done.stderr)
            seen, _, _ = self.scan(*named, env={**chain, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "CANARY-secret"})
            self.assertEqual((seen, heard), ({("tcp", "127.0.0.1", store.server_port)}, []))
            self.assertTrue(store.asked)
            self.assertFalse([h for _, _, h in store.asked if "CANARY" in str(h)], "signed, and not sent")

    def test_a_store_that_sends_elsewhere(self):
        with stranger() as (port, heard):
            for place in (f"http://127.0.0.1:{port}/", "http://169.254.169.254/"):
                with fake.serve(fake.Store(["gpu-1"]), {"code": 307, "headers": {"Location": place}, "body": ""}, lambda path: True) as store:
                    seen, _, _ = self.scan("--prometheus", store.url, "--prometheus-token-file", self.dir / "store-token", expect=(0, 3))
                    self.assertEqual((seen, heard), ({("tcp", "127.0.0.1", store.server_port)}, []))

    def test_inside_a_cluster_only_addresses_of_pods(self):
        """As a pod's own account: exporters and servers at the addresses that the API server tells, whatever it tells."""
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        account = pathlib.Path("/run/secrets/kubernetes.io/serviceaccount")
        account.mkdir(parents=True)
        (account / "token").write_text(TOKEN)
        (account / "namespace").write_text("gpuwaste")
        shutil.copy(self.dir / "ca.pem", account / "ca.crt")
        made = []
        for i, ip in enumerate([POD, *ODD]):
            one = pod(f"p-{i}", "gpu-1")
            one["status"]["podIP"] = ip
            made.append(one)
        env = lambda server: {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port), "KUBECONFIG": "", "HOME": "/nonexistent"}
        with stranger(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(page(5))}\r\n\r\n{page(5)}".encode()) as _:
            seen, server, done = self.scan(world=fake.World([node("gpu-1"), node("gpu-2"), *made]), config=False, env=env, tls=True)
        self.assertTrue(all(sent(h) == f"Bearer {TOKEN}" for _, _, h in server.asked))
        self.assertEqual({c for c in seen if c[1] != POD}, set())
        self.assertIn(("tcp", POD, 8000), seen, "the one that is a pod's is asked")
        self.assertIn("no address that a pod can have: '169.254.169.254'", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=1)
