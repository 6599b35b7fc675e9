#!/usr/bin/env python3
"""Records the demo fleet: three real API servers, seeded, with exporters, servers and two Prometheis (14 days of history each)
behind the real proxy of pods and services, read by `gpuwaste collect` with nothing but the rights of `gpuwaste rbac`.

usage: record.py GPUWASTE OUTPUT.json.zst      (root, iproute2, openssl, prometheus, Go); waits for the next full hour
"""
import concurrent.futures, pathlib, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "testbed"), str(HERE.parent / "prometheus")]
import fleet, history, store, testbed, world

HOUR = 3600


def serve(bed, cluster, place, address):
    """A service, and the endpoints behind it, as the API server itself would have them."""
    pod = {"kind": "Pod", "namespace": place["namespace"], "name": f"{place['service']}-0"}
    meta = {"name": place["service"], "namespace": place["namespace"], "labels": place["labels"]}
    port = {"name": "http-web", "port": 9090, "protocol": "TCP"}
    core = f"/api/v1/namespaces/{place['namespace']}"
    objects = [(f"{core}/services", {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{**port, "targetPort": 9090}]}}),
               (f"{core}/endpoints", {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [{"addresses": [{"ip": address, "targetRef": pod}], "ports": [port]}]}),
               (f"/apis/discovery.k8s.io/v1/namespaces/{place['namespace']}/endpointslices",
                {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": f"{place['service']}-1", "namespace": place["namespace"], "labels": {"kubernetes.io/service-name": place["service"]}},
                 "addressType": "IPv4", "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "targetRef": pod}], "ports": [port]})]
    for path, body in objects:
        code, text = bed.request(cluster, "POST", path, body)
        if code != 201:
            sys.exit(f"{path}: {code} {text[:500]}")


def main():
    binary, output = sys.argv[1], sys.argv[2]
    if not testbed.can_make_networks() or not store.available():
        sys.exit("recording the demo needs root and iproute2, for pods that answer, and Debian's prometheus")
    # Made for the next full hour, and read then, so that hours of the week begin at full hours; --now: a draft.
    now = (int(time.time()) // HOUR + 1) * HOUR if "--now" not in sys.argv else int(time.time()) // 600 * 600
    made = world.World(now)
    with tempfile.TemporaryDirectory(prefix="gpuwaste-demo-") as folder, testbed.Testbed(fleet.CLUSTERS) as bed:
        folders = {cluster: pathlib.Path(folder) / cluster for cluster in fleet.STORES}
        with concurrent.futures.ProcessPoolExecutor() as pool:
            begun = time.time()
            parts = [pool.submit(store.backfill, history.History(made, cluster), folders[cluster]) for cluster in folders]
            print(f"{sum(p.result() for p in parts) / 1e6:.1f} M samples in {time.time() - begun:.0f} s", flush=True)
        bed.network(made.addresses, made.pages, base="10.238.0.1")
        roles = [binary, "rbac", "--with", "scrape"]
        for cluster in fleet.CLUSTERS:
            bed.seed(cluster, made.objects[cluster])
            place = fleet.STORES.get(cluster)
            more = ["--with", f"prometheus={place['namespace']}/{place['service']}:9090"] if place else []
            bed.apply(cluster, subprocess.run([*roles, *more], check=True, capture_output=True, text=True).stdout)
            if place:
                serve(bed, cluster, place, made.stores[cluster])
        stores = [store.Prometheus(folders[c], made.stores[c], bed.space) for c in folders]
        for each in stores:
            each.__enter__()
        try:
            while time.time() < now:
                time.sleep(0.2)
            command = [binary, "collect", "--kubeconfig", str(bed.kubeconfig()), "--all-contexts", "--timeout", "120s", "-o", output]
            print(command[1], "of", len(made.addresses), "pods", flush=True)
            done = subprocess.run(command)
        finally:
            for each in stores:
                each.__exit__()
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
