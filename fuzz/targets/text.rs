//! Text that leaves: nothing in it steers a terminal, a shell, or tells a secret.
#![no_main]

use gpuwaste_facts::text::{harmless, is_harmful, message, shell_word, without_secrets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let steers = |shown: &str| shown.chars().any(is_harmful);
    assert!(!steers(&harmless(&text)), "{text:?}");
    // Lines of our own stay lines.
    assert!(!message(&text).lines().any(steers), "{text:?}");
    let word = shell_word(&text);
    assert!(!word.starts_with('-'));
    let back = shlex::split(&word).expect("a shell reads what was quoted");
    assert_eq!(back.len(), 1, "one word: {word:?}");
    let kept: String = text.chars().filter(|c| !is_harmful(*c)).collect();
    assert_eq!(
        back[0]
            .strip_prefix("./-")
            .map_or_else(|| back[0].clone(), |rest| format!("-{rest}")),
        kept.strip_prefix("./-")
            .map_or_else(|| kept.clone(), |rest| format!("-{rest}"))
    );
    // What a URL may not tell stays away, whatever stands around it.
    if !text.contains("CANARY") && !text.chars().any(|c| c.is_whitespace() || c == '\0') {
        for planted in [
            format!("https://user:CANARYx@{text}"),
            format!("https://h/a?sig=CANARYx&{text}"),
            format!("hf://CANARYx@{text}"),
        ] {
            assert!(
                !without_secrets(&planted).contains("CANARY"),
                "{planted:?} → {:?}",
                without_secrets(&planted)
            );
        }
    }
    without_secrets(&text);
});
