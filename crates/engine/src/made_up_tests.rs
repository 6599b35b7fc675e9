//! A new engine is one file: whatever gpuwaste knows of an engine it takes from there, and each thing that the file leaves out
//! is missed by the check that is named after it.

use crate as engine;
#[path = "made_up.rs"]
mod made_up;

use crate::metrics::figures::{LOAD, Place};
use crate::metrics::vocabulary::{Series, Vocabulary, told};
use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::engine::ServerIdentity;
use crate::snapshot::server::Setting;
use crate::units::Tokens;
use crate::{ContainerSpec, Endpoints, Facts, LoadFigure, Registry, Routers, Tells, Versions, Width};
use jiff::Timestamp;
use made_up::{FACTS, KIND, MadeUp, VOCABULARY};

fn spec(image: &str, command: &[&str], env: &[(&str, &str)]) -> ContainerSpec {
    ContainerSpec {
        image: image.into(),
        command: command.iter().map(ToString::to_string).collect(),
        env: env.iter().map(|(k, v)| ((*k).into(), Some((*v).into()))).collect(),
        ..ContainerSpec::default()
    }
}

/// A page that tells every figure: 1 the first of [`LOAD`], 2 the second …
fn page() -> String {
    let mut text = String::from(
        "madeup:busy{model=\"org/m\"} 1\nmadeup:jobs{state=\"queued\"} 2\nmadeup:jobs{state=\"done\"} 99\nmadeup:cache_free_share 0.25\n\
         madeup:cache_tokens 4096\nprocess_start_time_seconds 1.7e9\n",
    );
    for (place, row) in LOAD.iter().enumerate().skip(3) {
        let name = VOCABULARY.series(row.figure)[0].name;
        match row.place {
            Place::Number(..) => text.push_str(&format!("madeup:{name} {}\n", place + 1)),
            Place::Histogram(..) => text.push_str(&format!(
                "madeup:{name}_sum {}\nmadeup:{name}_count 2\nmadeup:{name}_bucket{{le=\"1\"}} 1\n",
                place + 1
            )),
        }
    }
    text
}

type Check = (&'static str, fn(&Registry<'_>) -> bool);

fn told_on_the_page(all: &Registry<'_>, figure: LoadFigure) -> Option<f64> {
    let reading = all.page(page().as_bytes(), Timestamp::UNIX_EPOCH, None)?.reading;
    match figure.row().place {
        Place::Number(get, _) => get(&reading),
        Place::Histogram(get, _) => get(&reading).map(|h| h.sum),
    }
}

fn role(all: &Registry<'_>, image: &str, command: &[&str]) -> bool {
    all.role(&spec(image, command, &[])) == Some(ContainerRole::Routing)
}

const CHECKS: &[Check] = &[
    ("recognised", |all| {
        let at = |image: &str, command: &[&str]| all.recognise(&spec(image, command, &[]))?.tensor_parallel;
        let entry = ContainerSpec {
            args: vec!["--width".into(), "2".into()],
            ..spec("r/madeup:1", &[], &[])
        };
        at("any", &["madeup", "--width", "4"]) == Some(4)
            && all
                .recognise(&entry)
                .is_some_and(|s| s.tensor_parallel == Some(2) && s.engine == Some(KIND))
            && at("any", &["other"]).is_none()
    }),
    ("version", |all| {
        let version = |image: &str| all.recognise(&spec(image, &["madeup"], &[]))?.engine_version;
        version("r/madeup:v1.2.3").as_deref() == Some("1.2.3")
            && version("r.io/madeup:9.9").is_none()
            && version("r/base:1.1").is_none()
    }),
    ("router images", |all| role(all, "r/madeup-gate:1", &[])),
    ("router programs", |all| role(all, "any", &["madeup-gate"])),
    ("router modules", |all| {
        role(all, "any", &["python3", "-m", "madeup.gate"])
    }),
    ("serving modules", |all| {
        !role(all, "any", &["python3", "-m", "madeup.gate_and_servers"])
    }),
    ("several servers", |all| {
        let script = "madeup --port 1 & madeup --port 2 & wait";
        let settings = all.recognise(&spec("any", &["sh", "-c", script], &[]));
        settings.is_some_and(|s| s.data_parallel == Some(2))
    }),
    ("set by arguments", |all| {
        let own = all.recognise(&spec("acme.io/madeup-of-ours:1", &[], &[]));
        let open = ContainerSpec {
            open: vec!["a Secret".into()],
            ..spec("any", &["madeup", "--width", "1"], &[])
        };
        own.is_some_and(|s| s.unread(Setting::Model).is_some())
            && all.recognise(&open).is_some_and(|s| s.unread.is_empty())
    }),
    ("unread variables", |all| {
        let hidden = ContainerSpec {
            env: vec![("MADEUP_MODEL".into(), None), ("OTHER".into(), None)],
            ..spec("any", &["madeup"], &[])
        };
        let settings = all.recognise(&hidden);
        settings.is_some_and(|s| s.unread.len() == 1 && s.unread(Setting::Model).is_some())
    }),
    ("router commands", |all| role(all, "any", &["madeup", "relay"])),
    ("router scripts", |all| {
        role(all, "any", &["python3", "/opt/madeup_relay.py"])
    }),
    ("variables", |all| {
        let env = [("MADEUP_MODEL", "org/m"), ("MADEUP_OPT_SLOTS", "8"), ("OTHER", "x")];
        let settings = all.recognise(&spec("any", &["madeup"], &env));
        all.variable("MADEUP_MODEL") == Some(Setting::Model)
            && all.variable("MADEUP_OPT_SLOTS") == Some(Setting::Any)
            && all.variable("OTHER").is_none()
            && settings.is_some_and(|s| s.model.as_deref() == Some("org/m") && s.max_num_seqs == Some(8))
    }),
    ("width", |all| {
        all.of(KIND).is_some_and(|e| e.facts().width == Width::All)
    }),
    ("port", |all| {
        all.of(KIND).and_then(|e| e.facts().endpoints.port) == Some(4711)
    }),
    ("metrics path", |all| {
        all.of(KIND).and_then(|e| e.facts().endpoints.metrics) == Some("/figures")
    }),
    ("identity path", |all| {
        let mut identity = ServerIdentity::default();
        all.identify(KIND, "/who", br#"{"model":"org/m"}"#, &mut identity);
        identity.model_root.as_deref() == Some("org/m")
    }),
    ("page", |all| {
        let page = all.page(page().as_bytes(), Timestamp::UNIX_EPOCH, None);
        page.is_some_and(|p| {
            p.engine == KIND
                && p.process_started_at.is_some()
                && p.identity.served_names == ["org/m"]
                && p.identity.kv_capacity == Some(Tokens(4096))
                && p.reading.kv_usage == Some(0.75)
        })
    }),
    ("older names", |all| {
        let text = b"madeup:busy 0\nmadeup:done_old_total 7\n";
        let page = all.page(text, Timestamp::UNIX_EPOCH, None);
        page.is_some_and(|p| p.reading.requests == Some(7.0))
    }),
    ("rows by label", |all| {
        told_on_the_page(all, LoadFigure::Waiting) == Some(2.0)
    }),
    ("wanted names", |all| {
        let wanted = |name: &str| all.is_wanted(name);
        wanted("madeup_busy")
            && wanted("madeup_whole_seconds_bucket")
            && !wanted("other_busy")
            && !wanted("madeup_x_created")
    }),
    ("store", |all| {
        let pattern = all.store_pattern();
        let names: Vec<Vec<String>> = all
            .store_names(LoadFigure::Requests)
            .iter()
            .map(|group| group.iter().flat_map(|n| n.vocabulary.names(n.series.name)).collect())
            .collect();
        pattern == "madeup[:_].+" && names == [["madeup:done_total"], ["madeup:done_old_total"]]
    }),
    ("told by some versions", |all| {
        all.tells(KIND, LoadFigure::KvUsage) == Tells::Sometimes
            && all.tells(KIND, LoadFigure::Running) == Tells::Always
    }),
];

/// Of every check and every figure, those that fail.
fn missed(facts: &'static Facts) -> Vec<String> {
    let engine = MadeUp(facts);
    let engines: [&dyn engine::Engine; 1] = [&engine];
    let all = Registry::new(&engines, &[]);
    let failed = CHECKS
        .iter()
        .filter(|(_, holds)| !holds(&all))
        .map(|(name, _)| (*name).to_string());
    let figures = LOAD.iter().enumerate().filter(|(place, row)| {
        let known = told_on_the_page(&all, row.figure).is_some_and(|v| v.to_bits() == ((place + 1) as f64).to_bits());
        let asked = !all.store_names(row.figure).is_empty() && all.tells(KIND, row.figure) != Tells::Never;
        !asked || (!known && row.figure != LoadFigure::KvUsage)
    });
    failed
        .chain(figures.map(|(_, row)| format!("{:?}", row.figure)))
        .collect()
}

#[test]
fn a_whole_file_misses_nothing() {
    assert_eq!(missed(&FACTS), Vec::<String>::new());
}

/// A file that leaves something out, and the checks that say so.
macro_rules! without {
    ($($name:literal: $facts:expr;)*) => {{
        vec![$({
            static LESS: Facts = $facts;
            ($name, missed(&LESS))
        }),*]
    }};
}

const ROUTERS: Routers = FACTS.routers;
const ENDPOINTS: Endpoints = FACTS.endpoints;

#[test]
fn what_a_file_leaves_out_is_missed() {
    let results = without! {
        "version": Facts { versions: Versions::Tag, ..FACTS };
        "router images": Facts { routers: Routers { images: &[], ..ROUTERS }, ..FACTS };
        "router programs": Facts { routers: Routers { programs: &[], ..ROUTERS }, ..FACTS };
        "router modules": Facts { routers: Routers { modules: &[], ..ROUTERS }, ..FACTS };
        "serving modules": Facts { routers: Routers { serving_modules: &[], ..ROUTERS }, ..FACTS };
        "several servers": Facts { started_by_name: false, ..FACTS };
        "set by arguments": Facts { set_by_arguments: false, ..FACTS };
        "unread variables": Facts { variables: &[], ..FACTS };
        "router commands": Facts { routers: Routers { commands: &[], ..ROUTERS }, ..FACTS };
        "router scripts": Facts { routers: Routers { scripts: &[], ..ROUTERS }, ..FACTS };
        "variables": Facts { variables: &[], ..FACTS };
        "width": Facts { width: Width::Chosen, ..FACTS };
        "port": Facts { endpoints: Endpoints { port: None, ..ENDPOINTS }, ..FACTS };
        "metrics path": Facts { endpoints: Endpoints { metrics: None, ..ENDPOINTS }, ..FACTS };
        "identity path": Facts { endpoints: Endpoints { identity: &[], ..ENDPOINTS }, ..FACTS };
        "page": Facts { vocabulary: Vocabulary { markers: &[], ..VOCABULARY }, ..FACTS };
        "wanted names": Facts { vocabulary: Vocabulary { prefixes: &[], ..VOCABULARY }, ..FACTS };
        "store": Facts { vocabulary: Vocabulary { prefixes: &[""], label: None, ..VOCABULARY }, ..FACTS };
        "rows by label": Facts { vocabulary: Vocabulary { figures: &[told(LoadFigure::Waiting, &[Series::named("jobs")])], ..VOCABULARY }, ..FACTS };
    };
    for (left_out, missed) in results {
        assert!(
            missed.iter().any(|m| m == left_out),
            "{left_out}: only {missed:?} are missed"
        );
    }
}

/// Each figure, left out of the vocabulary alone.
#[test]
fn a_figure_that_a_file_leaves_out_is_missed() {
    for (place, row) in LOAD.iter().enumerate() {
        let figures = VOCABULARY.figures.iter().enumerate().filter(|(i, _)| *i != place);
        let figures: Vec<_> = figures.map(|(_, t)| told(t.figure, t.series)).collect();
        let vocabulary = Vocabulary {
            figures: Vec::leak(figures),
            ..VOCABULARY
        };
        let facts: &'static Facts = Box::leak(Box::new(Facts { vocabulary, ..FACTS }));
        let name = format!("{:?}", row.figure);
        assert!(
            missed(facts).contains(&name),
            "{name}: only {:?} are missed",
            missed(facts)
        );
    }
}
