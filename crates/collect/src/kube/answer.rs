//! What an API server's answer has to be before anything of it is believed: of the code, kind and version that were asked
//! for, with what the API always has. Everything else is a read that failed, never an empty list.

use super::clock::Look;
use super::path::{ApiPath, Resource, is_name, is_version};
use super::raw::RawMeta;
use crate::held;
use crate::snapshot::Gap;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Why a read gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The server answered with an error; message is its own short reason, never a body of unknown content.
    Status {
        code: u16,
        message: String,
        /// In Kubernetes' words (a Status object), and so by the API server itself; otherwise by whatever stands there.
        own: bool,
    },
    /// The API server's own word that it has no such object.
    NoSuchObject,
    /// The API server's own word that it serves no such group or resource.
    NotServed(String),
    TimedOut(Duration),
    /// No connection, TLS refused, credentials could not be made.
    Connect {
        reason: String,
        remedy: String,
    },
    /// The answer could not be understood, or is not what was asked for.
    Body(String),
    /// More than gpuwaste reads of anything.
    TooMuch(String),
    /// More than this process may hold; there are clusters that have as much.
    TooLarge(String),
    /// Not sent: it is not in the run's plan, which `--dry-run` prints.
    Unplanned(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code: 401, .. } => write!(
                f,
                "401 Unauthorized: the credentials are not accepted (expired?); {}",
                self.remedy("")
            ),
            Self::Status { code: 403, message, .. } => {
                write!(f, "403 Forbidden: {message}; {}", self.remedy("nodes and pods"))
            }
            Self::Status { code, message, .. } if message.is_empty() => write!(f, "the server answered {code}"),
            Self::Status { code, message, .. } => write!(f, "the server answered {code}: {message}"),
            Self::NoSuchObject => f.write_str("there is no such object"),
            Self::NotServed(path) => write!(f, "{path} is not served"),
            Self::TimedOut(limit) => write!(f, "no answer within {} s; {}", limit.as_secs(), self.remedy("")),
            Self::Connect { reason, remedy } => write!(f, "{reason}; {remedy}"),
            Self::Body(reason) => write!(f, "the answer could not be read: {reason}"),
            Self::TooMuch(what) | Self::TooLarge(what) => f.write_str(what),
            Self::Unplanned(path) => write!(f, "{path} was not asked for: --dry-run does not list it"),
        }
    }
}

impl ReadError {
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Status { code: 403, .. })
    }

    /// By the API server: a 403 of something behind its proxy is that something's own.
    pub fn is_rbac(&self) -> bool {
        matches!(
            self,
            Self::Status {
                code: 403,
                own: true,
                ..
            }
        )
    }

    /// Every further read would fail in the same way.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Status { code: 401, .. } | Self::Connect { .. })
    }

    /// Nothing stands at this path, whoever says so.
    pub fn is_nowhere(&self) -> bool {
        matches!(
            self,
            Self::Status { code: 404, .. } | Self::NoSuchObject | Self::NotServed(_)
        )
    }

    fn reason(&self) -> String {
        match self {
            Self::Status { code: 403, .. } => "403 Forbidden".into(),
            Self::Status { code: 401, .. } => "401 Unauthorized".into(),
            Self::Connect { reason, .. } => reason.clone(),
            Self::TimedOut(limit) => format!("no answer within {} s", limit.as_secs()),
            other => other.to_string(),
        }
    }

    fn remedy(&self, what: &str) -> String {
        match self {
            Self::Status { code: 401, .. } => "log in again ('kubectl get nodes' must work)".into(),
            Self::Status { code: 403, .. } => {
                format!("'gpuwaste rbac | kubectl apply -f -' grants what a scan reads, {what} among it")
            }
            Self::NotServed(_) => "install it, or do without".into(),
            Self::TimedOut(_) => "raise --timeout, or check the network between you and the API server".into(),
            Self::Connect { remedy, .. } => remedy.clone(),
            Self::Unplanned(_) => "report it: gpuwaste asks for something that it does not list".into(),
            Self::TooLarge(_) => format!(
                "allow more memory where there is so much ({}=2048), or look at what the server sends",
                held::VARIABLE
            ),
            Self::TooMuch(_) => "look at what the server sends: no cluster has that much".into(),
            Self::Body(_) => {
                "try again; if it persists, look at what answers at the server's address (a proxy?) and at its health"
                    .into()
            }
            Self::Status { .. } | Self::NoSuchObject => {
                "try again; if it persists, look at the API server's own health".into()
            }
        }
    }

    /// This failure as a gap of the report.
    pub fn gap(&self, source: &str, what: &str, effect: &str) -> Gap {
        Gap {
            source: source.into(),
            what: what.into(),
            reason: self.reason(),
            effect: effect.into(),
            remedy: self.remedy(what),
        }
    }
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub code: u16,
    pub body: Vec<u8>,
    /// The body was longer than the limit.
    pub cut: bool,
    pub retry_after: Option<Duration>,
    /// By its content type.
    pub json: bool,
    /// At the clock of whoever answered, by its Date.
    pub look: Option<Look>,
}

/// A Status object, as far as an error needs it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    kind: Option<String>,
    reason: Option<String>,
    message: Option<String>,
}

impl Answer {
    pub(crate) fn error(&self, path: &ApiPath) -> ReadError {
        let status: Status = serde_json::from_slice(&self.body).unwrap_or_default();
        let own = status.kind.as_deref() == Some("Status");
        let message = status.message.as_deref().filter(|_| own);
        // What serves no such path says so in other words than what has no such object.
        let nowhere = message.is_some_and(|m| m.contains("could not find the requested resource"));
        if self.code == 404 && own && nowhere {
            return ReadError::NotServed(path.path().into());
        }
        if self.code == 404 && own && status.reason.as_deref() == Some("NotFound") {
            return ReadError::NoSuchObject;
        }
        let message = message.or(status.reason.as_deref().filter(|_| own)).unwrap_or_default();
        ReadError::Status {
            code: self.code,
            message: message.chars().filter(|c| !c.is_control()).take(200).collect(),
            own,
        }
    }

    /// The body of a 200; everything else is an error, 204 and 206 too.
    pub(crate) fn ok(self, path: &ApiPath) -> Result<Vec<u8>, ReadError> {
        match self.code {
            200 => Ok(self.body),
            201..=399 => Err(ReadError::Body(format!(
                "the server answered {} instead of 200",
                self.code
            ))),
            _ => Err(self.error(path)),
        }
    }
}

/// An object as it came, decoded.
pub(crate) trait ApiObject: DeserializeOwned {
    /// Its kind lives in namespaces.
    const NAMESPACED: bool = true;

    fn meta(&self) -> &RawMeta;

    /// What the API always gives such an object, and this one lacks: without it the object is unread.
    fn lacks(&self) -> Option<&'static str> {
        None
    }
}

/// An object that is not what the API serves: read as unread, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Odd {
    /// "ml/web-0", as far as it tells; made harmless.
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// The node it says to be on.
    pub(crate) node: Option<String>,
    pub(crate) why: String,
}

impl Odd {
    /// Of the little that can be read of it.
    fn of(item: &str, why: &str) -> Self {
        let told: serde_json::Value = serde_json::from_str(item).unwrap_or_default();
        let text = |v: &serde_json::Value| v.as_str().filter(|t| is_name(t)).map(String::from);
        let meta = &told["metadata"];
        let namespace = text(&meta["namespace"]);
        let name = text(&meta["name"]).unwrap_or_else(|| "one without a name".into());
        Self {
            name: namespace.as_ref().map_or(name.clone(), |ns| format!("{ns}/{name}")),
            namespace,
            node: text(&told["spec"]["nodeName"]),
            why: why.into(),
        }
    }
}

/// What a list must call itself, and where its objects must be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    kind: String,
    api_version: String,
    namespace: Option<String>,
}

impl Wanted {
    pub(crate) fn list_of(resource: &Resource<'_>, namespace: Option<&str>) -> Self {
        Self {
            kind: format!("{}List", resource.kind),
            api_version: resource.api_version(),
            namespace: namespace.map(String::from),
        }
    }
}

/// One page of a list.
pub(crate) struct Page<U> {
    pub(crate) items: Vec<U>,
    pub(crate) odd: Vec<Odd>,
    /// Objects on the page, kept or not.
    pub(crate) seen: usize,
    pub(crate) next: String,
}

/// Reads one page: of this resource, and in this namespace where one was asked for. Objects are decoded one by one, and
/// what `keep` does not keep is gone before the next: the page's size bounds what is held. An object that does not decode
/// is odd, and no other loses by it.
pub(crate) fn page<T: ApiObject, U>(
    body: &[u8],
    wanted: &Wanted,
    keep: &dyn Fn(T) -> Option<U>,
) -> Result<Page<U>, ReadError> {
    let mut page = Page {
        items: Vec::new(),
        odd: Vec::new(),
        seen: 0,
        next: String::new(),
    };
    let mut each = |item: &str| {
        page.seen += 1;
        // The page is left unread as a whole: what it has more is not kept in the meantime.
        if page.seen > MOST_OBJECTS {
            page.items.clear();
            return;
        }
        // A list's odd objects are named, not kept: past some they are the list's fault, and counted alone.
        match object::<T>(item, wanted.namespace.as_deref()) {
            Ok(object) => page.items.extend(keep(object)),
            Err(why) if page.odd.len() < MOST_ODD => page.odd.push(Odd::of(item, &why)),
            Err(_) => {}
        }
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let head = Envelope { each: &mut each }.deserialize(&mut reader).and_then(|head| {
        reader.end()?;
        Ok(head)
    });
    let head = head.map_err(|e| ReadError::Body(broken(&e, body.len())))?;
    check_kind(
        head.kind.as_deref(),
        head.api_version.as_deref(),
        &wanted.kind,
        &wanted.api_version,
    )?;
    if page.seen > MOST_OBJECTS {
        return Err(ReadError::TooMuch(format!(
            "a page of more than {MOST_OBJECTS} objects"
        )));
    }
    if !head.has_items {
        return Err(ReadError::Body(format!("a {} without items", wanted.kind)));
    }
    page.next = head.next;
    Ok(page)
}

/// Objects of one page: 500 are asked for. Servers that do not page give all of a list in one.
const MOST_OBJECTS: usize = 100_000;
/// Objects of one page that are named where they are odd.
const MOST_ODD: usize = 500;

fn object<T: ApiObject>(item: &str, namespace: Option<&str>) -> Result<T, String> {
    let object: T = serde_json::from_str(item).map_err(|e| without_excerpt(&e))?;
    let meta = object.meta();
    if !is_name(&meta.name) {
        return Err("its name is no Kubernetes name".into());
    }
    if T::NAMESPACED && !is_name(&meta.namespace) {
        return Err("its namespace is no Kubernetes name".into());
    }
    if namespace.is_some_and(|ns| ns != meta.namespace) {
        return Err("it is of another namespace than the one that was asked for".into());
    }
    match object.lacks() {
        Some(lack) => Err(format!("it has no {lack}")),
        None => Ok(object),
    }
}

/// One object, which must be the one that was asked for.
pub(crate) fn single<T: ApiObject>(
    body: &[u8],
    resource: &Resource<'_>,
    namespace: Option<&str>,
    name: &str,
) -> Result<T, ReadError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        kind: Option<String>,
        api_version: Option<String>,
    }
    let head: Head = decode(body)?;
    check_kind(
        head.kind.as_deref(),
        head.api_version.as_deref(),
        resource.kind,
        &resource.api_version(),
    )?;
    let object: T = decode(body)?;
    let meta = object.meta();
    if meta.name != name || namespace.is_some_and(|ns| ns != meta.namespace) {
        return Err(ReadError::Body("another object than the one that was asked for".into()));
    }
    Ok(object)
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(body).map_err(|e| ReadError::Body(broken(&e, body.len())))
}

fn broken(error: &serde_json::Error, length: usize) -> String {
    if length == 0 {
        "it is empty".into()
    } else if error.is_eof() {
        format!("cut off after {length} bytes")
    } else {
        without_excerpt(error)
    }
}

/// Where it went wrong, and what was expected; nothing of what stood there.
pub(crate) fn without_excerpt(error: &serde_json::Error) -> String {
    let what = if error.is_data() {
        "a value of the wrong type"
    } else {
        "no JSON"
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

fn check_kind(kind: Option<&str>, version: Option<&str>, want: &str, of: &str) -> Result<(), ReadError> {
    let shown = |t: Option<&str>| {
        let plain = |t: &str| t.chars().filter(|c| !c.is_control()).take(60).collect::<String>();
        t.map_or("nothing".into(), |t| format!("'{}'", plain(t)))
    };
    if kind == Some(want) && version == Some(of) {
        return Ok(());
    }
    Err(ReadError::Body(format!(
        "asked for a {want} of {of}, got kind {} of {}",
        shown(kind),
        shown(version)
    )))
}

/// The parts of a list around its items.
#[derive(Default)]
struct Head {
    kind: Option<String>,
    api_version: Option<String>,
    next: String,
    has_items: bool,
}

struct Envelope<'f> {
    each: &'f mut dyn FnMut(&str),
}

impl<'de> DeserializeSeed<'de> for Envelope<'_> {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Head, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        #[derive(Default, Deserialize)]
        struct Meta {
            #[serde(default, rename = "continue")]
            next: Option<String>,
        }
        let mut head = Head::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => head.kind = map.next_value()?,
                "apiVersion" => head.api_version = map.next_value()?,
                "metadata" => {
                    let meta: Option<Meta> = map.next_value()?;
                    head.next = meta.and_then(|m| m.next).unwrap_or_default();
                }
                "items" if head.has_items => return Err(A::Error::custom("two lists of items")),
                "items" => head.has_items = map.next_value_seed(Items { each: &mut *self.each })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(head)
    }
}

struct Items<'f> {
    each: &'f mut dyn FnMut(&str),
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<bool, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    /// False for `null`, which is no list.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("items")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while let Some(item) = seq.next_element::<&RawValue>()? {
            (self.each)(item.get());
        }
        Ok(true)
    }
}

/// API groups that the server says to serve, each with its versions, the preferred one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served(BTreeMap<String, Vec<String>>);

/// Every API server has had it since 1.9: a list without it is not one.
const ALWAYS_SERVED: &str = "apps";

impl Served {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Told {
            kind: Option<String>,
            api_version: Option<String>,
            groups: Vec<Group>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Group {
            name: String,
            versions: Vec<Version>,
            #[serde(default)]
            preferred_version: Version,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Version {
            version: String,
        }
        let told: Told = decode(body)?;
        check_kind(told.kind.as_deref(), told.api_version.as_deref(), "APIGroupList", "v1")?;
        let served: BTreeMap<String, Vec<String>> = told
            .groups
            .into_iter()
            .map(|g| {
                let preferred = g.preferred_version.version;
                let others = g.versions.into_iter().map(|v| v.version).filter(|v| *v != preferred);
                let versions = std::iter::once(preferred.clone())
                    .chain(others)
                    .filter(|v| is_version(v));
                (g.name, versions.collect())
            })
            .collect();
        if !served.contains_key(ALWAYS_SERVED) {
            return Err(ReadError::Body(format!(
                "a list of API groups without '{ALWAYS_SERVED}'"
            )));
        }
        Ok(Self(served))
    }

    /// Empty: it serves none.
    pub(crate) fn versions(&self, group: &str) -> &[String] {
        self.0.get(group).map_or(&[], Vec::as_slice)
    }
}

/// Kubernetes' first commit is of June 2014: an earlier time is none.
const FIRST: i64 = 1_402_000_000;
/// Further in the future than any clock is wrong by accident.
const LAST: i64 = 4_102_444_800;

/// A time that an object can have; others (year 1, 1969, 9999) are unread.
pub(crate) fn plausible(at: Timestamp) -> Option<Timestamp> {
    (FIRST..LAST).contains(&at.as_second()).then_some(at)
}
