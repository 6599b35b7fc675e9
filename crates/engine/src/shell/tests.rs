use super::*;
use crate::unread;
use proptest::prelude::*;

/// The commands of a script, with `?` for a part of a word that is not known and `*` for any number of words.
fn ran(script: &str, env: &[(&str, &str)]) -> Vec<String> {
    let done = done(script, env, &[]);
    assert!(done.whole, "{script}");
    shown(&done)
}

fn shown(done: &Done) -> Vec<String> {
    let word = |w: &String| -> String {
        w.chars()
            .map(
                |c| match (unread::has(&c.to_string()), unread::is_many(&c.to_string())) {
                    (true, true) => '*',
                    (true, false) => '?',
                    _ => c,
                },
            )
            .collect()
    };
    let of = |r: &Ran| r.words.iter().map(word).collect::<Vec<_>>().join(" ");
    done.ran.iter().map(of).collect()
}

fn done(script: &str, env: &[(&str, &str)], files: &[(&str, &str)]) -> Done {
    let mut own = Env::new(None, None, Vec::new());
    for (name, value) in env {
        own.set(name, (*value).into());
    }
    let files: Vec<(String, String)> = files.iter().map(|(p, t)| ((*p).into(), (*t).into())).collect();
    run(script, own, &files, &Places::default())
}

#[test]
fn variables_are_followed() {
    for (script, expected) in [
        ("TP=4; s $TP ${TP} \"$TP\" '$TP'", "s 4 4 4 $TP"),
        ("s ${TP:-8} ${A:-b} ${N:-x} ${N-x}", "s 8 set x"),
        ("s ${A:+--flag $A} ${Z:+--other}", "s --flag set"),
        ("s --tp=$TP$TP", "s --tp=**"),
        ("s \"$TP\" $TP", "s ? *"),
        ("X=$(nvidia-smi -L | wc -l); s --tp $X", "s --tp *"),
        ("X=\"$(nproc)\"; s --tp \"$X\"", "s --tp ?"),
        ("s $((2 * 4)) $((U * 2))", "s 8 *"),
        ("A+=\" more\"; s $A", "s set more"),
        (": ${TP:=2}; s $TP", "s 2"),
        (
            "M=org/name; s ${M##*/} ${M%/*} ${M//\\//_} ${#M} ${M^^}",
            "s name org org_name 8 ORG/NAME",
        ),
        ("export TP=2 X; s $TP", "s 2"),
        ("eval \"s $A\"", "s set"),
        ("s $(echo a b) \"$(echo a b)\" $(seq 2)", "s a b a b 1 2"),
        ("X=1 s $X", "s *"),
        ("s ~ \"\" a\"\"b", "s ~  ab"),
    ] {
        let env = [("A", "set"), ("N", "")];
        let mut expected = expected.to_string();
        if script.contains("${N-x}") {
            expected = "s 8 set x".into();
        }
        assert_eq!(ran(script, &env), [expected], "{script}");
    }
}

#[test]
fn arrays_are_followed_as_far_as_they_are_known() {
    for (script, expected) in [
        ("A=(--model o/m); A+=(-tp 4); s \"${A[@]}\"", "s --model o/m -tp 4"),
        ("A=(--model \"o m\"); s \"${A[@]}\"", "s --model o m"),
        ("A=(1 2); s ${A[1]} ${#A[@]} ${A[0]} $A", "s 2 2 1 1"),
        (
            "A=(--model o/m); while IFS= read -r l; do A+=($l); done < /cfg/args; s \"${A[@]}\"",
            "s --model o/m *",
        ),
        ("A=(); [ -n \"$TP\" ] && A+=(-tp $TP); s x \"${A[@]}\"", "s x *"),
        ("s x \"${NONE[@]}\"", "s x"),
        ("mapfile -t A < /f; s \"${A[@]}\"", "s *"),
        ("declare -a A=(1 2); s \"${A[@]:1}\"", "s 2"),
        ("A=($(cat /unknown)); s \"${A[@]}\"", "s *"),
    ] {
        assert_eq!(ran(script, &[]), [expected], "{script}");
    }
}

#[test]
fn branches_that_are_known_are_taken_and_others_leave_doubt() {
    let two = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
    for (script, expected) in [
        (
            "if [ \"$ROLE\" = prefill ]; then s p; else s d; fi",
            vec!["s p".to_string()],
        ),
        (
            "if [[ $ROLE == pre* && -n $ROLE ]]; then s p; else s d; fi",
            vec!["s p".into()],
        ),
        (
            "if [ \"$ROLE\" != prefill ]; then s p; elif true; then s e; else s d; fi",
            vec!["s e".into()],
        ),
        ("if [ -f /x ]; then s p; else s d; fi", two("s p", "s d")),
        (
            "case $ROLE in decode|d) s d;; pre*) s p;; *) s o;; esac",
            vec!["s p".into()],
        ),
        ("case $U in a) s a;; *) s o;; esac", two("s a", "s o")),
        ("TP=1; if [ -f /x ]; then TP=4; fi; s $TP", vec!["s *".into()]),
        ("if [ -f /x ]; then TP=4; else TP=4; fi; s $TP", vec!["s 4".into()]),
        (
            "if [ -z \"$ROLE\" ]; then exit 1; fi; s $ROLE",
            vec!["s prefill".into()],
        ),
        ("TP=2; if [ -f /x ]; then TP=9; exit 1; fi; s $TP", vec!["s 2".into()]),
        ("[ -f /x ] && TP=4; s $TP", vec!["s *".into()]),
        ("[ \"$ROLE\" = x ] && TP=4; TP=${TP:-1}; s $TP", vec!["s 1".into()]),
        (
            "false || s a; true && s b; true || s c; false && s d",
            two("s a", "s b"),
        ),
        ("if [ -f /x ]; then exec s a; fi; exec s b; s c", two("s a", "s b")),
        ("curl x || true; s a", vec!["s a".into()]),
    ] {
        assert_eq!(ran(script, &[("ROLE", "prefill")]), expected, "{script}");
    }
}

#[test]
fn loops_over_known_words_are_followed() {
    for (script, expected) in [
        ("for i in 0 1; do s $i & done; wait", vec!["s 0", "s 1"]),
        (
            "for i in $(seq 0 1); do s $((8000 + i)) & done",
            vec!["s 8000", "s 8001"],
        ),
        ("for i in {0..1}; do s $i; done", vec!["s 0", "s 1"]),
        ("for i in $LIST; do s $i & done", vec!["s *"]),
        ("for ((i=0;i<8;i++)); do s $i & done", vec!["s *"]),
        ("while true; do s a; done", vec!["s a"]),
        ("until nc -z h 1; do sleep 1; done; s a", vec!["nc -z h 1", "s a"]),
        ("f() { s \"$1\" ${2:-d}; }; f a; f b c", vec!["s a d", "s b c"]),
        ("function f { s $1; }\nf a", vec!["s a"]),
        ("(cd /x; s a) &\n{ s b; } > /log 2>&1", vec!["s a", "s b"]),
        ("s a | tee log", vec!["s a"]),
        ("X=1; (X=2; s $X); s $X", vec!["s 2", "s 1"]),
    ] {
        assert_eq!(ran(script, &[]), expected, "{script}");
    }
    let background = |script: &str| -> Vec<bool> { done(script, &[], &[]).ran.iter().map(|r| r.background).collect() };
    assert_eq!(background("s a &\ns b && s c &\nwait; s d"), [true, true, true, false]);
    assert_eq!(background("(s a) & s b"), [true, false]);
    let done = done("for i in $U; do s $i & done", &[], &[]);
    assert!(done.ran[0].repeated && done.ran[0].background);
}

#[test]
fn what_runs_side_by_side_is_told_from_branches() {
    let pairs = |script: &str| {
        let done = done(script, &[], &[]);
        done.ran[0].runs_beside(&done.ran[1])
    };
    assert!(pairs("s a & s b"));
    assert!(!pairs("s a; s b"));
    assert!(!pairs("if [ -f /x ]; then s a & else s b & fi; wait"));
    assert!(pairs("if [ -f /x ]; then s a & fi; s b"));
    assert!(!pairs("case $U in 1) s a & ;; 2) s b & ;; esac"));
}

#[test]
fn files_and_nested_shells_are_followed() {
    let files = [
        (
            "/s/start.sh",
            "#!/bin/bash\nsource /s/env.sh\nexec vllm serve $MODEL \"$@\"",
        ),
        ("/s/env.sh", "MODEL=o/m"),
        ("/s/args", "-tp 4"),
    ];
    for script in [
        "/s/start.sh -tp 4",
        "bash /s/start.sh -tp 4",
        "sh -c 'bash /s/start.sh -tp 4'",
        ". /s/env.sh; vllm serve $MODEL $(cat /s/args)",
        "bash <<'EOF'\n/s/start.sh -tp 4\nEOF",
        "cp /s/start.sh /tmp/x.sh && chmod +x /tmp/x.sh && /tmp/x.sh -tp 4",
        "source /opt/venv/bin/activate; M=o/m; vllm serve $M -tp 4",
    ] {
        assert_eq!(shown(&done(script, &[], &files)), ["vllm serve o/m -tp 4"], "{script}");
    }
    // A file that nobody read may set anything.
    let unknown = done("TP=4; . /unknown; s $TP; TP=2; s $TP ${X:-1}", &[], &[]);
    assert_eq!(shown(&unknown), ["s *", "s 2 *"]);
    let exported = done("export $(cat /unknown | xargs); s ${TP:-1}", &[], &[]);
    assert_eq!(shown(&exported), ["s *"]);
    // So may what is run without being known.
    assert!(!done("eval \"$SETUP\"; s ${TP:-1}", &[], &[]).whole);
}

#[test]
fn a_mention_is_no_start() {
    for script in [
        "echo vllm serve a",
        "printf 'vllm serve a'",
        "cat <<EOF\nvllm serve a\nEOF",
        "# vllm serve a",
        "pkill vllm",
    ] {
        assert_eq!(ran(script, &[]), Vec::<String>::new(), "{script}");
    }
}

#[test]
fn hostile_scripts_end() {
    let nested = |open: &str, close: &str, n: usize| format!("{}s{}", open.repeat(n), close.repeat(n));
    let mut grows = "A=x; ".to_string();
    grows.push_str(&"A=$A$A$A$A; ".repeat(2000));
    let mut loops = String::new();
    for i in 0..12 {
        loops.push_str(&format!("for a{i} in 1 2 3 4 5 6 7 8 9; do "));
    }
    loops.push('s');
    for script in [
        nested("if true; then ", "; fi", 500),
        nested("{ ", "; }", 5000),
        nested("(", ")", 20_000),
        nested("$(", ")", 20_000),
        nested("${X:-", "}", 10_000),
        "eval ".repeat(10_000),
        "f() { f; f; }; f".into(),
        "f() { f & f; }; for i in {1..60}; do f; done".into(),
        grows,
        loops,
        "A=(x); for i in {1..64}; do A+=(\"${A[@]}\"); done; s \"${A[@]}\"".into(),
        "x".repeat(1 << 20),
        "A=$(seq 1 9223372036854775807); s {-9223372036854775808..9223372036854775807}".into(),
    ] {
        let begun = std::time::Instant::now();
        let done = done(&script, &[], &[]);
        assert!(done.ran.len() < 10_000);
        assert!(begun.elapsed().as_secs() < 20, "{}", &script[..40.min(script.len())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn no_script_makes_it_panic(script in "([a-z$(){}\\[\\]'\"`;&|<>=+ \n\\\\]|if |then |fi|for |in |do |done|case |esac|\\$\\(|\\$\\{){0,60}") {
        let _ = done(&script, &[("a", "b")], &[]);
    }
}
