//! Container image references.

use crate::engine::Versions;

/// What people call the folder of a registry in which copies of others' images lie.
const MIRRORS: &[&str] = &[
    "mirror",
    "mirrors",
    "proxy",
    "cache",
    "dockerhub",
    "docker-hub",
    "dockerio",
    "upstream",
    "thirdparty",
    "third-party",
];

/// `repository[:tag][@digest]`, lower-cased repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// With registry and path: "nvcr.io/nim/meta/llama-3.1-8b-instruct".
    pub repository: String,
    pub tag: Option<String>,
}

impl Image {
    pub fn parse(text: &str) -> Self {
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

    pub fn contains(&self, part: &str) -> bool {
        self.repository.contains(part)
    }

    /// The last path segment: "vllm-openai".
    pub fn base(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// The project that makes the engine built it: its entry point is the engine, its tag the engine's version. Others count
    /// their own versions, whatever their image is called ("lmcache/vllm-openai:v0.3.9", "rhaiis/vllm-cuda-rhel9:3.2.1").
    pub(crate) fn is_own(&self, versions: &Versions) -> bool {
        let Versions::Own { images, .. } = versions else {
            return true;
        };
        let (parent, base) = self.repository.rsplit_once('/').unwrap_or(("", &self.repository));
        let parent = parent.rsplit('/').next().unwrap_or_default();
        // A mirror that keeps the name alone, right below its registry.
        let mirrored = parent.is_empty() || parent.contains(['.', ':']) || MIRRORS.contains(&parent);
        images.iter().any(|image| {
            let whole = self.repository == *image || self.repository.ends_with(&format!("/{image}"));
            whole || (mirrored && image.rsplit('/').next() == Some(base))
        })
    }

    /// The engine's version where the image is the engine's own: a base image ("ubuntu:22.04"), a platform's
    /// ("llm-d-cuda:v0.8.1", Dynamo's runtimes) and NVIDIA's monthly builds of vLLM and SGLang count their own versions.
    pub(crate) fn version_of(&self, versions: &Versions) -> Option<String> {
        // Of the others tags are read by name, or are the product's own.
        let Versions::Own { newest, .. } = versions else {
            return self.version();
        };
        let major = |v: &str| v.split('.').next().and_then(|n| n.parse::<u32>().ok());
        self.version()
            .filter(|v| self.is_own(versions) && major(v).is_some_and(|n| n <= *newest))
    }

    /// A version in the tag: "v0.11.0" → "0.11.0", "25.03-trtllm-python-py3" → "25.03"; `None` for latest, nightly and hashes.
    pub fn version(&self) -> Option<String> {
        let tag = self.tag.as_deref()?;
        tag.split(['-', '_']).find_map(|part| {
            let part = part.strip_prefix('v').unwrap_or(part);
            let digits_and_dots = part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('.');
            digits_and_dots.then(|| part.to_string())
        })
    }
}

/// Images of engines whose plain name is built for NVIDIA's cards; what is for others says so in its name or tag
/// (docs.vllm.ai and docs.sglang.ai on images, huggingface.co/docs/text-generation-inference on hardware).
const CUDA_BY_NAME: &[&str] = &[
    "vllm/vllm-openai",
    "lmsysorg/sglang",
    "huggingface/text-generation-inference",
];

/// The vendor whose cards an image is built for, as its name and tag tell: "nvidia" or "amd". `None`: they do not, or it runs on several.
pub fn built_for(image: &str) -> Option<&'static str> {
    let Image { repository, tag } = Image::parse(image);
    let tag = tag.unwrap_or_default().to_ascii_lowercase();
    let has = |of: &dyn Fn(&str) -> bool| {
        let text = [repository.as_str(), tag.as_str()];
        let mut words = text.iter().flat_map(|t| t.split(|c: char| !c.is_ascii_alphanumeric()));
        words.any(of)
    };
    let rocm = |word: &str| word.starts_with("rocm");
    let cuda = |word: &str| {
        word == "cuda"
            || ["cuda", "cu"].iter().any(|p| {
                let number = word.strip_prefix(p).unwrap_or_default();
                number.len() >= 2 && number.bytes().all(|b| b.is_ascii_digit())
            })
    };
    let another = |word: &str| {
        [
            "cpu", "xpu", "hpu", "gaudi", "intel", "tpu", "neuron", "npu", "ascend", "musa", "vulkan",
        ]
        .iter()
        .any(|w| word.starts_with(w))
    };
    if has(&rocm) {
        return (!has(&cuda)).then_some("amd");
    }
    if has(&another) {
        return None;
    }
    let whole = |name: &str| repository == name || repository.ends_with(&format!("/{name}"));
    (has(&cuda) || repository.starts_with("nvcr.io/") || CUDA_BY_NAME.iter().any(|name| whole(name)))
        .then_some("nvidia")
}

#[cfg(test)]
mod tests {
    use super::Image;
    use crate::snapshot::server::EngineKind;

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

    #[test]
    fn an_image_tells_whose_cards_it_is_for() {
        for (image, vendor) in [
            ("vllm/vllm-openai:v0.11.0", Some("nvidia")),
            ("mirror.local/vllm/vllm-openai:latest", Some("nvidia")),
            ("vllm/vllm-openai-rocm:v0.14.0", Some("amd")),
            ("rocm/vllm:rocm6.4.1_vllm_0.10.1_20250909", Some("amd")),
            ("lmsysorg/sglang:v0.5.3-rocm630-mi30x", Some("amd")),
            ("lmsysorg/sglang:v0.5.3-cu129", Some("nvidia")),
            ("lmsysorg/sglang:v0.4.5-xeon-cpu", None),
            ("ghcr.io/huggingface/text-generation-inference:3.3.4", Some("nvidia")),
            ("ghcr.io/huggingface/text-generation-inference:3.3.4-rocm", Some("amd")),
            ("ghcr.io/huggingface/text-generation-inference:3.3.4-intel-xpu", None),
            ("ghcr.io/ggml-org/llama.cpp:server-cuda-b5000", Some("nvidia")),
            ("ghcr.io/ggml-org/llama.cpp:server-vulkan", None),
            ("ollama/ollama:0.5.7", None),
            ("ollama/ollama:0.5.7-rocm", Some("amd")),
            ("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.3", Some("nvidia")),
            ("acme/curator:3", None),
            ("acme/train:1", None),
        ] {
            assert_eq!(super::built_for(image), vendor, "{image}");
        }
    }

    #[test]
    fn only_the_engines_own_image_tells_its_version() {
        for (image, engine, version) in [
            ("vllm/vllm-openai:v0.11.0", EngineKind::Vllm, Some("0.11.0")),
            (
                "mirror.local/vllm/vllm-openai:v0.9.2-cu128",
                EngineKind::Vllm,
                Some("0.9.2"),
            ),
            (
                "mirror.local/dockerhub/vllm-openai:v0.9.2",
                EngineKind::Vllm,
                Some("0.9.2"),
            ),
            ("vllm-openai:v0.9.2", EngineKind::Vllm, Some("0.9.2")),
            ("mirror.local/team/vllm:0.9.2-cu128", EngineKind::Vllm, None),
            ("lmcache/vllm-openai:v0.3.9post2", EngineKind::Vllm, None),
            (
                "registry.redhat.io/rhaiis/vllm-cuda-rhel9:3.2.1",
                EngineKind::Vllm,
                None,
            ),
            ("quay.io/modh/vllm:rhoai-2.20-cuda", EngineKind::Vllm, None),
            ("opea/vllm-gaudi:1.3", EngineKind::Vllm, None),
            ("vllm/vllm-omni:v0.20.0", EngineKind::Vllm, None),
            ("vllm/vllm-openai:12.4.1-base", EngineKind::Vllm, None),
            (
                "rocm/vllm:rocm6.4.1_vllm_0.10.1_20250909",
                EngineKind::Vllm,
                Some("0.10.1"),
            ),
            ("acme/sglang-runtime:2.1", EngineKind::Sglang, None),
            (
                "us-docker.pkg.dev/x/huggingface-text-generation-inference-cu124.2-3.ubuntu2204.py311",
                EngineKind::Tgi,
                None,
            ),
            (
                "ghcr.io/huggingface/text-generation-inference:2.4.0",
                EngineKind::Tgi,
                Some("2.4.0"),
            ),
            ("acme/trtllm-serve:3.0", EngineKind::Trtllm, None),
            ("nvcr.io/nvidia/vllm:25.09-py3", EngineKind::Vllm, None),
            ("ubuntu:22.04", EngineKind::Vllm, None),
            ("ghcr.io/llm-d/llm-d-cuda:v0.8.1", EngineKind::Vllm, None),
            ("nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.6.0", EngineKind::Vllm, None),
            (
                "nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime:1.0.1",
                EngineKind::Trtllm,
                None,
            ),
            (
                "nvcr.io/nvidia/tensorrt-llm/release:1.2.0",
                EngineKind::Trtllm,
                Some("1.2.0"),
            ),
            ("lmsysorg/sglang:v0.5.3-cu126", EngineKind::Sglang, Some("0.5.3")),
            (
                "nvcr.io/nvidia/tritonserver:25.03-trtllm-python-py3",
                EngineKind::Triton,
                Some("25.03"),
            ),
        ] {
            let versions = &crate::of(engine).expect("known").facts().versions;
            assert_eq!(Image::parse(image).version_of(versions).as_deref(), version, "{image}");
        }
    }
}
