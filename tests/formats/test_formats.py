#!/usr/bin/env python3
"""Every format of the demo's report, read by somebody else's reader; policy, baseline and gates from outside.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/formats/test_formats.py
"""
import collections, csv, datetime, fcntl, io, json, os, pathlib, pty, re, shutil, struct, subprocess, sys, tempfile, termios, tomllib, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import setting
from setting import ROOT, gpuwaste

MISSING = setting.packages()
FORMATS = ["json", "csv", "markdown", "html", "sarif", "junit", "prometheus", "github", "table"]


def in_all_formats(folder, *args):
    gpuwaste("scan", "-q", *args, *[f"--format={f}={folder}/report.{f}" for f in FORMATS], cwd=folder)
    return {f: (pathlib.Path(folder) / f"report.{f}").read_text() for f in FORMATS}


class Formats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        setting.need("lxml, jsonschema and markdown-it", MISSING)
        cls.dir = tempfile.TemporaryDirectory(prefix="gpuwaste-formats-")
        cls.addClassCleanup(cls.dir.cleanup)
        cls.folder = pathlib.Path(cls.dir.name)
        cls.demo = in_all_formats(cls.folder, "--demo", "--group-by", "namespace")
        cls.report = json.loads(cls.demo["json"])
        gpuwaste("collect", "--demo", "-q", "-o", cls.folder / "demo.json")
        evil = setting.hostile(json.loads((cls.folder / "demo.json").read_text()))
        (cls.folder / "evil.json").write_text(json.dumps(evil))
        (cls.folder / "evil").mkdir()
        cls.evil = in_all_formats(cls.folder / "evil", "--snapshot", cls.folder / "evil.json")

    def counted(self, key):
        return [f for f in self.report["findings"] if f["status"] != "suppressed" and f[key] is not None]

    def test_the_demo_has_something_to_show(self):
        self.assertGreaterEqual(len(self.report["findings"]), 20)
        self.assertTrue(any(f["status"] == "suppressed" for f in self.report["findings"]))
        self.assertGreater(self.report["totals"]["waste_usd_per_hour"], 0)

    def test_documents_validate_against_the_published_schemas(self):
        import jsonschema
        for name, document in [("report", self.report), ("report", json.loads(self.evil["json"])),
                               ("snapshot", json.loads((self.folder / "demo.json").read_text())),
                               ("policy", tomllib.loads(gpuwaste("scan", "--demo", "--print-policy", "--max-waste", "5", cwd=self.folder).stdout))]:
            schema = json.loads(gpuwaste("schema", name).stdout)
            jsonschema.Draft202012Validator.check_schema(schema)
            errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in jsonschema.Draft202012Validator(schema).iter_errors(document)]
            self.assertEqual(errors, [], name)
        broken = {**self.report, "totals": {**self.report["totals"], "gpus": "many"}}
        schema = json.loads(gpuwaste("schema", "report").stdout)
        self.assertFalse(jsonschema.Draft202012Validator(schema).is_valid(broken), "the schema refuses something")

    def test_the_report_is_the_contracts(self):
        top = "schema tool taken_at window_seconds sources totals findings checks gates workloads nodes gaps".split()
        self.assertLessEqual(set(top), set(self.report))
        totals = """spend_usd_per_hour waste_usd_per_hour waste_now_usd_per_hour waste_reusable_usd_per_hour at_risk_usd_per_hour waste_percent
            coverage_percent nodes workloads gpus gpus_allocated gpus_dark gpus_free gpus_unhealthy gpus_stuck gpus_idle gpus_working gpus_unknown
            gpus_unpriced allocated_without_traffic_percent price_sources prices_as_of""".split()
        self.assertLessEqual(set(totals), set(self.report["totals"]))
        self.assertEqual(set(self.report["totals"]["price_sources"]), {"user", "catalog", "region-guess", "gpu-median", "unknown"})
        finding = """id check part title kind grade subject usd_per_hour waste_usd_per_hour at_risk_usd_per_hour confidence confidence_reasons
            evidence claims fix status""".split()
        for f in self.report["findings"]:
            self.assertLessEqual(set(finding), set(f))
            self.assertLessEqual(set("cluster kind namespace name pool gpu model engine".split()), set(f["subject"]))
            self.assertLessEqual({"summary", "placement", "patch"}, set(f["fix"]))
            for e in f["evidence"]:
                self.assertLessEqual(set("name value unit expected source window_seconds coverage".split()), set(e))
            for c in f["claims"]:
                self.assertLessEqual({"node", "gpu", "usd_per_hour", "vacates"}, set(c))
        workload = """cluster kind namespace name engine engine_version model replicas gpus_per_replica gpu tensor_parallel pipeline_parallel
            data_parallel max_model_len max_num_seqs quantization dtype kv_cache_dtype gpu_memory_utilization usd_per_hour state observed""".split()
        observed = """requests_per_second prompt_tokens_per_second output_tokens_per_second running waiting kv_usage preemptions_per_hour gpu_busy""".split()
        for w in self.report["workloads"]:
            self.assertLessEqual(set(workload), set(w))
            self.assertLessEqual(set(observed), set(w["observed"]))
        for n in self.report["nodes"]:
            self.assertLessEqual(set("cluster name pool instance_type region capacity_type gpu gpus price states".split()), set(n))
            self.assertLessEqual({"usd_per_hour", "source", "as_of"}, set(n["price"]))
            self.assertEqual(set(n["states"]), {"free", "working", "idle", "stuck", "unhealthy", "unknown"})

    def test_what_is_listed_adds_up(self):
        micros = lambda values: sum(round(v * 1e6) for v in values)
        totals = self.report["totals"]
        waste = self.counted("waste_usd_per_hour")
        self.assertGreater(len(waste), 10)
        self.assertEqual(micros(f["waste_usd_per_hour"] for f in waste), micros([totals["waste_usd_per_hour"]]))
        self.assertLessEqual(totals["waste_usd_per_hour"], totals["spend_usd_per_hour"])
        for f in waste:
            self.assertEqual(micros(c["usd_per_hour"] for c in f["claims"] if c["usd_per_hour"] is not None), micros([f["waste_usd_per_hour"]]), f["title"])
        for key in ("spend", "waste", "at_risk"):
            self.assertEqual(micros(g[f"{key}_usd_per_hour"] for g in self.report["groups"]["rows"]), micros([totals[f"{key}_usd_per_hour"]]), key)
        kinds = [("recoverable", "at-risk", "trend").index(f["kind"]) for f in self.report["findings"]]
        self.assertEqual(kinds, sorted(kinds))

    def test_two_runs_are_byte_identical(self):
        (self.folder / "again").mkdir()
        self.assertEqual(in_all_formats(self.folder / "again", "--demo", "--group-by", "namespace"), self.demo)

    def test_sarif_validates(self):
        import jsonschema
        schema = json.loads((ROOT / "fixtures/schemas/sarif-2.1.0.json").read_text())
        for text in (self.demo["sarif"], self.evil["sarif"]):
            document = json.loads(text)
            self.assertEqual([e.message[:300] for e in jsonschema.Draft7Validator(schema).iter_errors(document)], [])
            run = document["runs"][0]
            self.assertGreater(len(run["results"]), 10)
            rules = run["tool"]["driver"]["rules"]
            for result in run["results"]:
                self.assertEqual(rules[result["ruleIndex"]]["id"], result["ruleId"])
                # What GitHub's code scanning demands of a result.
                self.assertTrue(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
                self.assertTrue(result["partialFingerprints"])
        suppressed = [r for r in json.loads(self.demo["sarif"])["runs"][0]["results"] if "suppressions" in r]
        self.assertEqual(len(suppressed), sum(f["status"] == "suppressed" for f in self.report["findings"]))

    def test_junit_validates(self):
        from lxml import etree
        schema = etree.XMLSchema(etree.parse(str(ROOT / "fixtures/schemas/junit-10.xsd")))
        for text in (self.demo["junit"], self.evil["junit"]):
            tree = etree.fromstring(text.encode())
            schema.assertValid(tree)
        tree = etree.fromstring(self.demo["junit"].encode())
        self.assertEqual(int(tree.get("failures")), len(tree.findall(".//failure")))
        self.assertEqual(tree.findall(".//failure"), [], "without a gate nothing fails")
        # Only what the gate counts is red.
        done = gpuwaste("scan", "--demo", "-q", "--format", "junit", "--max-waste", "1", cwd=self.folder, ok=(1,))
        tree = etree.fromstring(done.stdout.encode())
        schema.assertValid(tree)
        counted = [f for f in self.report["findings"] if f["kind"] == "recoverable" and f["confidence"] == "measured" and f["status"] != "suppressed" and f["claims"]]
        self.assertEqual(len(tree.findall(".//failure")), len(counted) + 1, "and the gate itself")
        self.assertEqual(int(tree.get("failures")), len(counted) + 1)

    def test_annotations_are_one_command_a_line(self):
        line = re.compile(r"^::(notice|warning|error) (file=[^,:]+,line=\d+,)?title=[^:,]*::\S.*$")
        for text in (self.demo["github"], self.evil["github"]):
            for row in text.splitlines():
                self.assertRegex(row, line)
                self.assertNotRegex(row, r"[\x00-\x1f\x7f\u202e]")
        self.assertNotIn("::error", self.demo["github"])
        done = gpuwaste("scan", "--demo", "-q", "--format", "github", "--max-waste", "1", cwd=self.folder, ok=(1,))
        self.assertIn("::error title=gate max-waste::", done.stdout)

    def test_the_chargeback_sheet_adds_up(self):
        text = gpuwaste("scan", "--demo", "-q", "--format", "chargeback", "--group-by", "namespace", cwd=self.folder).stdout
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual(list(rows[0])[0], "namespace")
        for key in ("spend", "waste"):
            self.assertAlmostEqual(sum(float(r[f"{key}_usd_per_hour"] or 0) for r in rows), self.report["totals"][f"{key}_usd_per_hour"], places=4)
        self.assertIn("(unallocated)", [r["namespace"] for r in rows])
        self.assertTrue(gpuwaste("scan", "--demo", "-q", "--format", "chargeback", cwd=self.folder).stdout.startswith("owner,gpus,"))

    def test_figures_agree_wherever_they_stand(self):
        """Months, ranks and the words of savings: one source for each."""
        totals, month = self.report["totals"], lambda usd: f"{usd * 730:,.0f}"
        ranked = sorted((f for f in self.report["findings"] if f["status"] != "suppressed" and f["usd_per_hour"] is not None), key=lambda f: (f["kind"] == "trend", -f["usd_per_hour"]))
        table = gpuwaste("scan", "-q", "--demo", "--top", str(len(ranked)), cwd=self.folder).stdout
        rows = [l.split() for l in table.splitlines() if re.match(r" *\d+ +[\d,]+  ", l)]
        self.assertEqual([r[1] for r in rows], [month(f["usd_per_hour"]) for f in ranked])
        markdown = [r.split(" | ") for r in self.demo["markdown"].splitlines() if re.match(r"\| \d+ \|", r)]
        self.assertEqual([(r[0].strip("| "), r[1]) for r in markdown[:len(ranked)]], [(str(i + 1), month(f["usd_per_hour"])) for i, f in enumerate(ranked)])
        headline = f"${month(totals['waste_now_usd_per_hour'])} a month stops if"
        for form in ("table", "html", "github"):
            self.assertIn(headline, self.demo[form], form)
        self.assertIn(headline.replace("$", "\\$"), self.demo["markdown"])
        part = [f for f in ranked if f["grade"] == "reusable" and f["waste_now_usd_per_hour"]]
        self.assertTrue(part)
        self.assertEqual(sum("part now" in r for r in self.demo["markdown"].splitlines() if r.startswith("| ")), len(part))
        self.assertEqual(table.count("part now"), len(part))
        # A CSV adds up without a filter that people forget: what is suppressed has no dollars in the sums' column.
        counted = [r for r in csv.DictReader(io.StringIO(self.demo["csv"])) if r["record"] == "finding" and r["waste_usd_per_hour"]]
        self.assertAlmostEqual(sum(float(r["waste_usd_per_hour"]) for r in counted), totals["waste_usd_per_hour"], places=4)
        quiet = next(f for f in ranked if f["check"] == "idle-schedule")
        hours = re.search(r"no request in (\d+) of 168", quiet["title"]).group(1)
        self.assertIn(f"{hours} of 168 hours of the week have no request", self.demo["html"])

    def test_csv_is_data_to_a_spreadsheet(self):
        for text in (self.demo["csv"], self.evil["csv"]):
            rows = list(csv.reader(io.StringIO(text)))
            self.assertEqual({len(r) for r in rows}, {len(rows[0])})
            for cell in (c for row in rows for c in row):
                self.assertFalse(re.match(r"\s*[=+\-@]", cell), cell)
                self.assertNotRegex(cell, r"[\x00-\x1f\x7f\u202e]")
        self.assertIn("'=cmd|", self.evil["csv"])
        rows = list(csv.DictReader(io.StringIO(self.demo["csv"])))
        waste = sum(float(r["waste_usd_per_hour"]) for r in rows if r["record"] == "finding" and r["waste_usd_per_hour"] and r["status"] != "suppressed")
        self.assertAlmostEqual(waste, self.report["totals"]["waste_usd_per_hour"], places=4)
        grouped = sum(float(r["waste_usd_per_hour"]) for r in rows if r["record"] == "group")
        self.assertAlmostEqual(grouped, self.report["totals"]["waste_usd_per_hour"], places=4)

    def test_markdown_renders_and_fits_a_comment(self):
        from markdown_it import MarkdownIt
        for text in (self.demo["markdown"], self.evil["markdown"]):
            self.assertLess(len(text), 65_536)
            # As GitHub reads it: tables, and HTML that the page itself wrote.
            html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
            self.assertIn("<table>", html)
            self.assertNotIn("<script", html)
            self.assertNotIn("<img", html)
            self.assertNotIn("javascript:", re.sub(r"<code>.*?</code>|&\w+;", "", html).replace("(javascript:", ""))
            self.assertEqual(set(re.findall(r"<(a)\b", html)), set())
            self.assertEqual(html.count("<details>"), html.count("</details>"))
            cells = collections.Counter(len(re.findall(r"<t[dh]", row)) for row in re.findall(r"<tr>.*?</tr>", html, re.S))
            self.assertIn(6, cells)
        self.assertNotRegex(self.evil["markdown"], r"@team")

    def test_prometheus_text_parses_and_adds_up(self):
        line = re.compile(r'^gpuwaste_\w+(\{(\w+="(?:[^"\\\n]|\\.)*",?)*\})? -?[0-9.e+-]+$')
        for text in (self.demo["prometheus"], self.evil["prometheus"]):
            for row in text.splitlines():
                self.assertTrue(row.startswith("# ") or line.match(row), row)
        waste = [float(r.rsplit(" ", 1)[1]) for r in self.demo["prometheus"].splitlines() if r.startswith("gpuwaste_waste_usd_per_hour{")]
        self.assertAlmostEqual(sum(waste), self.report["totals"]["waste_usd_per_hour"], places=4)

    def test_promtool_accepts_it(self):
        promtool = shutil.which("promtool")
        setting.need("promtool", None if promtool else "not installed (Debian: prometheus)")
        for text in (self.demo["prometheus"], self.evil["prometheus"]):
            done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
            # It lints units and names too; only what it cannot read is an error here.
            self.assertNotIn("error while", done.stderr.lower(), done.stderr)

    def test_the_table_fits_and_steers_no_terminal(self):
        import unicodedata
        width = lambda l: sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in l)
        for columns in (80, 120, 200):
            for args in (["--demo"], ["--snapshot", str(self.folder / "evil.json")]):
                out = gpuwaste("scan", "-q", *args, cwd=self.folder, env={"COLUMNS": str(columns)}).stdout
                long = [l for l in out.splitlines() if width(l) > columns]
                self.assertEqual(long, [], columns)
                self.assertNotRegex(out, r"[\x00-\x09\x0b-\x1f\x7f\u202e]")
        first = "\n".join(self.demo["table"].splitlines()[:20])
        for word in ("a month stops if", "can be reused", "Spend", "waste", "at risk", "now", "reusable", "measured", "→"):
            self.assertIn(word, first)
        for word in ("Coverage", "Not assessed", "Hints", "Growth", "Not read"):
            self.assertRegex(self.demo["table"], rf"(?m)^{word} ")
        self.assertIn("\x1b[", gpuwaste("scan", "-q", "--demo", "--color", "always", cwd=self.folder).stdout)
        self.assertNotIn("\x1b[", gpuwaste("scan", "-q", "--demo", cwd=self.folder).stdout)

    def test_on_a_terminal_what_was_not_read_is_said_once(self):
        """Table and stderr on one screen; piped, each has it."""
        def screen(*args):
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
            with subprocess.Popen([str(setting.BINARY), "scan", "--demo", *args], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=self.folder) as child:
                os.close(theirs)
                shown = b""
                try:
                    while piece := os.read(ours, 65536):
                        shown += piece
                except OSError:
                    pass
                child.wait(timeout=60)
            os.close(ours)
            return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")
        said = "is not served"
        plain = screen()
        self.assertRegex(plain, r"Not read +3 gaps: gpuwaste doctor")
        self.assertNotIn("gpuwaste: not read", plain)
        self.assertLessEqual(max(map(len, plain.splitlines())), 100)
        long = screen("-v")
        self.assertEqual(long.count(said), 1)
        self.assertNotIn("gpuwaste: not read", long)
        self.assertRegex(screen("--max-waste", "1"), r"\n\ngpuwaste: .*max-waste")
        # In a job's log each gap stands once, whatever goes where.
        piped = gpuwaste("scan", "--demo", cwd=self.folder)
        self.assertEqual((piped.stdout.count(said), piped.stderr.count(said)), (0, 1))
        piped = gpuwaste("scan", "--demo", "-v", cwd=self.folder)
        self.assertEqual((piped.stdout.count(said), piped.stderr.count(said)), (1, 0))
        # Another format on the screen says nothing of gaps: stderr has to.
        self.assertIn("gpuwaste: not read", screen("--format", "csv"))


class Policy(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="gpuwaste-policy-")
        self.addCleanup(self.dir.cleanup)
        self.folder = pathlib.Path(self.dir.name)

    def scan(self, *args, ok=(0,)):
        done = gpuwaste("scan", "--demo", "--format", "json", *args, cwd=self.folder, ok=ok)
        return done, json.loads(done.stdout)

    def write(self, text, name="gpuwaste.toml"):
        (self.folder / name).write_text(text)
        return name

    def test_gpuwaste_toml_of_the_folder_is_read(self):
        _, plain = self.scan()
        self.write("[thresholds.dark-capacity]\nfree_gpu_allowance = 100\n")
        _, report = self.scan()
        self.assertEqual(report["policy"]["file"], "gpuwaste.toml")
        self.assertLess(report["totals"]["waste_usd_per_hour"], plain["totals"]["waste_usd_per_hour"])

    def test_a_typo_names_file_line_and_key(self):
        self.write("[thresholds.dark-capacity]\n\nfree_gpu_alowance = 1\n", "p.toml")
        done = gpuwaste("scan", "--demo", "--policy", "p.toml", cwd=self.folder, ok=(2,))
        self.assertIn("p.toml, line 3: unknown key 'free_gpu_alowance': did you mean 'free_gpu_allowance'?", done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertIn("nowhere.toml", gpuwaste("scan", "--demo", "--policy", "nowhere.toml", cwd=self.folder, ok=(2,)).stderr)

    def test_the_printed_policy_round_trips(self):
        self.write("[gates]\nmax_waste = 1e6\n[[suppress]]\ncheck = \"all\"\nsubject = \"x/*\"\nreason = \"why \\\"not\\\"\"\nexpires = 2030-01-31\n")
        once = gpuwaste("scan", "--demo", "--print-policy", "--max-at-risk", "7", cwd=self.folder).stdout
        self.assertIn("max_at_risk = 7  # --max-at-risk", once)
        self.assertIn("max_waste = 1000000  # gpuwaste.toml", once)
        self.assertIn("stuck_restarts = 5  # built in", once)
        self.write(once)
        again = gpuwaste("scan", "--demo", "--print-policy", cwd=self.folder).stdout
        self.assertEqual(tomllib.loads(once), tomllib.loads(again))

    def test_suppressions_hide_their_findings_and_tell_when_they_are_stale(self):
        _, before = self.scan()
        victim = next(f for f in before["findings"] if f["status"] == "new" and f["subject"]["namespace"] and f["waste_usd_per_hour"])
        subject = f"{victim['subject']['namespace']}/{victim['subject']['name']}"
        check = victim["check"] + (f"/{victim['part']}" if victim["part"] else "")
        # The last day counts: the demo's own.
        today = datetime.date.fromisoformat(before["taken_at"][:10])
        self.write(f"""[[suppress]]
check = "{check}"
subject = "{subject}"
reason = "known, ticket 7"
expires = {today}

[[suppress]]
check = "{check}"
subject = "*"
reason = "old"
expires = {today - datetime.timedelta(days=1)}

[[suppress]]
check = "all"
subject = "nobody/*"
reason = "gone"
""")
        done, after = self.scan()
        now = next(f for f in after["findings"] if f["id"] == victim["id"])
        self.assertEqual((now["status"], now["status_reason"]), ("suppressed", "known, ticket 7"))
        self.assertAlmostEqual(before["totals"]["waste_usd_per_hour"] - after["totals"]["waste_usd_per_hour"], victim["waste_usd_per_hour"], places=5)
        self.assertEqual([s["state"] for s in after["policy"]["suppressions"]], ["used", "expired", "unused"])
        self.assertIn("gpuwaste.toml:7: the suppression of", done.stderr)
        self.assertIn("gpuwaste.toml:13: the suppression of all for 'nobody/*' matches nothing", done.stderr)
        # With its check left out nobody can say that a suppression is unused.
        _, skipped = self.scan("--check", "kv-pressure")
        self.assertNotIn("unused", [s["state"] for s in skipped["policy"]["suppressions"]])

    def test_prices_of_the_policy_are_the_users(self):
        self.write("[[price]]\ninstance_type = \"*\"\nusd_per_gpu_hour = 1.0\n")
        _, report = self.scan()
        self.assertEqual(report["totals"]["price_sources"]["user"], 1.0)
        self.assertAlmostEqual(report["totals"]["spend_usd_per_hour"], report["totals"]["gpus"], places=4)
        self.write("[[price]]\ninstance_type = \"*\"\nusd_per_gpu_hour = 2.0\n", "prices.toml")
        _, report = self.scan("--prices", "prices.toml")
        self.assertAlmostEqual(report["totals"]["spend_usd_per_hour"], 2 * report["totals"]["gpus"], places=4)

    def test_owners_are_named_and_grouped(self):
        self.write("[ownership]\nlabels = [\"app.kubernetes.io/part-of\", \"app\"]\n")
        _, report = self.scan("--group-by", "owner")
        owned = {f["owner"] for f in report["findings"]} - {None}
        self.assertTrue(owned)
        self.assertLessEqual(owned, {g["name"] for g in report["groups"]["rows"]} | owned)
        self.assertEqual(report["groups"]["by"], "owner")


class Baseline(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="gpuwaste-baseline-")
        self.addCleanup(self.dir.cleanup)
        self.folder = pathlib.Path(self.dir.name)
        done = gpuwaste("scan", "--demo", "-q", "--format", "json", "--write-baseline", "base.json", cwd=self.folder)
        self.report = json.loads(done.stdout)
        self.base = json.loads((self.folder / "base.json").read_text())

    def scan(self, *args, ok=(0,)):
        (self.folder / "edited.json").write_text(json.dumps(self.base))
        done = gpuwaste("scan", "--demo", "--format", "json", "--baseline", "edited.json", *args, cwd=self.folder, ok=ok)
        return done, json.loads(done.stdout)

    def dearest(self):
        return next(f for f in self.report["findings"] if f["status"] == "new" and f["confidence"] == "measured" and f["waste_usd_per_hour"])

    def test_a_baseline_of_today_leaves_nothing_new(self):
        _, report = self.scan("--max-new-waste", "0")
        self.assertEqual({f["status"] for f in report["findings"]}, {"baseline", "suppressed"})
        self.assertEqual(report["fixed"], [])
        self.assertEqual(report["totals"], self.report["totals"], "a baseline hides no money")

    def test_new_waste_fails_and_is_named(self):
        new = self.dearest()
        self.base["findings"] = [f for f in self.base["findings"] if f["id"] != new["id"]]
        done, report = self.scan("--max-new-waste", "0", ok=(1,))
        self.assertIn("gate max-new-waste", done.stderr)
        self.assertIn(new["title"], done.stderr)
        gate = next(g for g in report["gates"] if g["name"] == "max-new-waste")
        self.assertAlmostEqual(gate["actual"], new["waste_usd_per_hour"], places=5)

    def test_worse_than_the_tolerance_is_new(self):
        worse = self.dearest()
        entry = next(f for f in self.base["findings"] if f["id"] == worse["id"])
        entry["usd_per_hour"] = round(worse["usd_per_hour"] * 0.95, 6)
        self.scan("--max-new-waste", "0")
        entry["usd_per_hour"] = round(worse["usd_per_hour"] * 0.5, 6)
        done, report = self.scan("--max-new-waste", "0", ok=(1,))
        finding = next(f for f in report["findings"] if f["id"] == worse["id"])
        self.assertEqual(finding["status"], "new")
        self.assertIn("worse than its baseline", finding["status_reason"])

    def test_what_is_gone_is_listed_with_its_money(self):
        ghost = {**self.base["findings"][0], "id": "feedfacefeedface", "check": "dark-capacity", "part": "idle", "title": "ghost: no request in 9 d", "usd_per_hour": 12.5,
                 "subject": {"kind": "Deployment", "namespace": "gone", "name": "ghost"}}
        self.base["findings"].append(ghost)
        done, report = self.scan()
        self.assertEqual([(f["id"], f["usd_per_hour"], f["not_assessed"]) for f in report["fixed"]], [("feedfacefeedface", 12.5, None)])
        self.assertIn("gone since the baseline, vanished: 1 finding, $12.50/h", done.stderr)
        # Not run is not fixed.
        _, report = self.scan("--check", "kv-pressure")
        self.assertTrue(all(f["not_assessed"] for f in report["fixed"]))
        self.assertIn("feedfacefeedface", [f["id"] for f in report["fixed"]])

    def test_a_json_report_is_a_baseline_too(self):
        (self.folder / "report.json").write_text(json.dumps(self.report))
        gpuwaste("scan", "--demo", "-q", "--baseline", "report.json", "--max-new-waste", "0", cwd=self.folder)

    def test_ids_do_not_hang_on_pods_nodes_or_contexts(self):
        gpuwaste("collect", "--demo", "-q", "-o", "demo.json", cwd=self.folder)
        text = (self.folder / "demo.json").read_text()
        snapshot = json.loads(text)
        for cluster in snapshot["clusters"]:
            cluster["name"] = "laptop-" + cluster["name"]
        (self.folder / "other.json").write_text(json.dumps(snapshot))
        done = gpuwaste("scan", "--snapshot", "other.json", "-q", "--format", "json", cwd=self.folder)
        self.assertEqual({f["id"] for f in json.loads(done.stdout)["findings"]}, {f["id"] for f in self.report["findings"]})


class Gates(unittest.TestCase):
    def scan(self, *args, ok=(0,)):
        with tempfile.TemporaryDirectory() as folder:
            return gpuwaste("scan", "--demo", "--format", "json", *args, cwd=folder, ok=ok)

    def test_a_gate_that_passes_only_by_confidence_says_so(self):
        report = json.loads(self.scan().stdout)
        total = report["totals"]["waste_usd_per_hour"]
        done = self.scan("--max-waste", str(total - 1))
        self.assertRegex(done.stderr, r"gate max-waste counts \$[\d.]+/h only because \$[\d,.]+/h of findings less sure than 'measured'.*--gate-confidence")
        done = self.scan("--max-waste", str(total + 1))
        self.assertNotIn("gate max-waste", done.stderr)
        done = self.scan("--max-waste", str(total - 1), "--gate-confidence", "assumed", ok=(1,))
        self.assertRegex(done.stderr, r"gate max-waste: \$[\d.]+/h is over the limit of \$[\d.]+/h by \$1\.00/h")

    def test_too_little_coverage_is_3_and_a_breach_wins(self):
        self.scan("--min-coverage", "100", ok=(3,))
        self.scan("--min-coverage", "100", "--max-waste", "0", ok=(1,))
        self.scan("--max-waste", "-1", ok=(2,))
        self.scan("--max-waste-percent", "nan", ok=(2,))

    def test_quiet_still_tells_the_verdict(self):
        done = self.scan("-q", "--max-waste", "0", ok=(1,))
        self.assertIn("gate max-waste", done.stderr)
        self.assertNotIn("not read", done.stderr)


class Manifests(unittest.TestCase):
    """check's report in every format."""

    @classmethod
    def setUpClass(cls):
        setting.need("lxml and jsonschema", MISSING)
        cls.dir = tempfile.TemporaryDirectory(prefix="gpuwaste-manifests-")
        cls.addClassCleanup(cls.dir.cleanup)
        cls.folder = pathlib.Path(cls.dir.name)
        shutil.copytree(ROOT / "fixtures/manifests", cls.folder / "k8s")
        cls.text = cls.check("k8s")
        cls.report = json.loads(cls.text["json"])

    @classmethod
    def check(cls, what):
        gpuwaste("check", what, "-q", *[f"--format={f}=report.{f}" for f in FORMATS], cwd=cls.folder)
        return {f: (cls.folder / f"report.{f}").read_text() for f in FORMATS}

    def test_it_validates_and_points_at_file_and_line(self):
        import jsonschema
        from lxml import etree
        schema = json.loads(gpuwaste("schema", "report").stdout)
        self.assertEqual([e.message[:200] for e in jsonschema.Draft202012Validator(schema).iter_errors(self.report)], [])
        sarif = json.loads(self.text["sarif"])
        schema = json.loads((ROOT / "fixtures/schemas/sarif-2.1.0.json").read_text())
        self.assertEqual([e.message[:300] for e in jsonschema.Draft7Validator(schema).iter_errors(sarif)], [])
        results = sarif["runs"][0]["results"]
        self.assertGreater(len(results), 5)
        for result in results:
            place = result["locations"][0]["physicalLocation"]
            file = self.folder / place["artifactLocation"]["uri"]
            self.assertTrue(file.is_file(), file)
            self.assertLessEqual(place["region"]["startLine"], len(file.read_text().splitlines()))
        tree = etree.fromstring(self.text["junit"].encode())
        etree.XMLSchema(etree.parse(str(ROOT / "fixtures/schemas/junit-10.xsd"))).assertValid(tree)

    def test_every_format_tells_the_same(self):
        findings = self.report["findings"]
        rows = [r for r in csv.DictReader(io.StringIO(self.text["csv"])) if r["record"] == "finding"]
        self.assertEqual([r["id"] for r in rows], [f["id"] for f in findings])
        self.assertEqual(len(json.loads(self.text["sarif"])["runs"][0]["results"]), len(findings))
        for finding in findings[:5]:
            name = finding["subject"]["name"]
            for form in ("markdown", "html", "junit", "table"):
                self.assertIn(name, self.text[form], form)

    def test_markdown_of_5000_findings_fits_a_comment(self):
        one = """apiVersion: apps/v1
kind: Deployment
metadata: {{name: server-{i}}}
spec:
  selector: {{matchLabels: {{app: s}}}}
  template:
    metadata: {{labels: {{app: s}}}}
    spec:
      nodeSelector: {{nvidia.com/gpu.product: NVIDIA-L4}}
      containers: [{{name: s, image: "vllm/vllm-openai:latest", args: [--model=Qwen/Qwen3-4B], resources: {{requests: {{cpu: 6, memory: 24Gi}}, limits: {{nvidia.com/gpu: 1}}}}}}]
"""
        (self.folder / "many.yaml").write_text("---\n".join(one.format(i=i) for i in range(5000)))
        text = self.check("many.yaml")
        self.assertEqual(len(json.loads(text["json"])["findings"]), 5000)
        self.assertLess(len(text["markdown"]), 65_536)
        self.assertRegex(text["markdown"], r"and \d+ more|more finding")


class Recipes(unittest.TestCase):
    """The recipes of the docs run as they stand there."""

    def test_jq_recipes(self):
        setting.need("jq", None if shutil.which("jq") else "not installed (Debian: jq)")
        section = (ROOT / "docs/recipes.md").read_text()
        recipes = [l.strip() for block in re.findall(r"```sh\n(.*?)```", section, re.S) for l in block.splitlines() if "jq" in l]
        self.assertGreaterEqual(len(recipes), 5)
        with tempfile.TemporaryDirectory() as folder:
            gpuwaste("scan", "--demo", "-q", "--format", "json=report.json", cwd=folder)
            for recipe in recipes:
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", recipe], cwd=folder, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, f"{recipe}\n{done.stderr}")
                self.assertTrue(done.stdout.strip(), recipe)

    def test_the_cronjob_is_yaml_that_scans(self):
        text = gpuwaste("rbac", "--cronjob").stdout
        self.assertIn("kind: CronJob", text)
        args = re.search(r"args: (\[.*\])", text)
        self.assertTrue(args, text)
        self.assertEqual(json.loads(args.group(1))[0], "scan")


if __name__ == "__main__":
    unittest.main()
