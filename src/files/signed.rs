//! Texts that end in a hash of what stands above it: one that somebody edited is told from one that may be replaced.

use std::path::Path;

use sha2::{Digest, Sha256};

const MARK: &str = "<!-- written by lafter, ";

/// The text with its last line, which Markdown and HTML do not show.
pub(crate) fn signed(text: &str) -> String {
    format!("{text}\n{MARK}{} -->\n", hash(text))
}

/// True for a file that is as [`signed`] gave it.
pub(crate) fn is_unedited(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let Some((before, after)) = text.rsplit_once(MARK) else { return false };
    let before = before.strip_suffix('\n').unwrap_or(before);
    after.strip_suffix(" -->\n").is_some_and(|known| known == hash(before))
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_text_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("README.md");
        let unedited = |text: &str| {
            std::fs::write(&path, text).unwrap();
            is_unedited(&path)
        };
        let text = signed("# A run\n\nlicense:\n");
        assert!(unedited(&text));
        assert!(!unedited(&text.replace("license:", "license: mit")) && !unedited("# My own page\n") && !unedited(""));
        assert!(!is_unedited(&folder.path().join("nowhere")));
    }
}
