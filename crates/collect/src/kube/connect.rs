//! From kubeconfig to clients: contexts, credentials, and errors a person can act on.

use super::api::{Api, ReadError};
use crate::options::{CONNECT_TIMEOUT, CollectOptions};
use anyhow::{Result, bail};
use kube::client::AuthError;
use kube::config::{ExecConfig, KubeConfigOptions, Kubeconfig, NamedContext};
use kube::{Client, Config};
use secrecy::{ExposeSecret, SecretString};
use std::error::Error as _;
use std::fmt;

/// One cluster to read.
#[derive(Debug)]
pub struct Target {
    /// The context's name; "in-cluster" for a pod's own account.
    pub name: String,
    /// Named with `--context`: its failure is exit code 3.
    pub named: bool,
    /// gpuwaste runs in this cluster: pods can be reached at their addresses.
    pub inside: bool,
    pub client: Result<Api, ReadError>,
}

/// There is no cluster to read, and none was asked for.
#[derive(Debug)]
pub struct NoCluster(String);

impl fmt::Display for NoCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoCluster {}

/// The clusters that the options name.
///
/// # Errors
/// A kubeconfig that cannot be read, a context that does not exist (the known ones are listed), no context at all.
pub fn targets(options: &CollectOptions) -> Result<Vec<Target>> {
    install_tls();
    let (kubeconfig, wanted) = match chosen(options)? {
        Chosen::Contexts(kubeconfig, wanted) => (kubeconfig, wanted),
        Chosen::Inside(config) => {
            return Ok(vec![Target {
                name: INSIDE.into(),
                named: false,
                inside: true,
                client: build(*config, options),
            }]);
        }
    };
    Ok(wanted
        .into_iter()
        .map(|name| Target {
            client: client(&kubeconfig, &name, options),
            named: options.contexts.contains(&name),
            inside: false,
            name,
        })
        .collect())
}

/// A pod's own account, as a context is called.
const INSIDE: &str = "in-cluster";

/// What the options choose.
enum Chosen {
    Contexts(Box<Kubeconfig>, Vec<String>),
    Inside(Box<Config>),
}

/// Where a run would go, for `--dry-run`: nothing is asked, no plugin runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub context: String,
    /// Without credentials.
    pub server: String,
    pub proxy: Option<String>,
    /// A program that the kubeconfig's user runs for credentials.
    pub plugin: Option<String>,
    /// Pods are reached at their addresses.
    pub inside: bool,
}

/// The servers of the contexts that the options name.
///
/// # Errors
/// As [`targets`].
pub fn destinations(options: &CollectOptions) -> Result<Vec<Destination>> {
    let harmless = |url: &str| gpuwaste_facts::text::without_secrets(url);
    let (kubeconfig, wanted) = match chosen(options)? {
        Chosen::Contexts(kubeconfig, wanted) => (kubeconfig, wanted),
        Chosen::Inside(config) => {
            return Ok(vec![Destination {
                context: INSIDE.into(),
                server: harmless(&config.cluster_url.to_string()),
                proxy: None,
                plugin: None,
                inside: true,
            }]);
        }
    };
    let of = |context: String| {
        let cluster = cluster_of(&kubeconfig, &context);
        let server = cluster.and_then(|c| c.server.clone()).unwrap_or_default();
        let named = cluster.and_then(|c| c.proxy_url.as_deref());
        let proxy = server.parse().ok().and_then(|uri| proxy(named, &uri));
        Destination {
            server: harmless(&server),
            proxy: proxy.map(|p| harmless(&p.to_string())),
            plugin: exec_of(&kubeconfig, &context).and_then(|e| e.command),
            inside: false,
            context,
        }
    };
    Ok(wanted.into_iter().map(of).collect())
}

fn cluster_of<'k>(kubeconfig: &'k Kubeconfig, context: &str) -> Option<&'k kube::config::Cluster> {
    let named = kubeconfig.contexts.iter().find(|c| c.name == context)?;
    let cluster = &named.context.as_ref()?.cluster;
    kubeconfig
        .clusters
        .iter()
        .find(|c| c.name == *cluster)?
        .cluster
        .as_ref()
}

/// What the way to a server leads through: the kubeconfig's own proxy; else the environment's (HTTPS_PROXY, ALL_PROXY, but for
/// what NO_PROXY names), and that with TLS alone, since a proxy reads what goes through it in the clear, the token among it.
fn proxy(named: Option<&str>, server: &http::Uri) -> Option<http::Uri> {
    if let Some(named) = named.filter(|n| !n.is_empty()) {
        return named.parse().ok();
    }
    if server.scheme_str() != Some("https") || crate::options::goes_without_proxies() {
        return None;
    }
    hyper_util::client::proxy::matcher::Matcher::from_env().intercept(server)?;
    let set = |name: &&str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let url = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .find_map(set)?;
    let url = if url.contains("://") {
        url
    } else {
        format!("http://{url}")
    };
    url.parse().ok()
}

fn chosen(options: &CollectOptions) -> Result<Chosen> {
    let kubeconfig = match &options.kubeconfig {
        Some(path) => Kubeconfig::read_from(path)
            .map_err(|e| anyhow::anyhow!("could not read the kubeconfig {}: {}", path.display(), unquoted(&e)))?,
        None => match Kubeconfig::read() {
            Ok(config) => config,
            Err(error) => return in_cluster(options, &error),
        },
    };
    let known: Vec<String> = kubeconfig.contexts.iter().map(|c| c.name.clone()).collect();
    let wanted = if options.all_contexts {
        known.clone()
    } else if options.contexts.is_empty() {
        match kubeconfig.current_context.clone().filter(|c| !c.is_empty()) {
            Some(current) => vec![current],
            None => bail!(
                "the kubeconfig has no current context: choose one with --context ({})",
                listed(&known)
            ),
        }
    } else {
        options.contexts.clone()
    };
    if let Some(missing) = wanted.iter().find(|w| !known.contains(w)) {
        bail!("there is no context '{missing}' in the kubeconfig: {}", listed(&known));
    }
    if wanted.is_empty() {
        bail!("the kubeconfig has no contexts: 'kubectl config get-contexts' shows what kubectl sees");
    }
    Ok(Chosen::Contexts(Box::new(kubeconfig), wanted))
}

/// What is wrong with a kubeconfig, and where, without what stands there: a parser's error quotes the line, token and all.
fn unquoted(error: &kube::config::KubeconfigError) -> String {
    use kube::config::KubeconfigError as E;
    let text = error.to_string();
    let at = text.find(" at line ").or_else(|| text.find("line ")).map(|i| {
        let place = text[i..].trim_start();
        let end = place
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == ' '))
            .unwrap_or(place.len());
        place[..end].trim().to_string()
    });
    match error {
        E::ReadConfig(cause, _) => cause.to_string(),
        E::Parse(_) => format!(
            "it is no kubeconfig{}; 'kubectl config view' reads the same file",
            at.map(|a| format!(": {a}")).unwrap_or_default()
        ),
        E::ParseProxyUrl(_) => "its proxy-url is no URL".into(),
        E::ParseClusterUrl(_) => "the cluster's server is no URL".into(),
        _ => gpuwaste_facts::text::without_secrets(&text),
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "it has none".into(),
        names if names.len() > 12 => format!("known are {} and {} more", names[..12].join(", "), names.len() - 12),
        names => format!("known are {}", names.join(", ")),
    }
}

/// No kubeconfig: a pod's service account, else the error that says both ways.
fn in_cluster(options: &CollectOptions, error: &kube::config::KubeconfigError) -> Result<Chosen> {
    if !matches!(
        error,
        kube::config::KubeconfigError::ReadConfig(..) | kube::config::KubeconfigError::FindPath
    ) {
        bail!("could not read the kubeconfig: {}", unquoted(error));
    }
    if !options.contexts.is_empty() {
        bail!(
            "there is no kubeconfig to look up context '{}' in: give --kubeconfig or set KUBECONFIG",
            options.contexts[0]
        );
    }
    match Config::incluster() {
        Ok(config) => Ok(Chosen::Inside(Box::new(config))),
        Err(_) => Err(NoCluster(
            "no cluster to read: there is no kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config) and this is no pod with a service account\n  \
             without a cluster: 'gpuwaste scan --prometheus URL' (GPU exporters of hosts), 'gpuwaste scan --local', 'gpuwaste scan --demo', 'gpuwaste scan --snapshot FILE'"
                .into(),
        )
        .into()),
    }
}

fn client(kubeconfig: &Kubeconfig, context: &str, options: &CollectOptions) -> Result<Api, ReadError> {
    let exec = exec_of(kubeconfig, context);
    let named = cluster_of(kubeconfig, context).and_then(|c| c.proxy_url.clone());
    let choice = KubeConfigOptions {
        context: Some(context.into()),
        cluster: None,
        user: None,
    };
    let mut kubeconfig = kubeconfig.clone();
    for user in &mut kubeconfig.auth_infos {
        if let Some(token) = user.auth_info.as_mut().and_then(|a| a.token.as_mut()) {
            let text = token.expose_secret().trim();
            if user.name == user_of(&kubeconfig.contexts, context) && !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(ReadError::Connect {
                    reason: "the token of the kubeconfig's user holds characters that no HTTP header can".into(),
                    remedy: "log in again, or write the token on one line".into(),
                });
            }
            *token = SecretString::from(text.to_owned());
        }
    }
    // Loading may start an exec plugin's check; it blocks, and contexts are few.
    let mut config = futures::executor::block_on(Config::from_custom_kubeconfig(kubeconfig, &choice)).map_err(|e| {
        ReadError::Connect {
            reason: format!("the kubeconfig's entry is not usable: {}", unquoted(&e)),
            remedy: "compare with 'kubectl config view'".into(),
        }
    })?;
    config.proxy_url = proxy(named.as_deref(), &config.cluster_url);
    build(config, options).map_err(|error| match (error, exec) {
        (ReadError::Connect { reason, .. }, Some(exec)) if reason.contains("exec") => plugin_error(&exec, &reason),
        (error, _) => error,
    })
}

fn user_of<'c>(contexts: &'c [NamedContext], context: &str) -> &'c str {
    let named = contexts.iter().find(|c| c.name == context);
    let user = named.and_then(|c| c.context.as_ref()).and_then(|c| c.user.as_deref());
    user.unwrap_or_default()
}

fn exec_of(kubeconfig: &Kubeconfig, context: &str) -> Option<ExecConfig> {
    let context = kubeconfig
        .contexts
        .iter()
        .find(|c| c.name == context)?
        .context
        .as_ref()?;
    let user = context.user.as_deref()?;
    kubeconfig
        .auth_infos
        .iter()
        .find(|a| a.name == user)?
        .auth_info
        .as_ref()?
        .exec
        .clone()
}

fn build(mut config: Config, options: &CollectOptions) -> Result<Api, ReadError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // `Api::once` limits the whole request; a second clock would name the wrong one.
    config.read_timeout = None;
    // Retries are `Api::get`'s: it knows which answers are worth waiting for, and a dead pod behind the proxy (503) is none.
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|e| explain(&e))?;
    Ok(Api::new(client, options))
}

/// What the credential plugin's own entry says about getting it.
fn plugin_error(exec: &ExecConfig, reason: &str) -> ReadError {
    let command = exec.command.as_deref().unwrap_or("the plugin");
    let missing = reason.contains("No such file") || reason.contains("not found");
    let hint = exec.install_hint.as_deref().map(str::trim).filter(|h| !h.is_empty());
    ReadError::Connect {
        reason: if missing {
            format!("the credential plugin '{command}' is not installed (or not on PATH)")
        } else {
            format!("the credential plugin '{command}' failed")
        },
        remedy: match hint {
            Some(hint) => hint.to_string(),
            None if missing => format!("install '{command}', as the kubeconfig's user entry asks for"),
            None => format!("run '{command}' by hand to see why, or log in again"),
        },
    }
}

/// Turns a client error into what was tried and the way out. Nothing of a plugin's output goes in: it may hold a token.
pub fn explain(error: &kube::Error) -> ReadError {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        chain.push(cause.to_string());
        next = cause.source();
    }
    if let kube::Error::Auth(auth) = error {
        return auth_error(auth);
    }
    let all = chain.join(": ");
    let has = |words: &[&str]| words.iter().any(|w| all.contains(w));
    if has(&["connection closed before message completed", "Connection reset"]) {
        return ReadError::Body("cut off: the other side closed the connection".into());
    }
    let (reason, remedy) = if has(&["auth exec", "exec-plugin"]) {
        (
            "the credential plugin failed (exec)".to_string(),
            "run the plugin of the kubeconfig's user entry by hand, or log in again",
        )
    } else if has(&["CaUsedAsEndEntity"]) {
        (
            "TLS: the server's certificate is a CA certificate used as a server's own".to_string(),
            "give the API server a leaf certificate signed by that CA, or set insecure-skip-tls-verify for this cluster in a kubeconfig of your own",
        )
    } else if has(&[
        "UnknownIssuer",
        "invalid peer certificate: UnknownIssuer",
        "self-signed",
        "BadSignature",
    ]) {
        (
            "TLS: the server's certificate is signed by a CA that this kubeconfig does not name".to_string(),
            "put the CA into certificate-authority-data of the cluster entry (a proxy that inspects TLS has a CA of its own)",
        )
    } else if has(&["NotValidForName", "certificate not valid for name"]) {
        (
            "TLS: the server's certificate is for another name".to_string(),
            "set tls-server-name in the cluster entry",
        )
    } else if has(&["Expired", "certificate expired"]) {
        (
            "TLS: a certificate has expired".to_string(),
            "renew it ('kubeadm certs renew', or log in again for client certificates)",
        )
    } else if has(&["dns error", "failed to lookup"]) {
        (
            "the API server's name does not resolve".to_string(),
            "check the server's name in the kubeconfig, VPN and DNS",
        )
    } else if has(&["timed out", "deadline has elapsed"]) {
        (
            "the API server did not answer within 5 s".to_string(),
            "check VPN, proxy and firewall; --timeout does not lengthen connecting",
        )
    } else if has(&[
        "Connection refused",
        "Network is unreachable",
        "No route to host",
        "tcp connect error",
        "client error (Connect)",
    ]) {
        (
            format!(
                "no connection to the API server ({})",
                chain.last().cloned().unwrap_or_default()
            ),
            "check the server's address in the kubeconfig, VPN and proxy",
        )
    } else {
        (
            chain.last().cloned().unwrap_or_default(),
            "'kubectl get nodes' with the same context shows whether it is gpuwaste or the connection",
        )
    };
    ReadError::Connect {
        reason,
        remedy: remedy.into(),
    }
}

fn auth_error(error: &AuthError) -> ReadError {
    match error {
        AuthError::AuthExecStart(cause) => ReadError::Connect {
            reason: format!("the credential plugin (exec) could not be started: {cause}"),
            remedy: "install the program that the kubeconfig's user entry names".into(),
        },
        AuthError::AuthExecRun { cmd, out } => ReadError::Connect {
            reason: format!(
                "the credential plugin '{}' (exec) ended with {}",
                cmd.split(' ').next().unwrap_or(cmd),
                out.status
            ),
            remedy: "run it by hand to see why, or log in again".into(),
        },
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => ReadError::Connect {
            reason: "the credential plugin (exec) gave no credential".into(),
            remedy: "run it by hand to see why, or log in again".into(),
        },
        other => ReadError::Connect {
            reason: format!("the credentials are not usable: {other}"),
            remedy: "log in again, or compare with 'kubectl config view'".into(),
        },
    }
}

/// One TLS provider for the whole process.
fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
