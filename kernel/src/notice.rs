//! What a reader is told before a cell runs, and what was lost when its process had to end.

use crate::lexer::Code;

/// Before a cell that awaits, once a session.
pub const AWAITS: &str = "note: this cell awaits, so tokio is added: it is fetched and compiled first, which takes a while this one time\n";
/// More names are only counted.
const MOST_NAMES: usize = 20;

/// Whether the cell awaits at its own level: evcxr then adds tokio.
pub fn awaits(cell: &str) -> bool {
    let code = Code::new(cell);
    let mut inside = Vec::new(); // for each open brace, whether it is of an async function or block
    let mut since_async = false;
    for i in 0..code.tokens.len() {
        match code.word(i) {
            "async" => since_async = true,
            "{" => inside.push(std::mem::take(&mut since_async)),
            "}" => drop(inside.pop()),
            ";" => since_async = false,
            "await" if i > 0 && code.is_mark(i - 1, '.') && !inside.contains(&true) && !since_async => return true,
            _ => {}
        }
    }
    false
}

/// The variables that are gone, by name.
pub fn lost(names: &[&str]) -> String {
    match names.len() {
        0 => "there were no variables to lose".into(),
        count if count > MOST_NAMES => format!("variables are lost: {} and {} more", names[..MOST_NAMES].join(", "), count - MOST_NAMES),
        _ => format!("variables are lost: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_awaits_is_known() {
        assert!(awaits("let a = f().await?;") && awaits("if x { f().await; }"));
        assert!(!awaits("async fn f() { g().await }\nlet a = async { g().await };") && !awaits("// x.await"));
        assert!(awaits("let f = async { g().await };\nf.await"));
    }

    #[test]
    fn what_is_lost_is_named() {
        assert_eq!(lost(&["a", "b"]), "variables are lost: a, b");
        assert!(lost(&["x"; 25]).ends_with("x and 5 more"));
    }
}
