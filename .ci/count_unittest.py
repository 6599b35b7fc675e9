"""Prints "passed failed skipped" of a unittest log; a log without a result has failed."""
import re, sys

text = open(sys.argv[1], errors="replace").read()
ran = sum(int(n) for n in re.findall(r"^Ran (\d+) tests? in", text, re.M))
results = re.findall(r"^(?:OK|FAILED)(?: \((.*)\))?$", text, re.M)
count = lambda word: sum(int(n) for r in results for n in re.findall(rf"\b{word}=(\d+)", r))
bad = count("failures") + count("errors") + count("unexpected successes")
left = count("skipped") + count("expected failures")
# A subtest that fails counts on its own, so there may be more failures than tests.
print(max(0, ran - bad - left), bad, left)
