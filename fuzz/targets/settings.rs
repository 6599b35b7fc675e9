//! Files that users write: policies, price files, ledgers.
#![no_main]

use gpuwaste_catalog::prices::PriceBook;
use gpuwaste_decisions::store::Folder;
use gpuwaste_judge::analyze::opt_out;
use gpuwaste_judge::settings;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static LEDGER: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("gpuwaste-fuzz-ledger-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let known: Vec<String> = opt_out::names().collect();
            let checks: Vec<&str> = known.iter().map(String::as_str).collect();
            if let Ok(read) = settings::parse(text, "fuzz", &checks) {
                // What is read may be laid over itself, and is read again.
                let twice = settings::laid_over(text, "").unwrap();
                settings::parse(&twice, "fuzz", &checks).unwrap();
                drop(read);
            }
        }
        1 => {
            if let Ok(text) = std::str::from_utf8(rest) {
                let _ = PriceBook::parse(text);
            }
        }
        _ => {
            std::fs::write(LEDGER.join("0123456789abcdef.toml"), rest).unwrap();
            let _ = Folder::new(&LEDGER).read();
        }
    }
});
