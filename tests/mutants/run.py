#!/usr/bin/env python3
"""Which mutants of the judge do its quick tests notice? Prints each that lives on, and a table by file; CONTRIBUTING.md.

usage: python3 tests/mutants/run.py [--jobs N] [--work DIR] [--every N] [FILE…]

All mutants are in one build, of a copy, behind a switch (src/main.rs); each is switched on for a run of the tests that stand
beside the code and take seconds. Tests that search (guards) are left out. What does not compile is no mutant.
"""
import argparse, collections, concurrent.futures, json, os, pathlib, re, shutil, subprocess, sys, tempfile, threading, time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What the dollars hang on: globs, and the crate whose tests must notice.
FILES = {
    "gpuwaste-judge": ["crates/judge/src/report/ledger.rs", "crates/judge/src/verdict/*.rs", "crates/judge/src/analyze/dark_capacity/*.rs",
                       "crates/judge/src/analyze/sizing/*.rs", "crates/judge/src/fleet/state.rs"],
    "gpuwaste-fit": ["crates/fit/src/kv/*.rs"],
}
SWITCH = '''
/// Whether this mutant is switched on.
pub fn mutant(number: u32) -> bool {
    static ON: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var("MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(u32::MAX)) == number
}
'''


def chosen(only):
    for crate, globs in FILES.items():
        files = [f for g in globs for f in sorted(ROOT.glob(g)) if not f.stem.endswith("tests")]
        files = [f.relative_to(ROOT) for f in files]
        files = [f for f in files if not only or any(str(f).startswith(o) for o in only)]
        if files:
            yield crate, files


def copy(work):
    """The tracked files, as they are here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        to = work / name
        if (ROOT / name).is_file() and (not to.exists() or to.read_bytes() != (ROOT / name).read_bytes()):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to)
    lib = work / "crates/facts/src/lib.rs"
    lib.write_text((ROOT / "crates/facts/src/lib.rs").read_text() + SWITCH)


def build(work, tool, crate, files, env):
    """Test binary and mutants, by number."""
    skip, at = set(), work / "skip"
    for _ in range(12):
        for f in files:
            shutil.copyfile(ROOT / f, work / f)
        at.write_text("\n".join(map(str, sorted(skip))))
        told = subprocess.run([tool, "0", at, *map(str, files)], cwd=work, check=True, capture_output=True, text=True).stdout
        mutants = {int(n): rest for n, *rest in (line.split("\t") for line in told.splitlines())}
        done = subprocess.run(["cargo", "test", "--no-run", "--message-format", "json", "-p", crate, "--lib"], cwd=work, env=env, capture_output=True, text=True)
        bad = set()
        for line in filter(None, done.stdout.splitlines()):
            message = json.loads(line)
            if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
                binary = message["executable"]
            if message.get("reason") == "compiler-message" and message["message"]["level"] == "error":
                for span in message["message"]["spans"]:
                    # Whichever of the mutants around it: the innermost, as its own text is what cannot be.
                    lines = (work / span["file_name"]).read_text().splitlines()[span["line_start"] - 1:span["line_end"]]
                    bad |= set(map(int, re.findall(r"gpuwaste_facts::mutant\((\d+)\)", "\n".join(lines))))
        if done.returncode == 0:
            return pathlib.Path(binary), mutants
        if not bad - skip:
            sys.exit(done.stderr[-4000:])
        skip |= bad
    sys.exit(f"{crate}: still does not compile without {len(skip)} mutants")


def fails(binary, tests, number, cwd, limit, env):
    """Whether one of the tests fails, or none ends in time; the rest are not waited for."""
    run = subprocess.Popen([binary, *tests, "--skip", "guards", "--test-threads", "1"], cwd=cwd, env=env | {"MUTANT": str(number), "RUST_BACKTRACE": "0"},
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    timer = threading.Timer(limit, run.kill)
    timer.start()
    try:
        for line in run.stdout:
            if line.rstrip().endswith("FAILED"):
                run.kill()
                return True
        return run.wait() != 0
    finally:
        timer.cancel()
        run.wait()


def noticed(binary, file, number, cwd, limit, env):
    """By the tests beside it, else by any of its crate."""
    path = pathlib.Path(file)
    beside = path.stem if path.stem in ("state", "ledger") else path.parent.name
    return fails(binary, [beside], number, cwd, limit, env) or fails(binary, ["--skip", beside], number, cwd, limit, env)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    args.add_argument("--work", type=pathlib.Path, help="kept, so that the next run builds less")
    args.add_argument("--every", type=int, default=1, help="only one of so many mutants")
    args.add_argument("files", nargs="*", help="beginnings of paths; all by default")
    args = args.parse_args()
    work = (args.work or pathlib.Path(tempfile.mkdtemp())).resolve()
    work.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"CARGO_TARGET_DIR": str(work / "target"), "CARGO_INCREMENTAL": "0", "CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_TERM_COLOR": "never"}
    subprocess.run(["cargo", "build", "-q", "--manifest-path", HERE / "Cargo.toml", "--target-dir", work / "tool"], check=True)
    copy(work)
    table, lived = collections.Counter(), collections.Counter()
    for crate, files in chosen(args.files):
        binary, mutants = build(work, work / "tool/debug/mutants", crate, files, env)
        cwd = work / "crates" / crate.removeprefix("gpuwaste-")
        since = time.monotonic()
        if fails(binary, [], -1, cwd, 900, env):
            sys.exit(f"{crate}: its tests fail without a mutant")
        limit = 10 + 5 * (time.monotonic() - since)
        mutants = dict(list(mutants.items())[::args.every])
        print(f"{crate}: {len(mutants)} mutants, {time.monotonic() - since:.1f} s a run", flush=True)
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            for (file, line, was, now), seen in zip(mutants.values(), pool.map(lambda n: noticed(binary, mutants[n][0], n, cwd, limit, env), mutants)):
                table[file] += 1
                if not seen:
                    lived[file] += 1
                    print(f"lives  {file}:{line}  {was[:90]}  →  {now[:90]}", flush=True)
        for f in files:
            shutil.copyfile(ROOT / f, work / f)
    for file, all in sorted(table.items()):
        print(f"{lived[file]:4} of {all:4} live ({100 * lived[file] / all:3.0f} %)  {file}")
    print(f"{sum(lived.values()):4} of {sum(table.values()):4} live")


if __name__ == "__main__":
    main()
