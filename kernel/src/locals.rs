//! A `thread_local!` at a cell's own level: evcxr takes the call of a macro for a statement, and forgets what it defines with the cell.

use crate::impls::HIDDEN;
use crate::lexer::Code;

/// What makes each one a module that the next cells find, too, with imports of its names; and the bytes before which it is to stand.
pub fn modules(cell: &str) -> Vec<(usize, String)> {
    let code = Code::new(cell);
    let (mut puts, mut i) = (Vec::new(), 0);
    while i < code.tokens.len() {
        if code.word(i) == "thread_local" && code.is_mark(i + 1, '!') && code.word(i - usize::from(i > 0)) != ":" {
            let (from, to) = (i, code.close(i + 2).unwrap_or(code.tokens.len()));
            puts.extend(module(&code, from, to).unwrap_or_default());
            i = to;
        } else if ["(", "[", "{"].contains(&code.word(i)) {
            i = code.close(i).unwrap_or(code.tokens.len());
        }
        i += 1;
    }
    puts
}

fn module(code: &Code, from: usize, to: usize) -> Option<Vec<(usize, String)>> {
    let is_own = |at: &usize| code.word(*at) == "static" && code.is_name(at + 1) && code.is_mark(at + 2, ':');
    let statics: Vec<usize> = (from..to).filter(is_own).collect();
    let names: Vec<&str> = statics.iter().map(|at| code.word(at + 1)).collect();
    // a macro in brackets other than braces ends in a semicolon, which goes into the module
    let semicolon = code.is_mark(to + 1, ';');
    let behind = if semicolon && !code.is_mark(to, '}') { to + 1 } else { to };
    let last = if semicolon && behind == to { "" } else { ";" };
    let end = code.tokens.get(behind).filter(|_| !names.is_empty())?.at.end;
    let module = format!("{HIDDEN}{}", names.join("_"));
    let at = |token: usize| code.tokens[token].at.start;
    let open = (at(from), format!("mod {module} {{ use super::*; "));
    let public = statics.iter().filter(|at| !["pub", ")"].contains(&code.word(**at - 1))).map(|token| (at(*token), "pub(super) ".into()));
    let close = (end, format!(" }} use {module}::{{{}}}{last}", names.join(", ")));
    Some([open].into_iter().chain(public).chain([close]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite::insert;

    #[test]
    fn its_names_are_those_of_the_cells_own_level() {
        let text = |cell: &str| insert(cell, modules(cell)).0;
        let cell = "let a = 1;\nthread_local! {\n    static A: u8 = const { 1 };\n    #[allow(b)] pub static B: C = f();\n}\na";
        let expected = "let a = 1;\nmod LAFTER_IMPL_A_B { use super::*; thread_local! {\n    pub(super) static A: u8 = const { 1 };\n    \
                        #[allow(b)] pub static B: C = f();\n} } use LAFTER_IMPL_A_B::{A, B};\na";
        assert_eq!(text(cell), expected);
        let expected = "mod LAFTER_IMPL_A { use super::*; thread_local!(pub(super) static A: u8 = 1); } use LAFTER_IMPL_A::{A};";
        assert_eq!(text("thread_local!(static A: u8 = 1);"), expected);
        let expected = "mod LAFTER_IMPL_A { use super::*; thread_local! { pub(super) static A: u8 = 1 } } use LAFTER_IMPL_A::{A}; a";
        assert_eq!(text("thread_local! { static A: u8 = 1 }; a"), expected);
        for other in ["mod m { thread_local! { static A: u8 = 1 } }", "thread_local!()", "thread_local! { static A", "// thread_local! {}"]
        {
            assert_eq!(text(other), other);
        }
    }
}
