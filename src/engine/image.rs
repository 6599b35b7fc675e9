//! Container image references.

/// `repository[:tag][@digest]`, lower-cased repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// With registry and path: "nvcr.io/nim/meta/llama-3.1-8b-instruct".
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
}

impl Image {
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.split('@').next().unwrap_or_default();
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_string())),
            _ => (text, None),
        };
        Self {
            repository: repository.to_ascii_lowercase(),
            tag,
        }
    }

    pub(crate) fn contains(&self, part: &str) -> bool {
        self.repository.contains(part)
    }

    /// The last path segment: "vllm-openai".
    pub(crate) fn base(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// A version in the tag: "v0.11.0" → "0.11.0", "25.03-trtllm-python-py3" → "25.03"; `None` for latest, nightly and hashes.
    pub(crate) fn version(&self) -> Option<String> {
        let tag = self.tag.as_deref()?;
        tag.split(['-', '_']).find_map(|part| {
            let part = part.strip_prefix('v').unwrap_or(part);
            let digits_and_dots = part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('.');
            digits_and_dots.then(|| part.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Image;

    #[test]
    fn references_come_apart() {
        let image = Image::parse("registry:5000/Team/vllm-openai:v0.11.0@sha256:abc");
        assert_eq!(image.repository, "registry:5000/team/vllm-openai");
        assert_eq!(
            (image.base(), image.version().as_deref()),
            ("vllm-openai", Some("0.11.0"))
        );
        assert_eq!(
            Image::parse("nvcr.io/nvidia/tritonserver:25.03-py3")
                .version()
                .as_deref(),
            Some("25.03")
        );
        assert_eq!(
            Image::parse("lmsysorg/sglang:v0.5.3-cu126").version().as_deref(),
            Some("0.5.3")
        );
        for text in ["vllm/vllm-openai", "vllm/vllm-openai:latest", "a/b:nightly", "x:5000/a"] {
            assert_eq!(Image::parse(text).version(), None, "{text}");
        }
    }
}
