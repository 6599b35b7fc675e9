#!/usr/bin/env python3
"""Records what the targets `server` and `snapshot` start from: every answer that a scan of the fault matrix's fleet gets, and the snapshot it makes of them.

usage: GPUWASTE=target/debug/gpuwaste python3 fuzz/record.py
"""
import json, pathlib, subprocess, sys, time, urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/armour"))
import fake, test_matrix, world


def key(target):
    """A path, with what is asked of a store: its times are the clock's."""
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    return url.path + ("?" + query["query"] if "query" in query else "")


store = fake.Store(names=["gpu-1", "hot-5d9c-aaaaa"])
fleet = fake.World(test_matrix.fleet(), pages=test_matrix.pages(), store=store)
answers = {}
with fake.serve(fleet) as server, fake.config(server) as config:
    done = world.gpuwaste("collect", "--observe", "0", "-q", "-o", "-", config=config)
    assert done.returncode == 0, done.stderr
    for _, path, _ in server.asked:
        code, body, kind = fleet.answer(path)
        answers[key(path)] = [code, kind, body.decode()]
(HERE / "seeds/fleet.json").write_text(json.dumps(json.loads(done.stdout), separators=(",", ":")) + "\n")
at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
(HERE / "seeds/world.json").write_text(json.dumps({"at": at, "answers": dict(sorted(answers.items()))}, indent=0) + "\n")
print(f"{len(answers)} answers")
