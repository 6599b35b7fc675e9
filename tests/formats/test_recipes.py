#!/usr/bin/env python3
"""The recipes of docs/ci.md as they stand there: linted, and run in a Git repository against an API server of a few lines.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/formats/test_recipes.py

Not run, since only the services themselves can: steps that use an action (checkout, upload-sarif, upload-artifact) – what they
are given is checked instead –, schedules and rules, and uploads of artifacts. What the workflow's comment asks for (the binary
and a kubeconfig) is put in place by this test.
"""
import http.server, json, os, pathlib, re, shutil, subprocess, sys, tempfile, threading, time, unittest
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "armour"))
import fake, setting
from setting import BINARY, ROOT

MISSING = setting.packages()
CI = (ROOT / "docs/ci.md").read_text()
VERDICTS = (ROOT / "docs/verdicts.md").read_text()
DAY = 86400


def recipe(heading):
    """The first YAML block under a heading of the page on CI."""
    section = re.split(r"\n#{2,3} ", CI.split(f"\n## {heading}\n", 1)[1], maxsplit=1)[0]
    return re.search(r"```yaml\n(.*?)```", section, re.S).group(1)


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


def node(name, ready=True, since=30 * DAY):
    labels = {"node.kubernetes.io/instance-type": "p5.48xlarge", "topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": "h100"}
    amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", "nvidia.com/gpu": "8"}
    return {"kind": "Node", "metadata": {"name": name, "creationTimestamp": stamp(30 * DAY), "labels": labels}, "spec": {"providerID": f"aws:///x/{name}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": stamp(since)}]}}


def broken():
    """$55.04/h that the baseline does not have: a node that has not been Ready for two days, a measured fact."""
    return node("gpu-2", ready=False, since=2 * DAY)


class Cluster:
    """An API server: nodes that nobody uses, and a list of what it refuses."""

    def __init__(self, folder):
        self.nodes, self.refused = [node("gpu-1")], ()
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                code, body = cluster.answer(self.path)
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.config = folder / "kubeconfig"
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {"token": "t"}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}]}))

    def answer(self, path):
        if any(path.startswith(f"/api/v1/{kind}") for kind in self.refused):
            return 403, {"kind": "Status", "reason": "Forbidden", "message": "no"}
        code, body, _ = fake.World(self.nodes).answer(path)
        return code, json.loads(body) if body.startswith(b"{") else {}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def deployment(name, model, gpu="NVIDIA-L4"):
    return f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  template:
    spec:
      nodeSelector: {{nvidia.com/gpu.product: {gpu}}}
      containers:
        - name: server
          image: vllm/vllm-openai:v0.11.0
          args: [--model={model}, --max-model-len=4096, --max-num-seqs=4]
          resources: {{requests: {{cpu: 6, memory: 24Gi}}, limits: {{nvidia.com/gpu: 1}}}}
"""


FITS, TOO_LARGE = deployment("small", "Qwen/Qwen2.5-7B-Instruct"), deployment("large", "Qwen/Qwen2.5-14B-Instruct")


class Recipes(unittest.TestCase):
    def setUp(self):
        setting.need("PyYAML, check-jsonschema and pre-commit", MISSING)
        setting.need("git", None if shutil.which("git") else "not installed")
        holder = tempfile.TemporaryDirectory(prefix="gpuwaste-recipes-")
        self.addCleanup(holder.cleanup)
        self.home = pathlib.Path(holder.name)
        (self.home / "bin").mkdir()
        (self.home / "bin/gpuwaste").symlink_to(BINARY)
        self.repo = self.home / "repo"
        (self.repo / "k8s").mkdir(parents=True)
        (self.repo / "k8s/small.yaml").write_text(FITS)
        identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "t"), ("EMAIL", "t@example.com"))}
        self.env = {"PATH": f"{self.home / 'bin'}:{setting.environment() / 'bin'}:{os.environ['PATH']}", "HOME": str(self.home), "PRE_COMMIT_HOME": str(self.home / "pre-commit"),
                    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "CI": "true", **identity}
        self.shell("git init -q -b main && git add -A && git commit -q -m first")

    def shell(self, script, *options, ok=(0,), env=None):
        """As a runner does: the script in a file, given to bash."""
        path = self.home / "script.sh"
        path.write_text(script)
        done = subprocess.run(["bash", *options, str(path)], cwd=self.repo, env={**self.env, **(env or {})}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        self.assertIn(done.returncode, ok, f"{script}\n{done.stdout}\n{done.stderr}")
        self.assertNotIn("panicked", done.stderr)
        return done

    def cluster(self):
        cluster = Cluster(self.home)
        self.addCleanup(cluster.close)
        self.env["KUBECONFIG"] = str(cluster.config)
        return cluster

    def record_baseline(self):
        """As the page on verdicts says it."""
        command = re.search(r"`--write-baseline (\S+)` records", VERDICTS)
        self.shell(f"gpuwaste scan -q --write-baseline {command.group(1)}")
        self.assertTrue(json.loads((self.repo / command.group(1)).read_text())["findings"])

    def validates(self, schema, text):
        path = self.home / "recipe.yaml"
        path.write_text(text)
        done = subprocess.run([setting.environment() / "bin/python", "-m", "check_jsonschema", "--builtin-schema", schema, str(path)], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        path.write_text(text.replace("script:", "scirpt:").replace("runs-on:", "run-on:"))
        broken = subprocess.run([setting.environment() / "bin/python", "-m", "check_jsonschema", "--builtin-schema", schema, str(path)], capture_output=True, text=True, timeout=120)
        self.assertEqual(broken.returncode, 1, "the schema refuses something")

    def workflow(self):
        """Runs the job's steps as GitHub's runner does; returns the job's exit code and what each `uses` was given."""
        import yaml
        job = yaml.safe_load(recipe("GitHub Actions"))["jobs"]["scan"]
        summary = self.home / "summary.md"
        summary.write_text("")
        for left in ("report.md", "report.sarif", "report.html"):
            (self.repo / left).unlink(missing_ok=True)
        failed, used = 0, []
        for step in job["steps"]:
            condition = step.get("if", "success()")
            self.assertIn(condition, ("success()", "always()", "${{ !cancelled() }}"), "a condition that this test knows")
            if failed and condition == "success()":
                continue
            if "run" in step:
                # https://docs.github.com/actions/reference/workflow-syntax-for-github-actions: unspecified shell is `bash -e {0}`.
                done = self.shell(step["run"], "-e", ok=(0, 1, 2, 3), env={"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_ACTIONS": "true"})
                failed = failed or done.returncode
            else:
                used.append((step["uses"].split("@")[0], step.get("with", {})))
        return failed, dict(used), summary.read_text()

    def test_github_workflow_is_valid(self):
        lint, why = setting.actionlint()
        setting.need("actionlint", why)
        self.validates("vendor.github-workflows", recipe("GitHub Actions"))
        path = self.home / "workflow.yml"
        path.write_text(recipe("GitHub Actions"))
        done = subprocess.run([lint, "-no-color", str(path)], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        path.write_text(recipe("GitHub Actions").replace("always()", "allways()"))
        self.assertEqual(subprocess.run([lint, str(path)], capture_output=True, timeout=120).returncode, 1, "it refuses what GitHub does not know")

    def test_github_steps(self):
        cluster = self.cluster()
        self.record_baseline()
        code, used, summary = self.workflow()
        self.assertEqual(code, 0)
        self.assertIn("passed: max-new-waste", summary)
        sarif = json.loads((self.repo / used["github/codeql-action/upload-sarif"]["sarif_file"]).read_text())
        self.assertEqual(sarif["version"], "2.1.0")
        self.assertIn("<html", (self.repo / used["actions/upload-artifact"]["path"]).read_text())
        cluster.nodes.append(broken())
        code, used, summary = self.workflow()
        self.assertEqual(code, 1)
        self.assertIn("**breached**: max-new-waste", summary)
        self.assertTrue((self.repo / used["actions/upload-artifact"]["path"]).exists(), "the report is there to be read")
        # Too little to judge.
        cluster.refused = ("pods",)
        self.assertEqual(self.workflow()[0], 3)

    def test_gitlab_pipeline_is_valid(self):
        self.validates("vendor.gitlab-ci", recipe("GitLab CI"))

    def gitlab(self, name):
        """A job's script as the shell executor runs it; the exit code and whether the pipeline goes on."""
        import yaml
        job = yaml.safe_load(recipe("GitLab CI"))[name]
        reports = [job["artifacts"]["reports"]["junit"], *job["artifacts"].get("paths", [])]
        for left in reports:
            (self.repo / left).unlink(missing_ok=True)
        self.assertEqual(job["artifacts"]["when"], "always")
        done = self.shell("set -eo pipefail\n" + "\n".join(job["script"]), ok=(0, 1, 2, 3))
        allowed = job.get("allow_failure", {}).get("exit_codes", [])
        for path in reports:
            self.assertTrue((self.repo / path).stat().st_size > 0, path)
        suite = ElementTree.parse(self.repo / reports[0]).getroot()
        self.assertEqual(suite.tag, "testsuites")
        return done.returncode, done.returncode == 0 or done.returncode in allowed, suite

    def test_gitlab_scan(self):
        cluster = self.cluster()
        self.record_baseline()
        self.assertEqual(self.gitlab("gpu-waste")[:2], (0, True))
        cluster.nodes.append(broken())
        self.assertEqual(self.gitlab("gpu-waste")[:2], (1, False))
        cluster.refused = ("pods",)
        self.assertEqual(self.gitlab("gpu-waste")[:2], (3, True))

    def test_gitlab_manifests(self):
        failures = lambda suite: len(suite.findall(".//failure"))
        code, goes_on, suite = self.gitlab("gpu-manifests")
        self.assertEqual((code, goes_on, failures(suite)), (0, True, 0))
        (self.repo / "k8s/large.yaml").write_text(TOO_LARGE)
        code, goes_on, suite = self.gitlab("gpu-manifests")
        self.assertEqual((code, goes_on), (1, False))
        self.assertGreaterEqual(failures(suite), 1)

    def test_pre_commit(self):
        (self.repo / ".pre-commit-config.yaml").write_text(recipe("pre-commit"))
        subprocess.run([setting.environment() / "bin/pre-commit", "validate-config", ".pre-commit-config.yaml"], cwd=self.repo, env=self.env, check=True, capture_output=True, timeout=120)
        self.shell("git add -A && pre-commit run --all-files")
        self.shell("pre-commit install && git commit -q -m hook")
        commits = lambda: self.shell("git rev-list --count HEAD").stdout.strip()
        self.assertEqual(commits(), "2")
        (self.repo / "k8s/large.yaml").write_text(TOO_LARGE)
        done = self.shell("git add -A && git commit -q -m large", ok=(1,))
        self.assertIn("does not fit", done.stdout + done.stderr)
        self.assertEqual(commits(), "2", "the commit was refused")
        (self.repo / "k8s/large.yaml").write_text(TOO_LARGE.replace("NVIDIA-L4", "NVIDIA-L40S"))
        self.shell("git add -A && git commit -q -m larger-card")
        self.assertEqual(commits(), "3")
        # Nothing below k8s/ changes: the hook has nothing to do, whatever the working tree holds.
        (self.repo / "README").write_text("x")
        done = self.shell("git add README && pre-commit run")
        self.assertIn("no files to check", done.stdout)

    def test_pre_commit_reads_what_other_files_say(self):
        """A service whose runtime stands in a file that did not change."""
        runtime = """apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: vllm}
spec:
  containers:
    - name: kserve-container
      image: vllm/vllm-openai:v0.11.0
      args: [--model=Qwen/Qwen2.5-14B-Instruct, --max-model-len=4096]
      resources: {requests: {cpu: 6, memory: 24Gi}, limits: {nvidia.com/gpu: 1}}
"""
        service = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: chat}
spec:
  predictor:
    nodeSelector: {nvidia.com/gpu.product: NVIDIA-L4}
    model: {modelFormat: {name: vLLM}, runtime: vllm}
"""
        (self.repo / ".pre-commit-config.yaml").write_text(recipe("pre-commit"))
        (self.repo / "k8s/runtime.yaml").write_text(runtime)
        self.shell("git add -A && git commit -q -m runtime && pre-commit install")
        # Many files: they are not judged apart.
        for i in range(9):
            (self.repo / f"k8s/small-{i}.yaml").write_text(FITS.replace("name: small", f"name: small-{i}"))
        self.shell("git add -A && git commit -q -m many")
        (self.repo / "k8s/service.yaml").write_text(service)
        done = self.shell("git add -A && git commit -q -m service", ok=(1,))
        self.assertIn("does not fit", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)
