//! One API server: GET with time limits, backoff and size limits; lists in pages.

use super::answer::{self, Answer, ApiObject, Odd, Page, Served, Wanted};
use super::clock::{Clock, Look};
use super::path::{ApiPath, Name, Resource};
use super::plan::Plan;
use crate::held;
use crate::options::CollectOptions;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::client::Body;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

pub use super::answer::ReadError;

/// Objects in a page (what kubectl and the API server's own docs use).
const PAGE: usize = 500;
/// Tries of one request that the server or the network refused for the moment.
const TRIES: u32 = 4;
/// A server may ask for more patience than a scan has: then it is not asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Restarts of a list whose continue token expired (410) before it is given up.
const RESTARTS: u32 = 3;
/// No page of 500 objects is larger (256 KiB each on average; two pages are held at a time); more is a mistake or an attack.
const MAX_PAGE_BYTES: usize = 128 << 20;
/// One object: etcd takes 1.5 MiB, and JSON may write a byte as six.
const MAX_OBJECT_BYTES: usize = 9 << 20;
/// Pages in a row that hold nothing: servers page over what a selector leaves out, but not for ever.
const MAX_EMPTY: usize = 100;
/// Objects of one list. Kubernetes itself is tested to 150,000 pods; more is a list that never ends.
const MAX_OBJECTS: usize = 400_000;
/// Pages of one list: servers may send fewer objects than were asked for.
const MAX_PAGES: usize = 1_600;
/// One list, with all its pages and waits.
const LONGEST_LIST: Duration = Duration::from_secs(600);

/// A connection to one API server.
#[derive(Clone)]
pub struct Api {
    pub client: kube::Client,
    pub timeout: Duration,
    /// Wait before the second try; it doubles.
    pub first_wait: Duration,
    pub(crate) clock: Clock,
    /// What may be asked at all.
    pub(crate) plan: Arc<Plan>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A list to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    pub(crate) resource: Resource<'a>,
    /// `None`: of the whole cluster.
    pub(crate) namespace: Option<&'a Name>,
    /// `fieldSelector` or `labelSelector`, and what it selects.
    pub(crate) matching: Option<(&'static str, &'a str)>,
}

impl<'a> List<'a> {
    pub(crate) fn all(resource: Resource<'a>) -> Self {
        Self {
            resource,
            namespace: None,
            matching: None,
        }
    }

    pub(crate) fn within(resource: Resource<'a>, namespace: &'a Name) -> Self {
        Self {
            namespace: Some(namespace),
            ..Self::all(resource)
        }
    }

    pub(crate) fn matching(self, key: &'static str, selector: &'a str) -> Self {
        Self {
            matching: Some((key, selector)),
            ..self
        }
    }

    fn page(&self, token: &str) -> ApiPath {
        let path = match self.namespace {
            Some(namespace) => self.resource.within(namespace),
            None => self.resource.all(),
        };
        let path = match self.matching {
            Some((key, selector)) => path.with(key, selector),
            None => path,
        };
        let path = path.with("limit", &PAGE.to_string());
        if token.is_empty() {
            path
        } else {
            path.with("continue", token)
        }
    }
}

/// A list that was read to its end.
pub(crate) struct Listed<U> {
    pub(crate) items: Vec<U>,
    /// Objects that are not what the API serves.
    pub(crate) odd: Vec<Odd>,
    /// Objects in all, kept or not.
    pub(crate) seen: usize,
    /// Pages in a row, up to now, that held nothing.
    empty: usize,
}

impl<U> Listed<U> {
    pub(crate) fn new() -> Self {
        Self {
            items: Vec::new(),
            odd: Vec::new(),
            seen: 0,
            empty: 0,
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.items.extend(other.items);
        self.odd.extend(other.odd);
        self.seen += other.seen;
    }

    fn add(&mut self, page: Page<U>) {
        self.empty = if page.seen == 0 { self.empty + 1 } else { 0 };
        self.items.extend(page.items);
        self.odd.extend(page.odd);
        self.seen += page.seen;
    }
}

impl Api {
    pub fn new(client: kube::Client, options: &CollectOptions) -> Self {
        Self {
            client,
            timeout: options.timeout,
            first_wait: Duration::from_millis(400),
            clock: Clock::default(),
            plan: Arc::new(Plan::of(options)),
        }
    }

    /// One object by its name.
    pub(crate) async fn object<T: ApiObject>(
        &self,
        resource: &Resource<'_>,
        namespace: Option<&Name>,
        name: &Name,
    ) -> Result<T, ReadError> {
        let body = self.read(&resource.one(namespace, name), MAX_OBJECT_BYTES).await?;
        answer::single(&body, resource, namespace.map(Name::as_str), name.as_str())
    }

    /// Which API groups there are.
    pub(crate) async fn served(&self) -> Result<Served, ReadError> {
        Served::parse(&self.get(&ApiPath::fixed("/apis")).await?)
    }

    /// All objects of a list, as they are.
    pub(crate) async fn objects<T: ApiObject + Send + 'static>(&self, list: &List<'_>) -> Result<Listed<T>, ReadError> {
        self.list(list, |object: T| Some(object)).await
    }

    /// The same of a namespaced resource: of the whole cluster, or of `namespaces` where there are any.
    pub(crate) async fn objects_in<T: ApiObject + Send + 'static>(
        &self,
        resource: Resource<'_>,
        namespaces: &[Name],
    ) -> Result<Listed<T>, ReadError> {
        self.some_in(resource, namespaces, |_: &T| true).await
    }

    /// Those of them that are wanted; the others are dropped as they come.
    pub(crate) async fn some_in<T: ApiObject + Send + 'static>(
        &self,
        resource: Resource<'_>,
        namespaces: &[Name],
        wanted: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Result<Listed<T>, ReadError> {
        let wanted = Arc::new(wanted);
        let keep = || {
            let wanted = Arc::clone(&wanted);
            move |object: T| wanted(&object).then_some(object)
        };
        if namespaces.is_empty() {
            return self.list(&List::all(resource), keep()).await;
        }
        let mut all = Listed::new();
        for namespace in namespaces {
            all.extend(self.list(&List::within(resource, namespace), keep()).await?);
        }
        Ok(all)
    }

    /// Reads a list page by page; while one page is decoded the next is fetched. `keep` says what of an object stays. A list
    /// whose continue token expired (410) begins anew.
    pub(crate) async fn list<T: ApiObject + Send + 'static, U: Send + 'static>(
        &self,
        list: &List<'_>,
        keep: impl Fn(T) -> Option<U> + Send + Sync + 'static,
    ) -> Result<Listed<U>, ReadError> {
        let keep: Keep<T, U> = Arc::new(keep);
        let wanted = Wanted::list_of(&list.resource, list.namespace.map(Name::as_str));
        let begun = Instant::now();
        for _ in 0..=RESTARTS {
            if let Some(listed) = self.all_pages(list, &wanted, &keep, begun).await? {
                return Ok(listed);
            }
        }
        Err(ReadError::Status {
            code: 410,
            message: "the list changed faster than it could be read".into(),
            own: true,
        })
    }

    /// `None`: the continue token expired.
    async fn all_pages<T: ApiObject + Send + 'static, U: Send + 'static>(
        &self,
        list: &List<'_>,
        wanted: &Wanted,
        keep: &Keep<T, U>,
        begun: Instant,
    ) -> Result<Option<Listed<U>>, ReadError> {
        let mut listed = Listed::new();
        let mut decoding: Option<Decoding<U>> = None;
        let mut tokens: HashSet<String> = HashSet::new();
        let mut token = String::new();
        loop {
            let fetched = self.get(&list.page(&token)).await;
            if let Some(task) = decoding.take() {
                let page = joined(task).await?;
                if page.next != token {
                    return Err(ReadError::Body("a list with two continue tokens".into()));
                }
                listed.add(page);
            }
            let body = match fetched {
                Ok(body) => body,
                Err(ReadError::Status { code: 410, .. }) if !token.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            };
            token = peeked_token(&body);
            let (wanted, keep) = (wanted.clone(), Arc::clone(keep));
            let task = tokio::task::spawn_blocking(move || answer::page(&body, &wanted, &*keep));
            if token.is_empty() {
                // Where the token stood behind the items, only the whole page tells.
                let page = joined(task).await?;
                token.clone_from(&page.next);
                listed.add(page);
            } else {
                decoding = Some(task);
            }
            if token.is_empty() && listed.items.len() <= held::max_kept() {
                return Ok(Some(listed));
            }
            bounds(&listed, &mut tokens, &token, begun)?;
        }
    }

    /// GET with backoff: 429 and 5xx are tried again after Retry-After or a growing wait.
    pub(crate) async fn get(&self, path: &ApiPath) -> Result<Vec<u8>, ReadError> {
        self.read(path, MAX_PAGE_BYTES).await
    }

    async fn read(&self, path: &ApiPath, most: usize) -> Result<Vec<u8>, ReadError> {
        let mut wait = self.first_wait;
        let mut tried = 0;
        loop {
            tried += 1;
            let answer = self.once(path, most).await?;
            if answer.cut {
                return Err(ReadError::TooMuch(format!("an answer larger than {} MiB", most >> 20)));
            }
            let (code, retry_after) = (answer.code, answer.retry_after);
            let error = match answer.ok(path) {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            let patient = retry_after.is_none_or(|asked| asked <= LONGEST_WAIT);
            if !(code == 429 || code >= 500) || tried >= TRIES || !patient {
                return Err(error);
            }
            sleep(retry_after.unwrap_or(wait)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One GET, read to at most `limit` bytes.
    pub(crate) async fn once(&self, path: &ApiPath, limit: usize) -> Result<Answer, ReadError> {
        self.once_with(path, limit, &[]).await
    }

    /// One GET with further headers, for what stands behind a proxy.
    pub(crate) async fn once_with(
        &self,
        path: &ApiPath,
        limit: usize,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ReadError> {
        if !self.plan.allows(path) {
            return Err(ReadError::Unplanned(path.path().into()));
        }
        crate::progress::asked();
        let mut request = Request::get(path.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            // Exporters and engines behind the proxy answer in text.
            .header(http::header::ACCEPT, "application/json, */*")
            .body(Body::empty())
            .map_err(|e| ReadError::Body(e.to_string()))?;
        timeout(self.timeout, self.exchange(request, limit))
            .await
            .map_err(|_| ReadError::TimedOut(self.timeout))?
    }

    async fn exchange(&self, request: Request<Body>, limit: usize) -> Result<Answer, ReadError> {
        // What stands behind a proxy answers with a clock of its own.
        let own = !request.uri().path().contains("/proxy/");
        let begun = Timestamp::now();
        let response = self
            .client
            .send(request)
            .await
            .map_err(|e| super::connect::explain(&e))?;
        let code = response.status().as_u16();
        let look = Look::of(response.headers(), begun, Timestamp::now());
        if let Some(look) = look.filter(|_| own) {
            self.clock.keep(look);
        }
        let retry_after = response
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let json = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|t| t.contains("json"));
        let mut stream = response.into_body().into_data_stream();
        let mut body = Vec::new();
        let mut cut = false;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| ReadError::Body(format!("cut off after {} bytes", body.len())))?;
            let room = limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                cut = true;
                break;
            }
        }
        Ok(Answer {
            code,
            body,
            cut,
            retry_after,
            json,
            look,
        })
    }
}

type Keep<T, U> = Arc<dyn Fn(T) -> Option<U> + Send + Sync>;
type Decoding<U> = tokio::task::JoinHandle<Result<Page<U>, ReadError>>;

async fn joined<U>(task: Decoding<U>) -> Result<Page<U>, ReadError> {
    task.await
        .map_err(|_| ReadError::Body("its decoding broke off".into()))?
}

/// A list has an end.
fn bounds<U>(listed: &Listed<U>, tokens: &mut HashSet<String>, token: &str, begun: Instant) -> Result<(), ReadError> {
    let too_much = |what: String| Err(ReadError::TooMuch(what));
    if !tokens.insert(token.into()) {
        return too_much("a list that never ends: its continue token repeats".into());
    }
    if listed.seen > MAX_OBJECTS {
        return too_much(format!("a list of more than {MAX_OBJECTS} objects"));
    }
    let most = held::max_kept();
    if listed.items.len() > most {
        let what = format!("a list of more than {most} objects that have to do with GPUs");
        return Err(ReadError::TooLarge(what));
    }
    if held::is_full() {
        return Err(ReadError::TooLarge(
            "a list that takes more memory than reading may".into(),
        ));
    }
    if listed.empty >= MAX_EMPTY {
        return too_much(format!("a list of {MAX_EMPTY} empty pages in a row"));
    }
    if tokens.len() >= MAX_PAGES {
        return too_much(format!("a list of more than {MAX_PAGES} pages"));
    }
    if begun.elapsed() > LONGEST_LIST {
        return too_much(format!(
            "a list that takes longer than {} min",
            LONGEST_LIST.as_secs() / 60
        ));
    }
    Ok(())
}

/// The continue token usually stands before the items: so much is looked at here, so that the next page can be asked for
/// while this one is decoded. Empty: there is none, or it stands elsewhere.
fn peeked_token(body: &[u8]) -> String {
    #[derive(Default, serde::Deserialize)]
    struct Head {
        #[serde(default)]
        metadata: Meta,
    }
    #[derive(Default, serde::Deserialize)]
    struct Meta {
        #[serde(default, rename = "continue")]
        token: String,
    }
    /// What API servers write before the items.
    const HEAD: usize = 16 << 10;
    let needle = b"\"items\"";
    let head = &body[..body.len().min(HEAD)];
    let Some(at) = memchr::memmem::find(head, needle) else {
        return String::new();
    };
    let mut text = body[..at].trim_ascii_end().to_vec();
    if text.last() == Some(&b',') {
        text.pop();
    }
    text.push(b'}');
    serde_json::from_slice::<Head>(&text)
        .map(|h| h.metadata.token)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_peeked_at_where_it_stands_first() {
        for text in [
            r#"{"kind":"PodList","metadata":{"resourceVersion":"1","continue":"abc"},"items":[{"a":1}]}"#,
            "{\n \"metadata\": {\"continue\": \"abc\"},\n \"items\": null}",
        ] {
            assert_eq!(peeked_token(text.as_bytes()), "abc", "{text}");
        }
        for text in [
            r#"{"items":[],"metadata":{"continue":"abc"}}"#,
            r#"{"metadata":{},"items":[]}"#,
            "<html>",
            "",
        ] {
            assert_eq!(peeked_token(text.as_bytes()), "", "{text}");
        }
    }
}
