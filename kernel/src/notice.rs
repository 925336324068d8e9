//! What a reader is told before a cell runs, and what was lost when its process had to end.

use std::collections::HashSet;
use std::path::Path;

use crate::keep::Variable;
use crate::lexer::Code;
use crate::rewrite::loop_bodies;
use crate::shapes::Change;

/// Before a cell that awaits, once a session.
pub const AWAITS: &str = "note: this cell awaits, so tokio is added: it is fetched and compiled first, which takes a while this one time\n";
/// Before a cell that asks as evcxr's own kernel lets it.
const ASKS: &str = "note: evcxr_input gets empty answers in this kernel; input(\"prompt\") asks the reader\n";
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

/// Where a cell names `evcxr_input`, which reads from a standard input that cells do not have.
pub fn asks(cell: &str) -> &'static str {
    let code = Code::new(cell);
    if (0..code.tokens.len()).any(|i| code.word(i) == "evcxr_input") { ASKS } else { "" }
}

/// The statics that were named.
#[derive(Default)]
pub struct Statics(HashSet<String>);

impl Statics {
    /// Once a name, after a cell that defines it: evcxr compiles what is defined into each later cell once more.
    pub fn after(&mut self, cell: &str) -> String {
        let code = Code::new(cell);
        let name = |i: usize| {
            let name = if ["mut", "ref"].contains(&code.word(i + 1)) { i + 2 } else { i + 1 };
            (code.word(i) == "static" && code.is_name(name) && code.is_mark(name + 1, ':')).then(|| code.word(name).to_string())
        };
        let names: Vec<String> = (0..code.tokens.len()).filter_map(name).filter(|name| self.0.insert(name.clone())).collect();
        match &names[..] {
            [] => String::new(),
            names => format!(
                "note: each cell has its own copy of {}, which begins anew; keep state in a variable, such as an Arc<AtomicUsize>\n",
                list(names)
            ),
        }
    }
}

/// Once a session, where the installed library is older than its sources.
pub fn newer(checkout: &Path) -> String {
    format!("note: {} has changed since the kernel was installed; cells use it as it was: install again\n", checkout.display())
}

/// Names, and how many more there are.
pub fn list(names: &[String]) -> String {
    match names.len().checked_sub(MOST_NAMES) {
        Some(more @ 1..) => format!("{} and {more} more", names[..MOST_NAMES].join(", ")),
        _ => names.join(", "),
    }
}

/// Before a cell that changes types or crates: the variables that are dropped, or may be, and those that stay.
pub fn change(change: &Change, all: &[Variable]) -> String {
    let stay = |gone: &[String]| {
        let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).filter(|name| !gone.contains(name)).collect();
        if names.is_empty() { String::new() } else { format!("; kept: {}", list(&names)) }
    };
    let mut text = String::new();
    let gone: Vec<String> = change.gone.iter().filter(|name| !change.made.contains(name)).cloned().collect();
    if !gone.is_empty() {
        let names = list(&change.names);
        text += &format!(
            "note: {names} is defined anew; when the cell runs, what is of the old type is lost: {}{}\n",
            list(&gone),
            stay(&change.gone)
        );
    }
    if !change.in_doubt.is_empty() {
        let crates: Vec<String> = change.crates.iter().map(|(name, old)| format!("{name} was {old} until now")).collect();
        let (crates, names) = (crates.join(", "), list(&change.in_doubt));
        let stay = stay(&change.in_doubt);
        text += &format!("note: {crates}; where that changes the crate, variables of its types and of your own are lost: {names}{stay}\n");
    }
    text
}

/// What was dropped, and how many cells would make it again.
pub fn dropped(unsaid: &[String], cells: usize) -> String {
    let lost =
        if unsaid.is_empty() { String::new() } else { format!("lost, because its type is another one now, or gone: {}", list(unsaid)) };
    let again = again(cells);
    let between = if lost.is_empty() || again.is_empty() { "" } else { "; " };
    if lost.is_empty() && again.is_empty() { String::new() } else { format!("note: {lost}{between}{again}\n") }
}

/// After a cell that returned before its end, with the variables of before that are gone, if it made or took any.
pub fn returned(gone: &[String], made: &[String]) -> String {
    let but = if gone.is_empty() { String::new() } else { format!(" but for {}", list(gone)) };
    match gone.is_empty() && made.is_empty() {
        true => String::new(),
        false => format!("note: the cell returned before its end: what it made is lost; variables from before this cell are kept{but}\n"),
    }
}

fn again(cells: usize) -> String {
    match cells {
        0 => String::new(),
        1 => "%again runs the cell that made them".into(),
        count => format!("%again runs the {count} cells that made or named them"),
    }
}

/// The variables that are gone, those that are back, how many cells would make the former again, and of which of them not all that
/// changed them is known to succeed.
pub fn lost(gone: &[String], back: &[String], earlier: &[String], cells: usize, unsure: &[String]) -> String {
    let mut parts = Vec::new();
    if !back.is_empty() {
        parts.push(format!("back as %keep left them: {}", list(back)));
    }
    match (gone.is_empty(), back.is_empty()) {
        (true, true) if earlier.is_empty() => parts.push("there were no variables to lose".into()),
        (true, _) => {}
        (false, _) => parts.push(format!("variables are lost: {}", list(gone))),
    }
    if !earlier.is_empty() {
        parts.push(format!("lost before: {}", list(earlier)));
    }
    parts.extend(Some(again(cells)).filter(|text| !text.is_empty()));
    if cells > 0 && !unsure.is_empty() {
        parts.push(format!("cells that failed are not run again, whatever they changed of {}", list(unsure)));
    }
    parts.join("; ")
}

/// What `%keep` kept, and what it could not.
pub fn kept(values: &[Variable], bytes: u64, all: &[Variable]) -> String {
    let names = |of: &[Variable]| list(&of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let left: Vec<Variable> = all.iter().filter(|variable| !values.contains(variable)).cloned().collect();
    let kept = if values.is_empty() { "nothing".into() } else { format!("{} ({} kB)", names(values), bytes.div_ceil(1000)) };
    let other = if left.is_empty() { String::new() } else { format!("; not kept: {} (%again makes them anew)", names(&left)) };
    format!("kept: {kept}{other}\n")
}

/// Whether the loops of cells ask for an interrupt, which they do not at higher levels of optimization.
#[derive(Default)]
pub struct Loops {
    level: u32,
    said: bool,
}

impl Loops {
    /// Once a session, before a cell with a loop that would not stop.
    pub fn before(&mut self, cell: &str) -> Option<String> {
        for level in cell.lines().filter_map(|line| line.trim().strip_prefix(":opt")) {
            self.level = match level.trim() {
                "" if self.level == 2 => 0, // as evcxr does
                "" => 2,
                level => level.parse().unwrap_or(self.level),
            };
        }
        if self.level < 2 || self.said || loop_bodies(&Code::new(cell)).is_empty() {
            return None;
        }
        self.said = true;
        let level = self.level;
        Some(format!(
            "note: at :opt {level} loops do not ask for an interrupt; stopping this cell would lose all variables but those of %keep\n"
        ))
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
    fn a_cell_that_asks_in_vain_is_known() {
        assert!(asks(":dep evcxr_input = \"1\"") == ASKS && asks("let a = evcxr_input::get_string(\"Name\");") == ASKS);
        assert_eq!(asks("input(\"evcxr_input\")"), "");
    }

    #[test]
    fn statics_are_named_once() {
        let mut statics = Statics::default();
        assert!(statics.after("pub static COUNT: AtomicUsize = AtomicUsize::new(0);").contains("copy of COUNT, which"));
        assert_eq!(statics.after("static COUNT: AtomicUsize = AtomicUsize::new(0);"), "");
        let others = "thread_local! { static A: u8 = 0 } fn f() { static mut B: u8 = 0; } lazy_static! { static ref C: u8 = 0; }";
        assert!(statics.after(others).contains("copy of A, B, C, which"));
        assert_eq!(statics.after("fn f(a: &'static str) -> Box<dyn Fn() + 'static> {} // static D: u8"), "");
    }

    #[test]
    fn what_is_lost_is_named() {
        let names = |count: usize| vec!["x".to_string(); count];
        assert_eq!(lost(&["a".into(), "b".into()], &[], &[], 0, &[]), "variables are lost: a, b");
        assert!(lost(&names(25), &[], &[], 2, &[]).ends_with("x and 5 more; %again runs the 2 cells that made or named them"));
        assert_eq!(lost(&[], &names(1), &[], 0, &[]), "back as %keep left them: x");
        assert_eq!(lost(&[], &[], &[], 0, &[]), "there were no variables to lose");
        assert_eq!(lost(&[], &[], &names(1), 1, &[]), "lost before: x; %again runs the cell that made them");
    }

    #[test]
    fn a_cell_that_returned_early_says_what_is_lost() {
        assert!(returned(&["n".into()], &[]).ends_with("variables from before this cell are kept but for n\n"));
        assert!(returned(&[], &["n".into()]).ends_with("what it made is lost; variables from before this cell are kept\n"));
        assert_eq!(returned(&[], &[]), "");
    }

    #[test]
    fn a_change_of_types_says_what_stays() {
        let variable = |name: &str| (name.to_string(), "A".to_string());
        let found = Change { names: vec!["A".into()], gone: vec!["a".into()], ..Default::default() };
        let text = change(&found, &[variable("a"), variable("b")]);
        let again = Change { made: vec!["a".into()], names: found.names.clone(), gone: found.gone.clone(), ..Default::default() };
        assert_eq!(change(&again, &[variable("a"), variable("b")]), "");
        assert_eq!(text, "note: A is defined anew; when the cell runs, what is of the old type is lost: a; kept: b\n");
        let crates = vec![("half".to_string(), "\"1\"".to_string())];
        let found = Change { crates, in_doubt: vec!["a".into()], ..Default::default() };
        assert!(change(&found, &[variable("a")]).ends_with("of your own are lost: a\n"));
        assert_eq!(change(&Change::default(), &[variable("a")]), "");
        assert_eq!(dropped(&[], 0), "");
        assert_eq!(
            dropped(&["a".into()], 2),
            "note: lost, because its type is another one now, or gone: a; %again runs the 2 cells that made or named them\n"
        );
    }

    #[test]
    fn loops_that_do_not_ask_are_said_once() {
        let mut loops = Loops::default();
        assert!(loops.before(":opt 2\n:opt\nloop { f() }").is_none(), "evcxr goes back from 2 to 0");
        assert!(Loops::default().before(":opt\nloop { f() }").unwrap().contains(":opt 2"));
        assert!(loops.before("for i in 0..9 { f(i) }").is_none() && loops.before(":opt 2").is_none() && loops.before("f()").is_none());
        assert!(loops.before("for i in 0..9 { f(i) }").unwrap().contains(":opt 2") && loops.before("loop { f() }").is_none());
    }

    #[test]
    fn what_is_kept_is_said() {
        let variable = |name: &str| (name.to_string(), "Clip".to_string());
        let text = kept(&[variable("a")], 1200, &[variable("a"), variable("b")]);
        assert_eq!(text, "kept: a (2 kB); not kept: b (%again makes them anew)\n");
    }
}
