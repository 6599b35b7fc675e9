#!/usr/bin/env python3
"""What a release is made of, run for real: archives, installer, packages, image, manifests, chart, action, alert rules, dashboard.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/packaging/test_packaging.py
"""
import functools, hashlib, http.server, json, os, pathlib, re, shutil, subprocess, sys, tarfile, tempfile, threading, time, unittest, urllib.parse, urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/formats"), str(ROOT / "tests/testbed")]
import setting, testbed

HERE = ROOT / "packaging"
TARGET = "x86_64-unknown-linux-gnu"
VERSION = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
# A Helm built from its module thinks of an old cluster.
KUBERNETES = "1.34.0"


def tools():
    """The folder of the Go tools at the versions of packaging/tools.sh, built once into a cache."""
    cache = setting.cached("packaging", (HERE / "tools.sh").read_text())
    names = ["nfpm", "crane", "helm", "validate-krew-manifest"]
    if not all((cache / n).exists() for n in names):
        if not shutil.which("go"):
            return None, "Go is not installed"
        done = subprocess.run(["bash", str(HERE / "tools.sh"), *names], capture_output=True, text=True, env={**os.environ, "GOBIN": str(cache), "GITHUB_PATH": ""})
        if done.returncode:
            return None, "a tool could not be built: " + done.stderr.strip()[-500:]
    return cache, None


def run(*command, ok=(0,), cwd=None, env=None, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, cwd=cwd, env={**os.environ, **(env or {})}, **more)
    assert done.returncode in ok, f"{command}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@functools.cache
def demo(*args):
    return run(setting.BINARY, "scan", "--demo", *args).stdout


class Served:
    """A folder over HTTP on loopback; `plain` maps a path to a body and its type."""

    def __init__(self, folder):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        handler.func.log_message = lambda *_: None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-packaging-"))
        cls.addClassCleanup(shutil.rmtree, cls.home, True)


class Release(Base):
    """The archive of this machine's binary and all that is made from it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dist = cls.home / "dist"
        # As a release's, without what only debuggers read: a fifth of the bytes to pack, five times over.
        cls.binary = cls.home / "gpuwaste"
        run("strip", "-o", cls.binary, setting.BINARY)
        for target in (TARGET, "aarch64-apple-darwin", "x86_64-unknown-linux-musl"):
            run("bash", HERE / "archive.sh", target, cls.binary, VERSION, cls.dist)
        cls.name = f"gpuwaste-{VERSION}-{TARGET}"
        cls.archive = cls.dist / f"{cls.name}.tar.gz"
        run("bash", HERE / "manifests.sh", VERSION, "some-owner/gpuwaste", cls.dist)

    def tree(self):
        into = self.home / "tree"
        if not into.exists():
            with tarfile.open(self.archive) as tar:
                tar.extractall(into, filter="data")
        return into / self.name

    def test_archive_holds_what_a_user_needs(self):
        tree = self.tree()
        names = {str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file()}
        self.assertLessEqual({"gpuwaste", "LICENSE", "README.md", "CHANGELOG.md", "completions/gpuwaste.bash", "completions/_gpuwaste", "completions/gpuwaste.fish", "man/gpuwaste.1"}, names)
        listed = run(setting.BINARY, "--help").stdout.split("Commands:")[1].split("Options:")[0]
        commands = set(re.findall(r"^  ([a-z-]+) ", listed, re.M)) - {"help"}
        self.assertGreater(len(commands), 8)
        self.assertLessEqual({f"man/gpuwaste-{c}.1" for c in commands}, names, "one page a command")
        self.assertIn(VERSION, run(tree / "gpuwaste", "--version").stdout)
        run("bash", "-n", tree / "completions/gpuwaste.bash")
        with tarfile.open(self.archive) as tar:
            self.assertEqual({(m.uid, m.gid, m.uname) for m in tar}, {(0, 0, "")}, "nobody's name is in it")

    def test_archive_is_the_same_twice(self):
        again = self.home / "again"
        time.sleep(1.1)
        run("bash", HERE / "archive.sh", TARGET, self.binary, VERSION, again)
        self.assertEqual(hashlib.sha256((again / self.archive.name).read_bytes()).digest(), hashlib.sha256(self.archive.read_bytes()).digest())

    def install(self, served, home, ok=(0,), **env):
        return run("sh", self.dist / "install.sh", ok=ok, env={"HOME": str(home), "GPUWASTE_URL": served.url, "GPUWASTE_BIN": "", "GPUWASTE_LIBC": "gnu", "GPUWASTE_VERSION": "", **env})

    def test_installer(self):
        site, home = self.home / "site", self.home / "user"
        release = site / "download" / f"v{VERSION}"
        release.mkdir(parents=True)
        home.mkdir()
        for part in self.dist.glob(f"{self.name}.tar.gz*"):
            shutil.copy(part, release)
        installed = home / ".local/bin/gpuwaste"
        with Served(site) as served:
            done = self.install(served, home)
            self.assertIn("is not in PATH", done.stdout)
            self.assertIn(VERSION, run(installed, "--version").stdout)
            self.assertEqual([p.name for p in installed.parent.iterdir()], ["gpuwaste"], "nothing is left behind")
            # What cannot be read, or is not what its checksum says, changes nothing.
            installed.write_text("#!/bin/sh\necho before\n")
            self.assertIn("v9.9.9", self.install(served, home, ok=(1,), GPUWASTE_VERSION="9.9.9").stderr)
            self.assertIn("is no version", self.install(served, home, ok=(1,), GPUWASTE_VERSION="1;reboot").stderr)
            self.assertIn("neither gnu nor musl", self.install(served, home, ok=(1,), GPUWASTE_LIBC="uclibc").stderr)
            sums = release / f"{self.name}.tar.gz.sha256"
            sums.write_text("0" * 64 + sums.read_text()[64:])
            self.assertIn("nothing was installed", self.install(served, home, ok=(1,)).stderr)
            sums.write_text("")
            self.assertIn("nothing was installed", self.install(served, home, ok=(1,)).stderr)
            self.assertEqual(run(installed).stdout, "before\n")

    def test_installer_without_curl_and_cut_off(self):
        text = (self.dist / "install.sh").read_text()
        self.assertNotIn("@REPOSITORY@", text)
        self.assertIn("https://github.com/some-owner/gpuwaste/releases", text)
        for cut in range(0, len(text), 331):
            # Whatever arrives of it runs nothing or fails; only whole it installs.
            done = subprocess.run(["/bin/sh"], input=text[:cut], capture_output=True, text=True, timeout=20, env={"PATH": "/nowhere", "HOME": str(self.home / "none")})
            self.assertFalse((self.home / "none").exists(), done.stderr)
        if shutil.which("shellcheck"):
            run("shellcheck", "--shell=sh", "--severity=style", self.dist / "install.sh")

    def test_deb_and_rpm(self):
        bin, why = tools()
        setting.need("nfpm", why)
        run("bash", HERE / "system.sh", VERSION, self.dist, env={"PATH": f"{bin}:{os.environ['PATH']}"})
        deb = next(self.dist.glob("*.deb"))
        self.assertEqual(len(list(self.dist.glob("*.rpm"))), 1)
        self.assertEqual(run("dpkg-deb", "--field", deb, "Version").stdout.strip().split("-")[0], VERSION)
        root = self.home / "root"
        run("dpkg-deb", "-x", deb, root)
        self.assertIn(VERSION, run(root / "usr/bin/gpuwaste", "--version").stdout)
        self.assertEqual(os.readlink(root / "usr/bin/kubectl-gpuwaste"), "/usr/bin/gpuwaste")
        for file in ("share/man/man1/gpuwaste.1", "share/man/man1/gpuwaste-scan.1", "share/bash-completion/completions/gpuwaste", "share/doc/gpuwaste/copyright"):
            self.assertTrue((root / "usr" / file).is_file(), file)

    def test_krew_manifest_and_formula(self):
        bin, why = tools()
        setting.need("validate-krew-manifest", why)
        manifest = self.dist / "gpuwaste.yaml"
        done = run(bin / "validate-krew-manifest", "-manifest", manifest, "-skip-install", ok=(0, 1, 255))
        self.assertEqual(done.returncode, 0, done.stderr)
        sums = dict(reversed(line.split()) for line in (self.dist / "SHA256SUMS").read_text().splitlines())
        self.assertEqual(sums[self.archive.name], hashlib.sha256(self.archive.read_bytes()).hexdigest())
        for file in ("gpuwaste.yaml", "gpuwaste.rb"):
            text = (self.dist / file).read_text()
            self.assertIn(f"https://github.com/some-owner/gpuwaste/releases/download/v{VERSION}/{self.archive.name}", text)
            self.assertIn(sums[self.archive.name], text)
            self.assertIn("aarch64-apple-darwin", text)
            self.assertNotIn("windows", text, "what was not built is not offered")
        broken = self.home / "broken.yaml"
        broken.write_text(manifest.read_text().replace("sha256: ", "sha256: 0"))
        self.assertNotEqual(run(bin / "validate-krew-manifest", "-manifest", broken, "-skip-install", ok=(0, 1, 255)).returncode, 0, "the validator refuses a wrong sum")
        if shutil.which("ruby"):
            run("ruby", "-c", self.dist / "gpuwaste.rb")
        for bad in (("1;x", "o/n"), (VERSION, "o/n;x"), (VERSION, "none")):
            run("bash", HERE / "manifests.sh", *bad, self.dist, ok=(2,))

    def test_image_without_a_daemon(self):
        bin, why = tools()
        setting.need("crane", why)
        env = {"PATH": f"{bin}:{os.environ['PATH']}"}
        port = testbed.free_port()
        registry = subprocess.Popen([bin / "crane", "registry", "serve", "--address", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(registry.wait)
        self.addCleanup(registry.kill)
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        archive = self.dist / f"gpuwaste-{VERSION}-x86_64-unknown-linux-musl.tar.gz"
        reference = f"localhost:{port}/gpuwaste:{VERSION}"
        digest = run("bash", HERE / "image.sh", reference, VERSION, f"{archive}=linux/amd64", f"{archive}=linux/arm64", env=env).stdout.strip()
        self.assertRegex(digest, r"^sha256:[0-9a-f]{64}$")
        again = run("bash", HERE / "image.sh", reference, VERSION, f"{archive}=linux/amd64", f"{archive}=linux/arm64", env=env).stdout.strip()
        self.assertEqual(again, digest, "the same bytes twice")
        index = json.loads(run(bin / "crane", "manifest", "--insecure", reference).stdout)
        self.assertEqual({(m["platform"]["os"], m["platform"]["architecture"]) for m in index["manifests"]}, {("linux", "amd64"), ("linux", "arm64")})
        config = json.loads(run(bin / "crane", "config", "--insecure", "--platform", "linux/amd64", reference).stdout)
        self.assertEqual(config["config"]["User"], "65532:65532")
        self.assertEqual(config["config"]["Entrypoint"], ["/usr/bin/gpuwaste"])
        tar = self.home / "image.tar"
        run(bin / "crane", "export", "--insecure", "--platform", "linux/amd64", reference, tar)
        with tarfile.open(tar) as files:
            held = {m.name.lstrip("./"): m for m in files}
            self.assertEqual(held["usr/bin/gpuwaste"].mode & 0o777, 0o755)
            self.assertGreater(held["etc/ssl/certs/ca-certificates.crt"].size, 10_000)
            self.assertNotIn("bin/sh", held, "no shell")
            self.assertEqual(files.extractfile(held["usr/bin/gpuwaste"]).read(), self.binary.read_bytes())

    def test_version_and_notes(self):
        self.assertEqual(run("bash", HERE / "version.sh", "branch", "main").stdout, f"version={VERSION}\n")
        self.assertIn("the tag is v9.9.9", run("bash", HERE / "version.sh", "tag", "v9.9.9", ok=(1,)).stderr)
        # A released version has notes, and only its own.
        released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
        notes = run("bash", HERE / "notes.sh", released).stdout
        self.assertGreater(len(notes), 100)
        self.assertNotIn("## [", notes)
        run("bash", HERE / "notes.sh", "9.9.9", ok=(1,))

    def test_action(self):
        """The two steps as a runner runs them, from a release on loopback."""
        import yaml
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        steps = action["runs"]["steps"]
        self.assertEqual([s["shell"] for s in steps], ["bash", "bash"])
        site, temp, repo = self.home / "action-site", self.home / "runner", self.home / "action-repo"
        release = site / "download" / f"v{VERSION}"
        for folder in (release, temp, repo):
            folder.mkdir(parents=True)
        (site / "tag").mkdir()
        (site / "latest").write_text("")
        for part in self.dist.glob(f"{self.name}.tar.gz*"):
            shutil.copy(part, release)
        # The installer of the action is the repository's; a release's has its own address in it.
        shutil.copytree(HERE, self.home / "action/packaging")
        files = {n: self.home / n.lower() for n in ("GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for f in files.values():
            f.write_text("")

        def step(n, ok, inputs, path=os.environ["PATH"]):
            given = {"${{ inputs.%s }}" % k: str(v.get("default", "")) for k, v in action["inputs"].items()}
            given |= {"${{ inputs.%s }}" % k: v for k, v in inputs.items()}
            given |= {"${{ github.action_path }}": str(self.home / "action"), "${{ github.action_repository }}": "some-owner/gpuwaste"}
            env = {k: given[v] for k, v in steps[n]["env"].items()}
            return run("bash", "-e", "-c", steps[n]["run"], ok=ok, cwd=repo, env={**{k: str(v) for k, v in files.items()}, **env, "RUNNER_TEMP": str(temp), "GPUWASTE_URL": served.url, "GPUWASTE_LIBC": "gnu", "PATH": path})

        with Served(site) as served:
            step(0, (0,), {"version": VERSION})
            path = files["GITHUB_PATH"].read_text().strip() + ":" + os.environ["PATH"]
            step(1, (0,), {"args": "scan --demo", "sarif": "report.sarif"}, path)
            self.assertIn("exit-code=0", files["GITHUB_OUTPUT"].read_text())
            self.assertIn("GPU waste", files["GITHUB_STEP_SUMMARY"].read_text())
            self.assertEqual(json.loads((repo / "report.sarif").read_text())["version"], "2.1.0")
            step(1, (1,), {"args": "scan --demo --max-waste 1"}, path)
            self.assertIn("exit-code=1", files["GITHUB_OUTPUT"].read_text())
            # Quotes make words; nothing is run.
            done = step(1, (2,), {"args": "scan '$(touch pwned)' \"`touch pwned`\"; touch pwned"}, path)
            self.assertFalse((repo / "pwned").exists(), done.stderr)

    def test_workflows(self):
        lint, why = setting.actionlint()
        setting.need("actionlint", why)
        run(lint, "-no-color", *sorted((ROOT / ".github/workflows").glob("*.yml")))
        # What the release calls is there.
        called = set(re.findall(r"packaging/[a-z]+\.sh", (ROOT / ".github/workflows/release.yml").read_text()))
        self.assertGreater(len(called), 6)
        for script in called:
            self.assertTrue((ROOT / script).is_file(), script)


VALIDATOR = "cyclonedx-python-lib[json-validation]==11.12.0"
VALIDATE = "import sys; from cyclonedx.schema import SchemaVersion as V; from cyclonedx.validation.json import JsonStrictValidator as J; e = J(V.V1_5).validate_str(open(sys.argv[1]).read()); sys.exit(str(e) if e else 0)"


def validator():
    """A Python with CycloneDX's own validator and its schemas, and why there is none."""
    cache = setting.cached("cyclonedx-validator", sys.version + VALIDATOR)
    if not (cache / "done").exists():
        done = subprocess.run([sys.executable, "-m", "venv", str(cache)], capture_output=True, text=True)
        if done.returncode == 0:
            done = subprocess.run([cache / "bin/pip", "install", "-q", "--disable-pip-version-check", VALIDATOR], capture_output=True, text=True)
        if done.returncode:
            return None, "CycloneDX's validator could not be installed: " + (done.stderr or done.stdout).strip()[-300:]
        (cache / "done").touch()
    return cache / "bin/python", None


class Sbom(Base):
    """What the binary is made of, as a release lists it."""

    def test_it_is_valid_whole_and_the_same_twice(self):
        if not shutil.which("cargo"):
            setting.need("the SBOM", "cargo is not installed")
        texts = []
        for name in ("one", "two"):
            # The first time the tool is built: minutes.
            subprocess.run(["bash", str(HERE / "sbom.sh"), str(self.home / name)], check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=2000)
            texts.append((self.home / name / "sbom.cdx.json").read_text())
        self.assertEqual(*texts)
        self.assertFalse([place for place in (str(ROOT), str(pathlib.Path.home()) + "/") if place in texts[0]], "a path of this machine")
        python, why = validator()
        setting.need("CycloneDX's validator", why)
        run(python, "-c", VALIDATE, self.home / "one/sbom.cdx.json")
        told = json.loads(texts[0])
        self.assertEqual((told["metadata"]["component"]["name"], told["metadata"]["component"]["version"]), ("gpuwaste", VERSION))
        listed = {(c["name"], c["version"]) for c in told["components"]} | {("gpuwaste", VERSION)}
        tree = run("cargo", "tree", "--locked", "--package", "gpuwaste", "--edges", "normal", "--target", "all", "--prefix", "none", "--no-dedupe", "--format", "{p}", cwd=ROOT).stdout
        linked = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
        self.assertEqual({(n, v.removeprefix("v")) for n, v in linked} - listed, set(), "each crate that is linked in")
        licences = {c["name"] for c in told["components"] if not c.get("licenses")}
        self.assertEqual(licences, set(), "each with its licence")
        left = run("git", "status", "--porcelain", "--untracked-files=all", cwd=ROOT).stdout
        self.assertNotIn("sbom.cdx.json", left, "nothing is left in the clone")


class Chart(Base):
    """The Helm chart, rendered by Helm, against the real API server."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        bin, why = tools()
        setting.need("helm", why)
        setting.need("PyYAML", setting.packages())
        cls.helm = bin / "helm"

    def render(self, *sets, ok=(0,), release="fleet"):
        import yaml
        done = run(self.helm, "template", release, HERE / "helm/gpuwaste", "--namespace", "gpuwaste", "--kube-version", KUBERNETES, *(x for s in sets for x in ("--set-json" if "=[" in s or "={" in s else "--set", s)), ok=ok)
        return [d for d in yaml.safe_load_all(done.stdout) if d] if done.returncode == 0 else done.stderr

    FULL = ("image.repository=registry.example/gpuwaste", "prometheus=http://prometheus.monitoring:9090", "policy=a = 1", "prices=b = 2", 'rbac.scrapeNamespaces=["ml"]',
            'rbac.prometheusServices=[{"namespace":"monitoring","name":"prometheus","port":9090}]', 'rbac.configMaps=[{"namespace":"ml","name":"vllm"}]', 'podLabels={"team":"finops"}',
            'extraVolumes=[{"name":"textfile","emptyDir":{}}]', 'extraVolumeMounts=[{"name":"textfile","mountPath":"/textfile"}]', "timeZone=Etc/UTC", 'tolerations=[{"operator":"Exists"}]')

    def test_lint(self):
        run(self.helm, "lint", "--strict", "--kube-version", KUBERNETES, HERE / "helm/gpuwaste", "--set", "image.repository=registry.example/gpuwaste")

    def test_rights_are_those_that_the_binary_asks_for(self):
        import yaml
        asked = [d for d in yaml.safe_load_all(run(setting.BINARY, "rbac", "--with", "prometheus=monitoring/prometheus:9090", "--with", "configmaps=ml/vllm").stdout) if d]
        given = self.render(*self.FULL)
        rules = lambda docs, kind, part="": [d["rules"] for d in docs if d["kind"] == kind and part in d["metadata"]["name"]]
        self.assertEqual(rules(given, "ClusterRole"), rules(asked, "ClusterRole"), "packaging/helm/gpuwaste/files/rules.yaml is not what `gpuwaste rbac` prints")
        self.assertEqual(rules(given, "Role", "prometheus"), rules(asked, "Role", "prometheus"))
        self.assertEqual(rules(given, "Role", "configmap"), rules(asked, "Role", "configmap"))
        verbs = {v for d in given for r in d.get("rules", []) for v in r["verbs"]}
        self.assertEqual(verbs, {"get", "list"})

    def test_values(self):
        job = lambda docs: next(d for d in docs if d["kind"] == "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        plain = job(self.render("image.repository=registry.example/gpuwaste"))
        container = plain["containers"][0]
        self.assertEqual(container["image"], f"registry.example/gpuwaste:{VERSION}")
        self.assertEqual(container["args"], ["scan", "--format", "json"])
        self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
        self.assertNotIn("volumes", plain)
        full = self.render(*self.FULL)
        container = job(full)["containers"][0]
        self.assertEqual(container["args"], ["scan", "--prometheus", "http://prometheus.monitoring:9090", "--policy", "/etc/gpuwaste/gpuwaste.toml", "--prices", "/etc/gpuwaste/prices.toml", "--format", "json"])
        self.assertEqual({m["mountPath"] for m in container["volumeMounts"]}, {"/etc/gpuwaste", "/textfile"})
        self.assertEqual(next(d for d in full if d["kind"] == "ConfigMap")["data"], {"gpuwaste.toml": "a = 1", "prices.toml": "b = 2"})
        # The binary takes what the chart passes it.
        run(setting.BINARY, *container["args"][:1], "--help")

    def test_mistakes_are_told(self):
        self.assertIn("repository", self.render(ok=(1,)))
        self.assertIn("repositroy", self.render("image.repository=x", "image.repositroy=y", ok=(1,)))
        self.assertIn("activeDeadlineSeconds", self.render("image.repository=x", "activeDeadlineSeconds=5", ok=(1,)))

    def test_real_api_server_takes_it(self):
        import yaml
        with testbed.Testbed() as bed:
            bed.seed("test", [{"kind": "Namespace", "metadata": {"name": n}, "status": {"phase": "Active"}} for n in ("ml", "monitoring", "gpuwaste")])
            for document in self.render(*self.FULL):
                if document["kind"] != "ConfigMap":
                    bed.apply("test", yaml.safe_dump(document))
            account = "system:serviceaccount:gpuwaste:fleet-gpuwaste"
            asks = lambda verb, **what: json.loads(bed.request("test", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": account, "resourceAttributes": {"verb": verb, **what}}})[1])["status"]["allowed"]
            self.assertTrue(asks("list", resource="pods"))
            self.assertTrue(asks("get", resource="pods", subresource="proxy", namespace="ml"))
            self.assertFalse(asks("get", resource="pods", subresource="proxy", namespace="gpuwaste"))
            self.assertTrue(asks("get", resource="services", subresource="proxy", namespace="monitoring", name="prometheus:9090"))
            self.assertTrue(asks("get", resource="configmaps", namespace="ml", name="vllm"))
            for refused in (dict(resource="secrets"), dict(resource="configmaps", namespace="ml", name="other"), dict(resource="nodes", subresource="proxy")):
                self.assertFalse(asks("get", **refused), refused)
            self.assertFalse(asks("delete", resource="pods"))


class Monitoring(Base):
    """Alert rules and the dashboard on a real Prometheus that scraped a real report."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        setting.need("prometheus", None if shutil.which("promtool") and shutil.which("prometheus") else "prometheus and promtool are not installed")

    def test_each_alert_fires_where_it_should(self):
        done = run("promtool", "test", "rules", HERE / "prometheus/alerts_test.yaml", cwd=HERE / "prometheus", ok=(0, 1))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        named = set(re.findall(r"alert: (\S+)", (HERE / "prometheus/alerts.yaml").read_text()))
        tested = set(re.findall(r"alertname: (\w+)\n        exp_alerts:\n", (HERE / "prometheus/alerts_test.yaml").read_text()))
        self.assertEqual(named, tested, "each alert is seen to fire")

    def test_dashboard_and_rules_on_a_scraped_report(self):
        site = self.home / "site"
        site.mkdir()
        (site / "metrics.txt").write_text(demo("--group-by", "namespace", "--max-waste", "1000", "--format", "prometheus"))
        (self.home / "rules.yaml").write_text((HERE / "prometheus/alerts.yaml").read_text())
        dashboard = json.loads((HERE / "grafana/gpuwaste.json").read_text())
        queries = {t["expr"] for p in dashboard["panels"] for t in p["targets"]}
        self.assertGreater(len(queries), 12)
        self.assertEqual(len({p["id"] for p in dashboard["panels"]}), len(dashboard["panels"]))
        with Served(site) as served:
            config = self.home / "prometheus.yml"
            target = {"job_name": "gpuwaste", "metrics_path": "/metrics.txt", "static_configs": [{"targets": [served.url.removeprefix("http://")]}]}
            config.write_text(json.dumps({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yaml"], "scrape_configs": [target]}))
            port = testbed.free_port()
            child = subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.home}/tsdb", f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.addCleanup(child.wait)
            self.addCleanup(child.kill)

            def ask(query):
                url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
                with urllib.request.urlopen(url, timeout=10) as answer:
                    return json.load(answer)["data"]["result"]

            for _ in range(300):
                try:
                    if ask("gpuwaste_spend_usd_per_hour"):
                        break
                except OSError:
                    pass
                time.sleep(0.2)
            report = json.loads(demo("--format", "json"))
            waste = float(ask("sum(gpuwaste_waste_usd_per_hour)")[0]["value"][1])
            self.assertAlmostEqual(waste, report["totals"]["waste_usd_per_hour"], 4)
            for query in sorted(queries):
                self.assertTrue(ask(query.replace("$cluster", ".*")), f"{query}: no data")
            one = report["findings"][0]["subject"]["cluster"]
            self.assertTrue(ask('sum(gpuwaste_waste_usd_per_hour{cluster=~"$cluster"})'.replace("$cluster", one)))
            # The demo is of a fixed day: its report is stale, and has what the others look for. A rule may have been evaluated before the first scrape.
            wanted = {"GpuWasteReportStale", "GpuWasteHigh", "GpuWasteFinding", "GpuSpendAtRisk", "GpusUnhealthy"}
            for _ in range(100):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/rules", timeout=10) as answer:
                    rules = [r for g in json.load(answer)["data"]["groups"] for r in g["rules"]]
                alerting = {r["name"] for r in rules if r["state"] in ("pending", "firing")}
                if all(r["health"] == "ok" for r in rules) and wanted <= alerting:
                    break
                time.sleep(0.2)
            self.assertEqual({r["name"]: r.get("lastError", "") for r in rules if r["health"] != "ok"}, {})
            named = re.findall(r"alert: (\S+)", (ROOT / "packaging/prometheus/alerts.yaml").read_text())
            self.assertEqual(sorted(r["name"] for r in rules), sorted(named))
            self.assertLessEqual(wanted, alerting)


if __name__ == "__main__":
    if sys.argv[1:] == ["--tools"]:
        found, reason = tools()
        sys.exit(reason or validator()[1])
    unittest.main()
