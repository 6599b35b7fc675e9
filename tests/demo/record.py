#!/usr/bin/env python3
"""Records the demo fleet: three real API servers, seeded, with exporters and servers behind the real pod proxy, read by
`gpuwaste collect` with nothing but the rights of `gpuwaste rbac --with scrape`.

usage: record.py GPUWASTE OUTPUT.json.zst      (root, iproute2, openssl, kubectl, Go)
"""
import pathlib, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "testbed")]
import fleet, testbed, world

binary, output = sys.argv[1], sys.argv[2]
if not testbed.can_make_networks():
    sys.exit("recording the demo needs root and iproute2, for pods that answer")
with testbed.Testbed(fleet.CLUSTERS) as bed:
    made = world.World(int(time.time()))
    roles = subprocess.run([binary, "rbac", "--with", "scrape"], check=True, capture_output=True, text=True).stdout
    for cluster in fleet.CLUSTERS:
        bed.seed(cluster, made.objects[cluster])
        bed.apply(cluster, roles)
    bed.network(made.addresses, made.pages)
    config = bed.kubeconfig()
    command = [binary, "collect", "--kubeconfig", str(config), "--all-contexts", "-o", output]
    print(" ".join(command[1:2]), "of", len(made.addresses), "pods")
    done = subprocess.run(command)
    sys.exit(done.returncode)
