//! Patterns in braces, as WebDataset and shells write them: `train-{00000..01281}.tar`, `{train,extra}.tar`.

use std::path::PathBuf;

/// More files than this are not meant.
const MOST: usize = 100_000;

/// The files that a pattern names, in its order; `None` if it has no braces, or they are not closed, or it names too many.
pub(crate) fn expand(pattern: &str) -> Option<Vec<PathBuf>> {
    let mut done = vec![String::new()];
    let (mut rest, mut any) = (pattern, false);
    while let Some((before, after)) = rest.split_once('{') {
        let (inner, after) = after.split_once('}')?;
        let parts = parts(inner)?;
        if done.len().checked_mul(parts.len())? > MOST {
            return None;
        }
        done = done.iter().flat_map(|start| parts.iter().map(move |part| format!("{start}{before}{part}"))).collect();
        (rest, any) = (after, true);
    }
    any.then(|| done.iter().map(|start| PathBuf::from(format!("{start}{rest}"))).collect())
}

/// `0..3`, with as many digits as its longer end where one begins with 0; or texts between commas.
fn parts(inner: &str) -> Option<Vec<String>> {
    let Some((first, last)) = inner.split_once("..") else {
        return Some(inner.split(',').map(str::to_string).collect());
    };
    let (from, to): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    let padded = [first, last].iter().any(|end| end.len() > 1 && end.starts_with('0'));
    let width = if padded { first.len().max(last.len()) } else { 0 };
    (from <= to && to - from < MOST).then(|| (from..=to).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_lists() {
        let names = |pattern| expand(pattern).map(|files| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>());
        assert_eq!(names("a/{008..010}.tar").unwrap(), ["a/008.tar", "a/009.tar", "a/010.tar"]);
        assert_eq!(names("{9..10}.tar").unwrap(), ["9.tar", "10.tar"]);
        assert_eq!(names("{a,b}-{0..1}.tar").unwrap(), ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]);
        for other in ["a.tar", "{0..", "{3..1}.tar", "{0..99999999}.tar", "{x..y}.tar", "{0..9999}{0..9999}"] {
            assert_eq!(names(other), None, "{other}");
        }
    }
}
