//! Files that are not what they were given for: told by what they are, with the way out.

/// What a text is instead of the JSON that was expected; `None`: nothing that anybody is known to mix up.
pub(crate) fn instead(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Some(
            "it is UTF-16 text, as PowerShell's '>' writes it: let gpuwaste write the file (-o FILE, --format json=FILE), or save it as UTF-8",
        );
    }
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace())?;
    let head = &bytes[start..bytes.len().min(start + 512)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.starts_with("<!doctype html") || head.starts_with("<html") {
        return Some(
            "it is a web page (HTML), perhaps a login page: sign in, or give the token that the download needs",
        );
    }
    if head.starts_with('<') {
        return Some("it is XML or HTML: give the JSON that gpuwaste wrote");
    }
    if head.starts_with("apiversion:") || head.starts_with("---\n") || head.starts_with("kind:") {
        return Some("it is YAML, perhaps a manifest: 'gpuwaste check FILE' judges manifests");
    }
    if head.starts_with("record,id,check") {
        return Some("it is a CSV report: give the JSON one (--format json=FILE)");
    }
    None
}

/// The mark that some editors put before UTF-8 is no part of the text.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes)
}

/// What a JSON document of gpuwaste is, by its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Report,
    Snapshot,
    Baseline,
    Unknown,
}

#[derive(serde::Deserialize)]
struct Keys {
    totals: Option<serde::de::IgnoredAny>,
    findings: Option<serde::de::IgnoredAny>,
    clusters: Option<serde::de::IgnoredAny>,
}

pub(crate) fn document(bytes: &[u8]) -> Document {
    match serde_json::from_slice::<Keys>(bytes) {
        Ok(Keys { totals: Some(_), .. }) => Document::Report,
        Ok(Keys { clusters: Some(_), .. }) => Document::Snapshot,
        Ok(Keys { findings: Some(_), .. }) => Document::Baseline,
        _ => Document::Unknown,
    }
}

/// When it was taken, by its first bytes: gpuwaste writes that before anything that others named.
pub(crate) fn taken_at(head: &[u8]) -> Option<jiff::Timestamp> {
    const KEY: &[u8] = b"\"taken_at\"";
    let at = head.windows(KEY.len()).position(|w| w == KEY)?;
    let rest = std::str::from_utf8(head.get(at + KEY.len()..)?.get(..64)?).ok()?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split_once('"')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_mix_up_is_told() {
        assert!(instead(b"\xff\xfe{\0").is_some_and(|t| t.contains("UTF-16")));
        assert!(instead(b"\n <!DOCTYPE html><title>Sign in").is_some_and(|t| t.contains("login page")));
        assert!(instead(b"apiVersion: v1\n").is_some_and(|t| t.contains("gpuwaste check")));
        assert_eq!(instead(b"{\"schema\": 1}"), None);
        assert_eq!(without_mark("\u{feff}{}".as_bytes()), b"{}");
    }

    #[test]
    fn a_time_is_read_from_the_beginning() {
        let head = |text: &str| taken_at(format!("{text:<200}").as_bytes()).map(|t| t.to_string());
        let wanted = Some("2026-11-25T22:00:00Z".to_owned());
        assert_eq!(
            head(r#"{"schema":1,"tool_version":"0.1.0","taken_at":"2026-11-25T22:00:00Z","#),
            wanted
        );
        assert_eq!(
            head("{\n  \"schema\": 1,\n  \"taken_at\": \"2026-11-25T22:00:00Z\",\n"),
            wanted
        );
        assert_eq!(
            head(r#"{"tool_version":"\"taken_at\":\"2026-11-25T22:00:00Z\""}"#),
            None
        );
        assert_eq!(head(r#"{"clusters":[]}"#), None);
        assert_eq!(taken_at(b"{\"taken_at\":"), None);
    }

    #[test]
    fn a_document_is_told_by_its_keys() {
        assert_eq!(
            document(br#"{"schema": 1, "totals": {}, "findings": []}"#),
            Document::Report
        );
        assert_eq!(document(br#"{"schema": 1, "findings": []}"#), Document::Baseline);
        assert_eq!(document(br#"{"schema": 1, "clusters": []}"#), Document::Snapshot);
        assert_eq!(document(b"[]"), Document::Unknown);
    }
}
