#!/usr/bin/env python3
"""A real slurmrestd 22.05 (Debian's) with tokens, asked over HTTP: what it tells is what the commands of the same cluster tell.

Needs root and the packages slurm-wlm, slurmdbd, slurmrestd, slurm-wlm-jwt-plugin, mariadb-server and munge: elsewhere the test is
skipped and says so; with CI set it fails instead.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/slurm/test_slurm_rest.py
"""
import base64, http.server, json, os, pathlib, sys, threading, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hpc import Asks, Cluster, skip, until  # noqa: E402

SKIP = skip("slurmrestd")
SECRET = "CANARY" + base64.urlsafe_b64encode(os.urandom(12)).decode()


class Relay(http.server.BaseHTTPRequestHandler):
    """Writes down what is asked, and answers as it is told to: (status, type, body), or what slurmrestd says."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        status, kind, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if 300 <= status < 400:
            self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def relay(test, answer, elsewhere=""):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    server.asked, server.answer, server.elsewhere = [], answer, elsewhere
    threading.Thread(target=server.serve_forever, daemon=True).start()
    test.addCleanup(server.server_close)
    test.addCleanup(server.shutdown)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server


@unittest.skipIf(SKIP, f"SKIPPED LOUDLY: {SKIP}")
class Rest(Asks, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.slurm = s = Cluster()
        cls.addClassCleanup(s.stop)
        s.accept_tokens()
        s.start()
        one = s.submit("one", "-w", "gpu1", "--gres=gpu:2", "-c", "4", "--mem=20000")
        array = s.submit("array", "-w", "gpu1", "--array=0-1", "--gres=gpu:1")
        gang = s.submit("gang", "-w", "gpu1,gpu2", "-N", "2", "--ntasks-per-node=1", "--gres=gpu:h100:2", account="bio")
        mig = s.submit("mig", "-p", "parts", "--gres=gpu:a100_1g.5gb:2")
        s.running(one, f"{array}_0", f"{array}_1", gang, mig)
        s.submit("held", "--hold", "--gres=gpu:1")
        s.run("scontrol", "update", "NodeName=gpu4", "State=DRAIN", "Reason=GPU 3 Xid 79")
        cls.url, token = s.serve()
        cls.token = s.folder / "token"
        cls.token.write_text(token)
        until("accounting", lambda: s.run("sacct", "-a", "-X", "-n", "-o", "jobid").split())

    def over(self, url=None, token=None):
        return ["--slurm-rest", url or self.url, "--slurm-token-file", token or self.token]

    def test_it_tells_what_the_commands_tell(self):
        asked, run = self.collect(*self.over()), self.collect("--slurm")
        (a,), (b,) = asked["clusters"], run["clusters"]
        # Hours of running jobs grow between the two.
        past = lambda c: sorted((json.dumps(p["labels"], sort_keys=True), p["jobs"]) for p in c.get("past", []))
        self.assertEqual(past(a), past(b))
        self.assertTrue(past(a))
        for c in (a, b):
            c.pop("past", None)
            for node in c["nodes"]:
                # The load and the last moment of work move on.
                for moving in ("last_busy", "cpu_load", "free_memory"):
                    node.pop(moving, None)
            # slurmrestd lists no steps that run.
            told = [pod.pop("step_gpus", None) for pod in c["pods"]]
            self.assertEqual([g for g in told if g is not None], [] if c is a else [0], "the gang's second node")
        self.assertEqual(a, b)
        self.assertEqual(a["name"], "hpc")
        self.assertIn("Slurm 22.05.8", asked["sources"][0]["detail"])
        self.assertNotIn(self.token.read_text()[10:40], json.dumps(asked))

    def test_what_the_rights_are_is_said_to_be_unknown(self):
        hidden = [g for g in self.collect(*self.over())["gaps"] if g["what"] == "what is hidden"]
        self.assertEqual([g["reason"] for g in hidden], ["slurmrestd does not tell PrivateData"])

    def test_the_same_cluster_by_its_commands_is_counted_once(self):
        alone, both = (json.loads(self.gpuwaste("scan", *self.over(), *more, "--format", "json", "-q").stdout) for more in ([], ["--slurm"]))
        self.assertEqual(both["totals"]["gpus"], alone["totals"]["gpus"])
        self.assertEqual(len(both["sources"]), 2)

    def test_a_refused_token_is_told_and_never_shown(self):
        payload = base64.urlsafe_b64encode(json.dumps({"sun": "nobody", "exp": 1}).encode()).decode().rstrip("=")
        bad = self.slurm.folder / "bad"
        bad.write_text(f"SLURM_JWT=e30.{payload}.{SECRET}")
        done = self.gpuwaste("scan", *self.over(token=bad), expect=(2,))
        self.assertIn("a token that has expired", done.stderr)
        self.assertIn("scontrol token", done.stderr)
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        gone = self.gpuwaste("scan", *self.over(url="http://user:" + SECRET + "@127.0.0.1:9"), expect=(2,))
        self.assertIn("no connection", gone.stderr)
        self.assertNotIn(SECRET, gone.stdout + gone.stderr)

    def test_only_get_and_no_other_host(self):
        elsewhere = relay(self, lambda path: (200, "application/json", b"{}"))
        moved = relay(self, lambda path: (307, "text/html", b""), elsewhere.url)
        done = self.gpuwaste("scan", *self.over(url=moved.url), expect=(2,))
        self.assertIn("no redirect is followed", done.stderr)
        self.assertEqual(elsewhere.asked, [])
        self.assertEqual(len(moved.asked), 1)

    def real(self, path):
        import urllib.error, urllib.request
        token = self.token.read_text().strip().removeprefix("SLURM_JWT=")
        request = urllib.request.Request(self.url + path, headers={"X-SLURM-USER-TOKEN": token, "X-SLURM-USER-NAME": "nobody"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read()

    def test_what_is_asked_is_what_dry_run_lists(self):
        through = relay(self, self.real)
        listed = [line.split("#")[0].split()[1].removeprefix(through.url) for line in self.gpuwaste("scan", *self.over(url=through.url), "--dry-run").stdout.splitlines()]
        self.collect(*self.over(url=through.url))
        plain = lambda path: path.split("?")[0].replace("/v0.0.38/", "/VERSION/").rstrip("/")
        self.assertEqual(sorted({plain(p) for p, _ in through.asked}), sorted({plain(p) for p in listed}))
        # Nodes, jobs, the description, and one a day.
        self.assertEqual(len(through.asked), 3 + 7)

    def test_what_is_lost_is_a_gap(self):
        """One path at a time answers with what is none: the rest is still read, or the cluster is told to be unread."""
        wrong = {
            "error": (500, "application/json", json.dumps({"errors": [{"error": "Unable to query", "description": "slurmdbd is away"}]}).encode()),
            "errors in a 200": (200, "application/json", b'{"errors":[{"error":"Unable to query"}],"jobs":[],"nodes":[]}'),
            "a page": (200, "text/html", b"<html>sign in</html>"),
            "cut": (200, "application/json", b'{"jobs":[{"job_id":1'),
        }
        for name, answer in wrong.items():
            for part in ("/slurm/v0.0.38/jobs", "/slurmdb/v0.0.38/jobs"):
                with self.subTest(name=name, part=part):
                    through = relay(self, lambda path: answer if path.startswith(part) else self.real(path))
                    snapshot = self.collect(*self.over(url=through.url))
                    what = {"/slurm/v0.0.38/jobs": "jobs", "/slurmdb/v0.0.38/jobs": "jobs that have ended"}[part]
                    self.assertIn(what, [g["what"] for g in snapshot["gaps"]], snapshot["gaps"])
                    if what == "jobs":
                        report = json.loads(self.gpuwaste("scan", *self.over(url=through.url), "--format", "json", "-q").stdout)
                        self.assertEqual([f for f in report["findings"] if f["check"] == "dark-capacity" and f["part"] == "idle"], [])
            with self.subTest(name=name, part="nodes"):
                through = relay(self, lambda path: answer if path.startswith("/slurm/v0.0.38/nodes") else self.real(path))
                self.assertIn("nodes", self.gpuwaste("scan", *self.over(url=through.url), expect=(2,)).stderr)

    def test_z_a_server_that_is_gone(self):
        self.slurm.rest.terminate()
        self.slurm.rest.wait(20)
        done = self.gpuwaste("scan", *self.over(), expect=(2,))
        self.assertIn("no connection", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
