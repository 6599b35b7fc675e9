#!/usr/bin/env python3
"""Snapshots cut from fleets of known truth, and what is true of each.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/situations/test_fleets.py
"""
import json, os, pathlib, subprocess, sys, tempfile, unittest

HERE = pathlib.Path(__file__).resolve().parent
BINARY = str(pathlib.Path(os.environ.get("GPUWASTE", "target/debug/gpuwaste")).resolve())


class Fleets(unittest.TestCase):
    def scan(self, name, change=None, *args):
        snapshot = json.loads((HERE / "fleets" / f"{name}.json").read_text())
        if change:
            change(snapshot)
        done = subprocess.run([BINARY, "scan", "--snapshot", "-", "--format", "json", *args], input=json.dumps(snapshot), capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (0, 1, 3), done.stderr)
        return json.loads(done.stdout)

    def only(self, report, check, part=None):
        found = [f for f in report["findings"] if f["check"] == check and f["part"] == part]
        self.assertEqual(len(found), 1, [(f["check"], f["part"], f["title"]) for f in report["findings"]])
        return found[0]

    @staticmethod
    def without_history(snapshot):
        for cluster in snapshot["clusters"]:
            cluster.pop("history", None)

    def test_an_instance_whose_rows_carry_no_power(self):
        """Half a card in a notebook that computed nothing for a week: idle, though nothing says since when its row is there."""
        report = self.scan("mig-idle-not-seen")
        idle = self.only(report, "dark-capacity", "idle")
        self.assertEqual((idle["confidence"], report["totals"]["gpus_idle"], report["totals"]["gpus_unknown"]), ("measured", 0.5, 0))
        # One of two rows of the pod, or a pod younger than the window: nobody knows whose they were.
        def young(s):
            s["clusters"][0]["pods"][0]["created_at"] = "2026-11-29T10:00:00Z"
        self.assertEqual(self.scan("mig-idle-not-seen", young)["totals"]["gpus_idle"], 0)
        self.assertEqual(self.scan("mig-idle-not-seen", self.without_history)["totals"]["gpus_idle"], 0)

    def test_a_cordoned_node_that_works(self):
        """Empty and Ready: it can be uncordoned or deleted today; nothing is to be repaired."""
        for change in (None, self.without_history):
            found = self.only(self.scan("cordoned-ready-node", change), "dark-capacity", "unhealthy")
            self.assertEqual((found["grade"], found["confidence"]), ("now", "measured"))
            self.assertIn("uncordon", found["fix"]["summary"])
            self.assertNotIn("epair", found["fix"]["summary"])

    def test_what_decided_is_what_is_said(self):
        """Judged by a week of its device: the window is a week, not the minutes of live samples."""
        found = self.only(self.scan("ollama-idle-0-min"), "dark-capacity", "idle")
        self.assertIn("7 d", found["title"])
        self.assertNotIn("0 min", json.dumps(found))

    def test_counters_beat_a_gauge_that_hangs(self):
        """Three running for a week, and not one request finished: idle."""
        found = self.only(self.scan("sglang-stale-gauge-hides-idle"), "dark-capacity", "idle")
        self.assertEqual(found["confidence"], "measured")

    def test_blind_is_not_contradicted(self):
        """No device metric exists: nothing draws power in the report. The exporter that is there could object: unknown."""
        report = self.scan("no-dcgm-said-to-draw-power")
        self.assertNotIn("power", json.dumps([c["not_assessed"] for c in report["checks"]]))
        self.assertEqual(report["totals"]["gpus_idle"], 0)
        # Without an exporter there is no second witness, and the counters of a week stand alone.
        def bare(s):
            s["clusters"][0]["pods"] = [p for p in s["clusters"][0]["pods"] if "dcgm" not in p["name"]]
            s["clusters"][0]["unread"] = [u for u in s["clusters"][0].get("unread", []) if u["what"] != "exporter"]
        self.assertEqual(self.scan("no-dcgm-said-to-draw-power", bare)["totals"]["gpus_idle"], 4)

    def test_an_outage_is_told_and_hides_no_idle_server(self):
        """Counters are the same on both sides of the hole, and nothing restarted."""
        report = self.scan("outage-half-window")
        self.assertEqual(self.only(report, "dark-capacity", "idle")["confidence"], "measured")
        self.assertTrue([g for g in report["gaps"] if "50 %" in g["reason"]], report["gaps"])

    def test_spend_is_known_without_pods(self):
        report = self.scan("pods-refused-spend-zero", None, "--max-waste", "1000")
        self.assertGreater(report["totals"]["spend_usd_per_hour"], 50)
        self.assertIsNone(report["totals"]["waste_usd_per_hour"])
        self.assertTrue(report["gates"][0]["undecided"], report["gates"])

    def test_evenly_loaded_replicas_and_less_data(self):
        """Six calm replicas, two would do: an idle replica's own load is no capacity. Fewer hours say no more."""
        week, day = (self.only(self.scan(n), "over-replicated") for n in ("over-replicated-balanced", "less-data-more-waste-26h"))
        self.assertGreater(week["usd_per_hour"], 4)
        self.assertLessEqual(day["usd_per_hour"], week["usd_per_hour"] + 1e-6)

    def test_a_queue_is_no_spare_capacity(self):
        """Six replicas in whose queues twenty requests wait: what they served is less than what they were asked."""
        def queue(length):
            def change(snapshot):
                waiting = snapshot["clusters"][0]["history"]["workloads"][0]["waiting"]
                waiting.update(mean=length / 4, p50=0.0, p95=length, p99=length, max=2.0 * length)
            return change
        for length, expected in ((20.0, 0), (0.5, 1)):
            report = self.scan("over-replicated-balanced", queue(length))
            self.assertEqual(len([f for f in report["findings"] if f["check"] in ("over-replicated", "oversized-tier")]), expected, length)
        # A queue that was not read may be there.
        report = self.scan("over-replicated-balanced", lambda s: s["clusters"][0]["history"]["workloads"][0].pop("waiting"))
        self.assertFalse([f for f in report["findings"] if f["check"] in ("over-replicated", "oversized-tier")])

    def test_work_that_no_slot_shows(self):
        """The store's device rows could be put on none of the server's GPUs; together they worked all week: not idle, whatever counters say."""
        def elsewhere(busy):
            def change(snapshot):
                history = snapshot["clusters"][0]["history"]
                history["gpus"] = []
                history["workloads"][0]["gpu_busy"] = {"mean": busy / 2, "p50": busy / 2, "p95": busy, "p99": busy, "max": busy, "bins": 1007.0}
            return change
        for busy, idle in ((0.6, 0), (0.0, 4)):
            self.assertEqual(self.scan("outage-half-window", elsewhere(busy))["totals"]["gpus_idle"], idle, busy)


if __name__ == "__main__":
    unittest.main(verbosity=1)
