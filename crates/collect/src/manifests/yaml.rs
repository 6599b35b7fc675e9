//! Text to objects: YAML and JSON, several documents a file, with the line of every key. Hostile input ends in an error
//! with its line, in bounded time and memory.

use super::template;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use std::fmt;

/// No manifest is larger; an etcd object may have 1.5 MiB, a rendered chart a few dozen of them.
pub(super) const MAX_BYTES: u64 = 32 << 20;
/// Kubernetes objects nest some 20 levels deep; custom resources twice that.
const MAX_DEPTH: usize = 96;

/// One object and where it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    pub file: String,
    /// First line of the object.
    pub line: u64,
    pub value: Value,
    pub lines: Lines,
}

impl Document {
    /// Line of the path (`spec.template.spec.containers[0].image`), or of the nearest parent that has one.
    pub(crate) fn line_of(&self, path: &str) -> u64 {
        match self.nearest(path).0 {
            0 => self.line,
            line => u64::from(line),
        }
    }

    pub(crate) fn has_line(&self, path: &str) -> bool {
        matches!(self.nearest(path), (1.., ""))
    }

    /// The path, or as much of it as there is.
    pub(crate) fn existing(&self, path: &str) -> String {
        let (mut value, mut lines, mut rest) = (&self.value, &self.lines, path);
        while let Some((next, below, left)) = lines.step(value, rest) {
            (value, lines, rest) = (next, below, left);
        }
        let known = path.len() - rest.len();
        path[..known].trim_end_matches('.').to_string()
    }

    /// The last line that is known on the way down, and what of the path is left there.
    fn nearest<'p>(&self, path: &'p str) -> (u32, &'p str) {
        let (mut value, mut lines, mut rest) = (&self.value, &self.lines, path);
        let mut found = (lines.line, path);
        while let Some((next, below, left)) = lines.step(value, rest) {
            (value, lines, rest) = (next, below, left);
            if lines.line > 0 {
                found = (lines.line, rest);
            }
        }
        found
    }

    /// The items of a list, each as a document of its own.
    pub(super) fn into_items(mut self, key: &str) -> Vec<Self> {
        let Some(Value::Array(items)) = self.value.get_mut(key).map(Value::take) else {
            return Vec::new();
        };
        let at = self.value.as_object().and_then(|m| m.keys().position(|k| k == key));
        let lines = at.and_then(|at| self.lines.below.get_mut(at)).map(std::mem::take);
        let mut lines = lines.unwrap_or_default().below.into_iter();
        // The items of a typed list ("PodList", as the API itself answers) do not repeat what they are.
        let kind = self.value["kind"].as_str().and_then(|k| k.strip_suffix("List"));
        let kind = kind.filter(|k| !k.is_empty()).map(String::from);
        let version = self.value["apiVersion"].clone();
        let items = items.into_iter().map(|mut value| {
            if let (Some(kind), Some(map)) = (&kind, value.as_object_mut())
                && !map.contains_key("kind")
            {
                map.insert("kind".into(), Value::String(kind.clone()));
                map.entry("apiVersion").or_insert_with(|| version.clone());
            }
            let lines = lines.next().unwrap_or_default();
            Self {
                file: self.file.clone(),
                line: if lines.line > 0 { lines.line.into() } else { self.line },
                value,
                lines,
            }
        });
        items.collect()
    }
}

/// The lines of a value and, in the order of its keys or items, of what is in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// 0: not known.
    line: u32,
    below: Box<[Lines]>,
}

impl Lines {
    /// One key or index down. Keys may have dots of their own: the longest that fits is meant.
    fn step<'a, 'p>(&'a self, value: &'a Value, path: &'p str) -> Option<(&'a Value, &'a Self, &'p str)> {
        match value {
            Value::Array(items) => {
                let (index, left) = path.strip_prefix('[')?.split_once(']')?;
                let index = index.parse::<usize>().ok()?;
                Some((items.get(index)?, self.below.get(index)?, left))
            }
            Value::Object(map) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                map.iter()
                    .zip(&self.below)
                    .filter_map(|((key, value), lines)| {
                        let left = path.strip_prefix(key.as_str())?;
                        (left.is_empty() || left.starts_with(['.', '['])).then_some((value, lines, left))
                    })
                    .min_by_key(|(_, _, left)| left.len())
            }
            _ => None,
        }
    }
}

/// Why a file is not read, with the line where known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) line: Option<u64>,
    pub(super) reason: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// What a text holds.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) documents: Vec<Document>,
    /// Documents that are not read, beside the others.
    pub(super) broken: Vec<Unread>,
    /// Lines of keys that stand twice in one mapping: the last one counts, as for kubectl and helm.
    pub(super) twice: Vec<u64>,
}

impl Parsed {
    fn add(&mut self, file: &str, nodes: Vec<Node>, lines_before: u64) {
        for node in nodes {
            let document = document(file, node, lines_before, &mut self.twice);
            self.documents.push(document);
        }
    }
}

/// All documents of a text. One that cannot be read loses only itself.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Parsed, Unread> {
    let text = std::str::from_utf8(bytes).map_err(|e| Unread {
        line: Some(memchr::memchr_iter(b'\n', &bytes[..e.valid_up_to()]).count() as u64 + 1),
        reason: if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            "it is UTF-16: save it as UTF-8".into()
        } else {
            "it is not UTF-8".into()
        },
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parsed = Parsed::default();
    if template::helm(text).is_none()
        && let Ok(nodes) = nodes(text)
    {
        parsed.add(file, nodes, 0);
        return Ok(parsed);
    }
    // JSON allows tabs where YAML does not.
    if let Some(documents) = json(file, text) {
        parsed.documents = documents;
        return Ok(parsed);
    }
    for (lines_before, part) in template::documents(text) {
        if let Some(line) = template::helm(part) {
            parsed.broken.push(Unread {
                line: Some(lines_before + line),
                reason: "it is a Helm template that is not rendered: 'helm template RELEASE CHART | gpuwaste check -' renders and checks it".into(),
            });
            continue;
        }
        match nodes(part) {
            Ok(nodes) => parsed.add(file, nodes, lines_before),
            Err(error) => {
                // Placeholders that are no YAML: what stands around them is read.
                let filled = template::without_placeholders(part);
                match filled.as_deref().map(nodes) {
                    Some(Ok(nodes)) => parsed.add(file, nodes, lines_before),
                    _ => parsed.broken.push(Unread {
                        line: error.line.map(|line| lines_before + line),
                        ..error
                    }),
                }
            }
        }
    }
    Ok(parsed)
}

fn nodes(text: &str) -> Result<Vec<Node>, Unread> {
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_documents: 100_000,
        max_nodes: 4_000_000,
        max_events: 12_000_000,
        max_recorded_anchor_events: 200_000,
    };
    let aliases = serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 };
    let options = serde_saphyr::options! {
        budget: budget,
        alias_limits: aliases,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
    };
    serde_saphyr::from_multiple_with_options::<Node>(text, options).map_err(|error| Unread {
        line: error.location().map(|l| l.line()).filter(|l| *l > 0),
        reason: first_line(&error.to_string()),
    })
}

/// The parser's message in our words: without the place, which is told beside it, and without words of the text.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = match line.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => line,
    };
    if ["budget", "recursion limit", "alias replay", "alias expansion"]
        .iter()
        .any(|w| line.contains(w))
    {
        return format!(
            "its depth, size or anchors are beyond what any manifest has ({})",
            line.split('{').next().unwrap_or(line).trim()
        );
    }
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn json(file: &str, text: &str) -> Option<Vec<Document>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    let of = |value| Document {
        file: file.into(),
        line: 1,
        value,
        lines: Lines::default(),
    };
    Some(values.ok()?.into_iter().map(of).collect())
}

fn document(file: &str, node: Node, lines_before: u64, twice: &mut Vec<u64>) -> Document {
    let line = node.line.max(1) + lines_before;
    let (value, lines) = plain(node, lines_before, twice);
    Document {
        file: file.into(),
        line,
        value,
        lines: Lines { line: 0, ..lines },
    }
}

fn plain(node: Node, lines_before: u64, twice: &mut Vec<u64>) -> (Value, Lines) {
    let (value, below) = match node.value {
        Tree::Leaf(value) => (value, Vec::new()),
        Tree::List(items) => {
            let items = items.into_iter().map(|item| plain(item, lines_before, twice));
            let (values, lines) = items.unzip();
            (Value::Array(values), lines)
        }
        Tree::Map(mut entries) => {
            // As the map will have them, so that lines need no keys of their own; of one key the last.
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let mut map = Map::new();
            let mut below: Vec<Lines> = Vec::with_capacity(entries.len());
            for (key, item) in entries {
                let line = item.line + lines_before;
                let (value, lines) = plain(item, lines_before, twice);
                if map.insert(key, value).is_some() {
                    twice.push(line);
                    below.pop();
                }
                below.push(lines);
            }
            (Value::Object(map), below)
        }
    };
    let line = match node.line {
        0 => 0,
        line => u32::try_from(line + lines_before).unwrap_or(0),
    };
    let below = below.into_boxed_slice();
    (value, Lines { line, below })
}

/// A value with its line.
struct Node {
    line: u64,
    value: Tree,
}

enum Tree {
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(d)?;
        Ok(Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Number::from_f64(v).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::String(v.into())))
    }

    fn visit_string<E>(self, v: String) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::String(v)))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Tree, D::Error> {
        Tree::deserialize(d)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Node>()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let mut value: Node = map.next_value()?;
            if key.referenced.line() > 0 {
                value.line = key.referenced.line();
            }
            entries.push((key.value, value));
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_lines() {
        let docs = read("kind: A\n---\n# c\nkind: B\nspec:\n  x:\n    - y: 1\n    - y: \"2\"\n");
        assert_eq!(docs.len(), 2);
        assert_eq!(docs[1].line_of("spec.x[1].y"), 8);
        assert_eq!(docs[1].line_of("spec.x[1].unheard.of"), 8);
        assert_eq!(docs[1].value["spec"]["x"][1]["y"], "2");
        // Keys with dots, keys that begin alike, and what has no line of its own.
        let text = "spec:\n  b.c/d: 1\n  b:\n    c: 2\n  bc: 3\nkind: List\nitems:\n- kind: A\n  z: 1\n- kind: B\n  a:\n  - 1\n  - 2\n";
        let list = read(text).remove(0);
        let lines = |paths: &[&str]| paths.iter().map(|p| list.line_of(p)).collect::<Vec<_>>();
        assert_eq!(
            lines(&["spec.b.c/d", "spec.b.c", "spec.bc", "spec.bcd", "nothing"]),
            [2, 4, 5, 1, 1]
        );
        assert!(list.has_line("items[1].a[1]") && !list.has_line("items[1].a[2]") && !list.has_line("spec.b.x"));
        let items = list.into_items("items");
        assert_eq!(
            (items[1].line, items[1].line_of("a[1]"), items[0].line_of("z")),
            (10, 13, 9)
        );
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let docs = read("a: &x {m: 1}\nb:\n  <<: *x\n  n: 2\n");
        assert_eq!(docs[0].value["b"]["m"], 1);
        // What stands there itself wins, wherever it stands.
        for text in [
            "a: &x {m: 1}\nb:\n  m: 2\n  <<: *x\n",
            "a: &x {m: 1}\nb:\n  <<: *x\n  m: 2\n",
        ] {
            let parsed = parse("f", text.as_bytes()).unwrap();
            assert_eq!(parsed.documents[0].value["b"]["m"], 2, "{text}");
            assert!(parsed.twice.is_empty(), "{text}");
        }
    }

    #[test]
    fn hostile_text_is_refused_with_its_line() {
        let refused = |text: &[u8]| match parse("f", text) {
            Err(unread) => unread,
            Ok(mut parsed) => {
                assert!(parsed.documents.is_empty(), "{parsed:?}");
                parsed.broken.remove(0)
            }
        };
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_string();
        for i in 1..12 {
            let last = i - 1;
            bomb += &format!(
                "a{i}: &a{i} [*a{last},*a{last},*a{last},*a{last},*a{last},*a{last},*a{last},*a{last},*a{last}]\n"
            );
        }
        // Unbounded, each of these would run out of memory or stack.
        refused(bomb.as_bytes());
        refused("[".repeat(50_000).as_bytes());
        refused("{a: ".repeat(50_000).as_bytes());
        assert_eq!(refused(b"a:\n\tb: 1\n").line, Some(2), "tab");
        assert_eq!(refused(b"a: 1\nb: \xff\n").line, Some(2), "not UTF-8");
        let helm = refused(b"kind: Deployment\nmetadata:\n  name: {{ .Values.name }}\n");
        assert!(
            helm.line == Some(3) && helm.reason.contains("helm template"),
            "{helm:?}"
        );
        assert_eq!(read("\u{feff}kind: A\r\nspec: 1\r\n")[0].value["spec"], 1);
        assert_eq!(read("{\n\t\"kind\": \"A\"}\n")[0].value["kind"], "A");
    }

    #[test]
    fn one_broken_document_loses_only_itself() {
        let text =
            "kind: A\n---\nkind: B\nspec: [\n---\nkind: C\nspec:\n  x: 1\n--- # last\nkind: D\nname: {{ .Values.x }}\n";
        let parsed = parse("f", text.as_bytes()).unwrap();
        let kinds: Vec<&str> = parsed
            .documents
            .iter()
            .filter_map(|d| d.value["kind"].as_str())
            .collect();
        assert_eq!(kinds, ["A", "C"]);
        assert_eq!(parsed.documents[1].line_of("spec.x"), 8, "lines are the file's");
        let lines: Vec<Option<u64>> = parsed.broken.iter().map(|b| b.line).collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].is_some_and(|l| (3..=5).contains(&l)) && lines[1] == Some(11),
            "{lines:?}"
        );
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_counts() {
        let parsed = parse("f", b"a: 1\nb:\n  c: 2\n  d: 0\n  c: 3\na: 4\n").unwrap();
        assert_eq!(
            parsed.documents[0].value,
            serde_json::json!({"a": 4, "b": {"c": 3, "d": 0}})
        );
        assert_eq!(parsed.documents[0].line_of("b.c"), 5);
        let mut twice = parsed.twice;
        twice.sort_unstable();
        assert_eq!(twice, [5, 6]);
    }

    #[test]
    fn placeholders_that_are_no_yaml_are_read_around() {
        for (text, value) in [
            ("replicas: {{ replicas }}\nx: 1\n", "$(replicas)"),
            ("replicas: @REPLICAS@\nx: 1\n", "$(REPLICAS)"),
            ("replicas: %REPLICAS%\nx: 1\n", "$(REPLICAS)"),
            ("{replicas: ${REPLICAS}, x: 1}\n", "$(REPLICAS)"),
            ("replicas: ${REPLICAS}\nx: 1\n", "${REPLICAS}"),
            ("replicas: <n>\nx: 1\n", "<n>"),
        ] {
            let docs = read(text);
            assert_eq!(docs[0].value["replicas"], value, "{text}");
            assert_eq!(docs[0].value["x"], 1, "{text}");
        }
    }

    fn read(text: &str) -> Vec<Document> {
        let parsed = parse("f.yaml", text.as_bytes()).unwrap();
        assert!(parsed.broken.is_empty(), "{:?}", parsed.broken);
        parsed.documents
    }
}
