#!/usr/bin/env python3
"""Snapshots in object storage, read from real servers: an S3 gateway, Google's API and Azure's; and what goes wrong on the way.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/objects/test_stores.py
"""
import base64, contextlib, datetime, gzip, hashlib, hmac, http.client, json, os, pathlib, socket, subprocess, sys, tempfile, threading, time, unittest, urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "testbed"))
from testbed import free_port

BINARY = os.path.abspath(os.environ.get("GPUWASTE", ROOT / "target/debug/gpuwaste"))
DEMO = (ROOT / "fixtures/demo/snapshot.json.zst").read_bytes()
PLAIN = json.loads(subprocess.run([BINARY, "collect", "--snapshot", ROOT / "fixtures/demo/snapshot.json.zst", "-q", "-o", "-"], check=True, capture_output=True).stdout)
# Of the machine that the tests run on, nothing may leak in.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOOGLE_", "AZURE_", "STORAGE_", "GCE_", "IDENTITY_", "GPUWASTE_"))}
SECRET = "s3cr3t-that-nobody-prints"
AZURE_KEY = base64.b64encode(b"a key of the emulator, 32 bytes.").decode()


def gpuwaste(*args, env=(), at=None, rc=0):
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, cwd=at, timeout=120, env=CLEAN | {"HOME": "/nonexistent"} | dict(env))
    assert SECRET not in done.stdout + done.stderr and AZURE_KEY not in done.stdout + done.stderr, "a secret is printed"
    assert "panicked" not in done.stderr, done.stderr
    if rc is not None:
        assert done.returncode == rc, f"rc {done.returncode}, not {rc}: {args}\n{done.stdout[-600:]}\n{done.stderr[-3000:]}"
    return done


def snapshot(hours=0, clusters=None, rename=None):
    """The demo's snapshot, so many hours later, of these clusters."""
    taken = datetime.datetime.fromisoformat(PLAIN["taken_at"][:19]) + datetime.timedelta(hours=hours)
    told = [c | {"name": rename, "uid": f"uid-{rename}"} if rename else c for c in PLAIN["clusters"] if clusters is None or c["name"] in clusters]
    return json.dumps(PLAIN | {"taken_at": taken.isoformat() + "Z", "clusters": told}).encode()


def wait(port, child):
    for _ in range(300):
        if child.poll() is not None:
            raise RuntimeError(f"a server ended: {child.args}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"a server does not listen: {child.args}")


class Front:
    """Stands before a server; `script(line)` may answer a request itself (bytes), cut the answer (an int), or let it pass (None)."""

    # A server that tells its APIs apart by the Host header, which nothing signs.
    rename = False

    def __init__(self, upstream, script):
        self.upstream, self.script, self.asked = upstream, script, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                more = client.recv(65536)
                if not more:
                    return
                head += more
            line = head.split(b"\r\n")[0].decode()
            self.asked.append(line)
            told = self.script(line)
            if isinstance(told, bytes):
                client.sendall(told)
                return
            with socket.create_connection(("127.0.0.1", self.upstream)) as server:
                head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
                if self.rename:
                    head = head.replace(f"127.0.0.1:{self.port}\r\n".encode(), f"127.0.0.1:{self.upstream}\r\n".encode())
                server.sendall(head)
                sent = 0
                while more := server.recv(65536):
                    more = more if told is None else more[: told - sent]
                    client.sendall(more)
                    sent += len(more)
                    if told is not None and sent >= told:
                        return


def answer(status, body=b"", kind="application/xml"):
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


class Store:
    """What every store must do; a class of its own each, with `scheme`, `env` and `put`."""

    @classmethod
    def setUpClass(cls):
        cls.bin = pathlib.Path(subprocess.run([str(HERE / "build.sh")], check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        cls.port = free_port()
        cls.start()
        clusters = [c["name"] for c in PLAIN["clusters"]]
        cls.put("whole.json", json.dumps(PLAIN).encode())
        for i, name in enumerate(clusters):
            cls.put(f"fleet/{name}/old.json", snapshot(-24, [name]))
            cls.put(f"fleet/{name}/new.json.gz", gzip.compress(snapshot(0, [name])))
        cls.put("fleet-of-others/x.json", b"{}")
        cls.put("damaged/a good one.json.zst", DEMO)
        cls.put("damaged/cut.json.zst", DEMO[:20000])
        cls.put("damaged/empty.json", b"")
        cls.put("damaged/notes.txt", b"no snapshot")
        cls.put("notes/notes.txt", b"no snapshot")
        (cls.dir / "whole.json").write_bytes(json.dumps(PLAIN).encode())

    @classmethod
    def spawn(cls, *command, env=()):
        log = open(cls.dir / "log", "ab")
        child = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=CLEAN | dict(env))
        cls.addClassCleanup(lambda: (child.kill(), child.wait(), log.close()))
        wait(cls.port, child)

    def url(self, key=""):
        return f"{self.scheme}://fleet/{key}"

    def run_on(self, *args, rc=0, env=()):
        return gpuwaste(*args, env=self.env | dict(env), rc=rc, at=self.dir)

    def test_one_object_is_the_file_that_it_is(self):
        here = json.loads(gpuwaste("scan", "--snapshot", self.dir / "whole.json", "-q", "--format", "json").stdout)
        there = json.loads(self.run_on("scan", "--snapshot", self.url("whole.json"), "-q", "--format", "json").stdout)
        self.assertEqual(here["totals"], there["totals"])
        self.assertEqual(here["findings"], there["findings"])
        self.assertIn(self.url("whole.json"), [s["name"] for s in there["sources"]])

    def test_a_prefix_is_a_fleet_with_each_cluster_once_as_it_is_now(self):
        here = json.loads(gpuwaste("scan", "--snapshot", self.dir / "whole.json", "-q", "--format", "json").stdout)
        for key in ("fleet", "fleet/"):
            there = json.loads(self.run_on("scan", "--snapshot", self.url(key), "-q", "--format", "json").stdout)
            self.assertEqual(here["totals"]["gpus"], there["totals"]["gpus"])
            self.assertEqual(here["totals"]["waste_usd_per_hour"], there["totals"]["waste_usd_per_hour"])
            self.assertEqual(here["taken_at"][:19], there["taken_at"][:19])
            told = json.dumps(there["gaps"])
            self.assertNotIn("once more", told)
            self.assertNotIn("hours apart", told)
            self.assertFalse([s for s in there["sources"] if "old.json" in s["name"] or "others" in s["name"]])

    def test_a_series_of_several_clusters_is_settled_in_order_of_time(self):
        ledger = self.dir / "ledger"
        first = self.run_on("settle", "--dry-run", "--ledger", ledger, self.url("fleet"))
        self.assertIn(f"in {2 * len(PLAIN['clusters'])} reports", first.stdout)

    def test_what_is_damaged_is_told_and_the_rest_is_read(self):
        told = self.run_on("scan", "--snapshot", self.url("damaged"), "--format", "json", rc=3)
        report = json.loads(told.stdout)
        self.assertEqual(len({n["cluster"] for n in report["nodes"]}), len(PLAIN["clusters"]))
        failed = {s["name"]: s["detail"] for s in report["sources"] if s["status"] == "failed" and s["kind"] == "snapshot"}
        self.assertEqual(set(failed), {self.url("damaged/cut.json.zst"), self.url("damaged/empty.json")})
        self.assertIn("cut off or damaged", failed[self.url("damaged/cut.json.zst")])
        self.assertIn("empty", failed[self.url("damaged/empty.json")])
        learned = self.run_on("learned", "--from", self.url("damaged"), "--format", "json", rc=3)
        self.assertTrue(json.loads(learned.stdout)["facts"])
        self.assertIn("cut.json.zst", learned.stderr)
        self.assertIn("cut.json.zst", self.run_on("settle", "--dry-run", "--ledger", self.dir / "none", self.url("damaged"), rc=3).stderr)

    def test_what_is_not_there_is_named_with_the_way_out(self):
        for key, wanted in (("nothing.json", "no such object"), ("nothing", "no such object"), ("nothing/", "nothing lies there"), ("notes", "none is a snapshot by its name")):
            told = self.run_on("scan", "--snapshot", self.url(key), rc=2)
            self.assertIn(wanted, told.stderr)
            self.assertIn(self.url(key), told.stderr)
        told = self.run_on("scan", "--snapshot", f"{self.scheme}://nosuchbucket/x/", rc=2)
        # fake-gcs-server answers 500 there.
        self.assertIn("try later" if self.scheme == "gs" else "no bucket nosuchbucket", told.stderr)

    def test_a_dry_run_asks_nobody(self):
        front = Front(self.port, lambda line: answer("500 No"))
        told = self.run_on("scan", "--dry-run", "--snapshot", self.url("fleet"), env=self.by(front.port))
        self.assertIn(f"127.0.0.1:{front.port}", told.stdout)
        self.assertIn("list", told.stdout)
        self.assertEqual(front.asked, [])

    def test_what_goes_in_the_clear_goes_through_no_proxy(self):
        """It would read the signatures; the way of TLS is the library's, which shows a proxy whom it calls alone."""
        proxy = Front(self.port, lambda line: answer("502 No"))
        every = {name: f"http://127.0.0.1:{proxy.port}" for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")}
        self.run_on("scan", "--snapshot", self.url("whole.json"), "-q", env=self.env | every | {"NO_PROXY": "", "no_proxy": ""})
        self.assertEqual(proxy.asked, [])

    def test_what_breaks_off_is_taken_up_again_or_told(self):
        cut = {"left": 1}

        def once(line):
            if "whole" in line and cut["left"] > 0:
                cut["left"] -= 1
                return 100_000
            return None

        front = Front(self.port, once)
        here = json.loads(gpuwaste("scan", "--snapshot", self.dir / "whole.json", "-q", "--format", "json").stdout)
        there = json.loads(self.run_on("scan", "--snapshot", self.url("whole.json"), "-q", "--format", "json", env=self.by(front.port)).stdout)
        self.assertEqual(here["totals"], there["totals"])
        self.assertEqual(len([line for line in front.asked if "whole" in line]), 2)
        always = Front(self.port, lambda line: 100_000 if "whole" in line else None)
        told = self.run_on("scan", "--snapshot", self.url("whole.json"), env=self.by(always.port), rc=2)
        self.assertIn("try again", told.stderr)
        self.assertNotIn("damaged", told.stderr)

    def test_throttling_is_waited_out_or_told(self):
        left = {"n": 2}

        def busy(line):
            left["n"] -= 1
            return answer("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>") if left["n"] >= 0 else None

        front = Front(self.port, busy)
        self.run_on("scan", "--snapshot", self.url("whole.json"), "-q", env=self.by(front.port))
        always = Front(self.port, lambda line: answer("503 Slow Down", f"<Error><Code>SlowDown</Code><Message>{SECRET}</Message></Error>".encode()))
        told = self.run_on("scan", "--snapshot", self.url("whole.json"), env=self.by(always.port), rc=2)
        self.assertIn("asked less (503 SlowDown)", told.stderr)
        # Another source is read all the same.
        both = self.run_on("scan", "--snapshot", self.url("whole.json"), "--snapshot", self.dir / "whole.json", "--format", "json", env=self.by(always.port), rc=3)
        self.assertIn("SlowDown", json.dumps(json.loads(both.stdout)["gaps"]))

    def test_nothing_but_lists_and_objects_is_asked(self):
        front = Front(self.port, lambda line: None)
        self.run_on("scan", "--snapshot", self.url("fleet"), "-q", env=self.by(front.port))
        self.assertTrue(front.asked)
        self.assertFalse([line for line in front.asked if not line.startswith("GET ")])


class S3(Store, unittest.TestCase):
    scheme = "s3"

    @classmethod
    def start(cls):
        cls.env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{cls.port}", "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": SECRET}
        (cls.dir / "data/fleet").mkdir(parents=True)
        (cls.dir / "iam").mkdir()
        cls.spawn(cls.bin / "versitygw", "--port", f"127.0.0.1:{cls.port}", "--region", "eu-west-1", "--iam-dir", cls.dir / "iam", "posix", cls.dir / "data",
                  env={"ROOT_ACCESS_KEY": "owner", "ROOT_SECRET_KEY": SECRET})
        subprocess.run([cls.bin / "versitygw", "admin", "--access", "owner", "--secret", SECRET, "--region", "eu-west-1", "--endpoint-url", f"http://127.0.0.1:{cls.port}",
                        "create-user", "--access", "reader", "--secret", SECRET, "--role", "user"], check=True, capture_output=True)

    @classmethod
    def put(cls, key, data):
        """Signed as Amazon's documentation of Signature Version 4 says."""
        now = datetime.datetime.now(datetime.UTC)
        day, moment, host, path = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ"), f"127.0.0.1:{cls.port}", "/fleet/" + urllib.parse.quote(key)
        headers = {"host": host, "x-amz-content-sha256": hashlib.sha256(data).hexdigest(), "x-amz-date": moment}
        names, scope = ";".join(headers), f"{day}/eu-west-1/s3/aws4_request"
        asked = "\n".join(["PUT", path, "", *(f"{k}:{v}" for k, v in headers.items()), "", names, headers["x-amz-content-sha256"]])
        text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(asked.encode()).hexdigest()])
        signed = f"AWS4{SECRET}".encode()
        for part in (*scope.split("/"), text):
            signed = hmac.new(signed, part.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential=owner/{scope}, SignedHeaders={names}, Signature={signed.hex()}"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", cls.port, timeout=30)) as http_:
            http_.request("PUT", path, body=data, headers=headers)
            told = http_.getresponse()
            assert told.status == 200, (told.status, told.read()[:600])

    @staticmethod
    def by(port):
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}

    def test_every_command_that_reads_snapshots_reads_them_here(self):
        whole, path = self.url("whole.json"), self.dir / "whole.json"
        for args in (["plan", "--snapshot"], ["show", "1", "--snapshot"], ["ls", "--snapshot"], ["ls", "nodes", "--format", "json", "--snapshot"], ["show", "1", "--report"]):
            self.assertEqual(gpuwaste(*args, path, rc=None).stdout, self.run_on(*args, whole, rc=None).stdout, args)
        self.assertEqual(gpuwaste("learned", "--format", "json", "--from", path).stdout, self.run_on("learned", "--format", "json", "--from", whole).stdout)
        self.assertEqual(gpuwaste("diff", path, path).stdout, self.run_on("diff", self.url("fleet"), whole).stdout)
        self.run_on("collect", "--snapshot", self.url("fleet"), "-o", self.dir / "joined.json", "-q")
        self.assertEqual(len(json.loads((self.dir / "joined.json").read_text())["clusters"]), len(PLAIN["clusters"]))
        told = self.run_on("decide", "--check", "idle-gpu", "--subject", "*", "--yes", "claim", "--report", whole, "--ledger", self.dir / "decided", rc=None)
        self.assertTrue(told.returncode == 0 or "no finding" in told.stderr, told.stderr)

    def test_a_redirect_leads_nowhere(self):
        other = Front(self.port, lambda line: None)
        front = Front(self.port, lambda line: f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other.port}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        self.run_on("scan", "--snapshot", self.url("whole.json"), env=self.by(front.port), rc=2)
        self.assertEqual(other.asked, [])

    def test_who_may_not_read_is_told_what_is_needed(self):
        told = self.run_on("scan", "--snapshot", self.url("whole.json"), env={"AWS_ACCESS_KEY_ID": "reader"}, rc=2)
        self.assertIn("403 AccessDenied", told.stderr)
        self.assertIn("s3:GetObject", told.stderr)
        told = self.run_on("scan", "--snapshot", self.url("fleet/"), env={"AWS_ACCESS_KEY_ID": "reader"}, rc=2)
        self.assertIn("s3:ListBucket", told.stderr)
        told = self.run_on("scan", "--snapshot", self.url("whole.json"), env={"AWS_SECRET_ACCESS_KEY": "another"}, rc=2)
        self.assertIn("does not know these credentials (403 SignatureDoesNotMatch)", told.stderr)

    def test_another_region_is_told(self):
        told = self.run_on("scan", "--snapshot", self.url("whole.json"), env={"AWS_REGION": "us-east-1"}, rc=2)
        self.assertIn("AWS_REGION", told.stderr)

    def test_the_machines_metadata_is_asked_only_where_the_user_says_so(self):
        token = answer("200 OK", b"token", "text/plain")
        role = answer("200 OK", b"role", "text/plain")
        keys = json.dumps({"AccessKeyId": "owner", "SecretAccessKey": SECRET, "Token": "", "Expiration": "2099-01-01T00:00:00Z"}).encode()
        imds = Front(self.port, lambda line: token if line.startswith("PUT") else role if line.split()[1].endswith("security-credentials/") else answer("200 OK", keys, "application/json"))
        env = {k: v for k, v in self.env.items() if k not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        own = {"AWS_METADATA_ENDPOINT": f"http://127.0.0.1:{imds.port}"}
        for more in ({}, own):
            told = gpuwaste("scan", "--snapshot", self.url("whole.json"), env=env | more, rc=2)
            self.assertIn("no credentials in the environment", told.stderr)
            self.assertIn("GPUWASTE_INSTANCE_CREDENTIALS=1", told.stderr)
        self.assertEqual(imds.asked, [])
        gpuwaste("scan", "--snapshot", self.url("whole.json"), "-q", env=env | own | {"GPUWASTE_INSTANCE_CREDENTIALS": "1"}, rc=None)
        self.assertTrue(imds.asked)

    def test_a_long_series_takes_the_memory_of_one(self):
        few, many = self.dir / "few", self.dir / "many"
        peaks = []
        for folder, count in ((few, 3), (many, 60)):
            for i in range(count):
                self.put(f"{folder.name}/{i:03}.json.gz", gzip.compress(snapshot(i, rename=f"c{i}"), 1))
            child = subprocess.Popen([BINARY, "learned", "--from", self.url(folder.name), "-o", str(self.dir / "facts.json")], env=CLEAN | self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(child.returncode, 0)
            peaks.append(used.ru_maxrss)
        self.assertLess(peaks[1], 1.5 * peaks[0], "KiB at the peak")

    def test_files_and_folders_are_read_as_objects_are(self):
        data = self.dir / "data/fleet"
        for there, here in ((self.url("fleet"), data / "fleet"), (self.url("fleet"), f"file://{data}/fleet"), (self.url("damaged/a good one.json.zst"), f"file://{data}/damaged/a%20good%20one.json.zst")):
            one = json.loads(self.run_on("scan", "--snapshot", there, "-q", "--format", "json").stdout)
            other = json.loads(gpuwaste("scan", "--snapshot", here, "-q", "--format", "json").stdout)
            self.assertEqual(one["findings"], other["findings"])
        os.mkfifo(data / "damaged/pipe.json")
        try:
            self.assertIn("pipe.json", gpuwaste("scan", "--snapshot", data / "damaged", rc=3).stderr)
        finally:
            os.unlink(data / "damaged/pipe.json")
        self.assertIn("nothing is read there", gpuwaste("scan", "--snapshot", "ftp://x/y.json", rc=2).stderr)
        told = gpuwaste("scan", "--snapshot", f"s3://owner:{SECRET}@fleet/x.json", rc=2)
        self.assertIn("credentials are read from the environment", told.stderr)


class Gcs(Store, unittest.TestCase):
    scheme = "gs"

    @classmethod
    def start(cls):
        (cls.dir / "data/fleet").mkdir(parents=True)
        cls.addClassCleanup(setattr, Front, "rename", False)
        Front.rename = True
        (cls.dir / "data/fleet/first.txt").write_text("a bucket")
        cls.env = {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{cls.port}"}
        cls.spawn(cls.bin / "fake-gcs-server", "-scheme", "http", "-host", "127.0.0.1", "-port", cls.port, "-backend", "memory", "-data", cls.dir / "data", "-public-host", f"127.0.0.1:{cls.port}")

    @classmethod
    def put(cls, key, data):
        http_ = http.client.HTTPConnection("127.0.0.1", cls.port, timeout=30)
        cls.enterClassContext(contextlib.closing(http_))
        http_.request("POST", f"/upload/storage/v1/b/fleet/o?uploadType=media&name={urllib.parse.quote(key, safe='')}", body=data)
        told = http_.getresponse()
        assert told.status == 200, (told.status, told.read()[:300])

    @staticmethod
    def by(port):
        return {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{port}"}

    def test_without_credentials_nobody_is_asked(self):
        told = gpuwaste("scan", "--snapshot", self.url("whole.json"), rc=2)
        self.assertIn("gcloud auth application-default login", told.stderr)


class Azure(Store, unittest.TestCase):
    scheme = "az"

    @classmethod
    def start(cls):
        cls.env = {"AZURE_STORAGE_ACCOUNT": "fleetstore", "AZURE_STORAGE_KEY": AZURE_KEY, "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{cls.port}/fleetstore"}
        cls.spawn("node", cls.bin / "node_modules/azurite/dist/src/blob/main.js", "--blobPort", cls.port, "--location", cls.dir / "data", "--skipApiVersionCheck", "--silent", "--disableTelemetry",
                  env={"AZURITE_ACCOUNTS": f"fleetstore:{AZURE_KEY}"})
        cls.ask("PUT", "/fleet?restype=container")

    @classmethod
    def ask(cls, method, path, data=b"", headers=()):
        """Signed with the account's key, as Azure's documentation of Shared Key says."""
        date = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        own = {"x-ms-date": date, "x-ms-version": "2021-12-02"} | dict(headers)
        bare, _, query = path.partition("?")
        canonical = f"/fleetstore/fleetstore{bare}" + "".join(f"\n{k}:{v}" for k, v in sorted(urllib.parse.parse_qsl(query)))
        lines = [method, "", "", str(len(data)) if data else "", "", "", "", "", "", "", "", "", *(f"{k}:{v}" for k, v in sorted(own.items())), canonical]
        signature = base64.b64encode(hmac.new(base64.b64decode(AZURE_KEY), "\n".join(lines).encode(), hashlib.sha256).digest()).decode()
        http_ = http.client.HTTPConnection("127.0.0.1", cls.port, timeout=30)
        cls.enterClassContext(contextlib.closing(http_))
        http_.putrequest(method, f"/fleetstore{path}")
        for k, v in own.items():
            http_.putheader(k, v)
        http_.putheader("Authorization", f"SharedKey fleetstore:{signature}")
        http_.putheader("Content-Length", str(len(data)))
        http_.endheaders(data)
        told = http_.getresponse()
        assert told.status == 201, (told.status, told.read()[:600])

    @classmethod
    def put(cls, key, data):
        cls.ask("PUT", "/fleet/" + urllib.parse.quote(key), data, {"x-ms-blob-type": "BlockBlob"})

    @staticmethod
    def by(port):
        return {"AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/fleetstore"}

    def test_a_connection_string_does(self):
        string = f"DefaultEndpointsProtocol=http;AccountName=fleetstore;AccountKey={AZURE_KEY};BlobEndpoint=http://127.0.0.1:{self.port}/fleetstore;"
        gpuwaste("scan", "--snapshot", self.url("whole.json"), "-q", env={"AZURE_STORAGE_CONNECTION_STRING": string})

    def test_what_is_missing_is_told(self):
        self.assertIn("AZURE_STORAGE_ACCOUNT", gpuwaste("scan", "--snapshot", self.url("whole.json"), rc=2).stderr)
        env = {k: v for k, v in self.env.items() if k != "AZURE_STORAGE_KEY"}
        self.assertIn("GPUWASTE_INSTANCE_CREDENTIALS", gpuwaste("scan", "--snapshot", self.url("whole.json"), env=env, rc=2).stderr)
        wrong = base64.b64encode(b"another key").decode()
        told = self.run_on("scan", "--snapshot", self.url("whole.json"), env={"AZURE_STORAGE_KEY": wrong}, rc=2)
        self.assertRegex(told.stderr, r"403 Auth")


if __name__ == "__main__":
    unittest.main()
