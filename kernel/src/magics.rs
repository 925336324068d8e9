//! The commands of a cell's first line: `%%time`, `%timeit`, `%vars`, `%cd`, `%env`, `%keep`, `%again`, `%%sh`, `%help`.

use crate::lexer::{Kind, tokens};
use crate::rewrite::Insert;

/// What a cell asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Rust, with evcxr's `:commands` among it. `timed` reports how long compiling and running took.
    Code {
        code: String,
        timed: bool,
    },
    /// The code below, as in those that follow.
    Vars(String),
    /// The shell's name, a script.
    Shell(&'static str, String, String),
    /// Another folder.
    Folder(String, String),
    /// A variable of the environment to show or to set.
    Variable(String, Option<String>, String),
    /// Variables to keep (none: all).
    Keep(Vec<String>, String),
    Again(String),
    /// Documentation in the front end's pager.
    Doc(String),
    Help(String),
    Unknown(String),
}

/// Each command and what it does, as `%help` lists them.
pub const COMMANDS: &[(&str, &str)] = &[
    ("%%time", "runs the cell and says how long it compiled and ran"),
    ("%time CODE", "the same for one line"),
    ("%timeit CODE", "runs a line many times: mean and spread of its time"),
    ("%%timeit", "the same for the whole cell"),
    ("%vars", "variables and their types (also :vars)"),
    ("%%sh", "runs the cell in the shell, %%bash in bash; %sh COMMAND or !COMMAND for one line"),
    ("%cd FOLDER", "another folder for the cells and for !COMMAND (alone: home)"),
    ("%env NAME=VALUE", "sets a variable of the environment for both; %env NAME shows it, %env all"),
    ("%keep NAMES", "writes variables that survive the loss of the cells' process (alone: all that can be written)"),
    ("%again", "after such a loss: runs the cells that made or named the lost variables"),
    ("%help", "this list"),
    (":dep NAME = \"1.2\"", "adds a crate (lafter, candle_core, candle_nn and image are there already)"),
    (":opt 0|1|2|3", "optimization of the cells (the library is always optimized)"),
    ("?ITEM", "documentation in a pane of its own (also ITEM?, Shift-Tab, or :doc ITEM)"),
    (":type NAME", "the type of a variable"),
    (":explain", "rustc's explanation of the last compile error"),
    (":clear", "forgets variables, functions and imports"),
    (":help", "all commands of evcxr"),
];

/// Reads the first line that is no comment; the code keeps its line numbers.
pub fn parse(cell: &str) -> Cell {
    let cell = without_mark(cell);
    let mut trimmed = cell.trim_start();
    while let Some((_, below)) = trimmed.split_once('\n').filter(|_| trimmed.starts_with("//")) {
        trimmed = below.trim_start();
    }
    let above = cell[..cell.len() - trimmed.len()].matches('\n').count();
    let (first, rest) = trimmed.split_once('\n').unwrap_or((trimmed, ""));
    let asked = || first.strip_prefix('?').or(first.trim_end().strip_suffix('?').filter(|item| is_path(item.trim_end_matches('?'))));
    if let (Some(item), "") = (asked(), rest.trim()) {
        return Cell::Doc(item.trim_matches([' ', '?']).to_string());
    }
    let code_below = || format!("{}\n{rest}", "\n".repeat(above));
    if let Some(command) = first.strip_prefix('!') {
        return Cell::Shell("sh", command.trim().to_string(), code_below());
    }
    let Some(command) = first.strip_prefix('%') else {
        return Cell::Code { code: cell.to_string(), timed: false };
    };
    let (whole, command) = command.strip_prefix('%').map_or((false, command), |command| (true, command));
    let (name, argument) = command.split_once(char::is_whitespace).map_or((command, ""), |(name, argument)| (name, argument.trim()));
    // the command's line becomes an empty one, or a line that opens a closure
    let below = |first: &str, last: &str| format!("{}{first}\n{rest}{last}", "\n".repeat(above));
    match (name, whole) {
        ("time", true) => Cell::Code { code: below(argument, ""), timed: true },
        ("time", false) => Cell::Code { code: below(argument, ""), timed: true },
        ("timeit", _) => {
            let argument = if whole { argument } else { without_note(argument) };
            let timed = if whole { format!("{argument}\n{rest}") } else { argument.to_string() };
            let (open, close) = if can_fail(&timed) { FALLIBLE } else { ("{ ", " }") };
            let (first, last) = (format!("lafter::notebook::timeit(|| {open}{argument}"), format!("{close});"));
            let code = if whole { below(&first, &format!("\n{}", last.trim_start())) } else { below(&(first + &last), "") };
            Cell::Code { code, timed: false }
        }
        ("vars" | "who" | "whos", _) => Cell::Vars(code_below()),
        ("sh" | "bash", _) => {
            let shell = if name == "bash" { "bash" } else { "sh" };
            match whole {
                true => Cell::Shell(shell, format!("{argument}\n{rest}").trim().to_string(), String::new()),
                false => Cell::Shell(shell, argument.to_string(), code_below()),
            }
        }
        ("cd", false) => Cell::Folder(unquoted(argument).to_string(), code_below()),
        ("env", false) => {
            let (name, value) = match argument.split_once('=').or_else(|| argument.split_once(char::is_whitespace)) {
                Some((name, value)) => (name.trim(), Some(unquoted(value.trim()).to_string())),
                None => (argument, None),
            };
            Cell::Variable(name.to_string(), value, code_below())
        }
        ("keep", false) => {
            let names = argument.split([' ', ',']).filter(|name| !name.is_empty()).map(String::from).collect();
            Cell::Keep(names, code_below())
        }
        ("again", false) => Cell::Again(code_below()),
        ("help" | "lsmagic", _) => Cell::Help(code_below()),
        _ => Cell::Unknown(first.trim().to_string()),
    }
}

/// A cell without what a file may begin with: a byte order mark, and the name of the program that is to run it.
fn without_mark(cell: &str) -> &str {
    let cell = cell.strip_prefix('\u{feff}').unwrap_or(cell);
    if cell.starts_with("#!") && !cell.starts_with("#![") { &cell[cell.find('\n').unwrap_or(cell.len())..] } else { cell }
}

/// What evcxr would do of a `:command`, and is not to; commands stand above all code.
pub fn refused(code: &str) -> Option<String> {
    let above = code.lines().take_while(|line| line.trim().is_empty() || line.trim().starts_with([':', '!']) || line.starts_with("//"));
    above.filter_map(|line| line.trim().split_once(' ').or(Some((line.trim(), "")))).find_map(|(command, argument)| match command {
        QUIT => Some(format!("{QUIT}: the front end ends the kernel: shut it down there; :restart begins anew here")),
        ":opt" if !["", "0", "1", "2", "3", "s", "z"].contains(&argument.trim()) => {
            Some(format!(":opt {}: no such level; there are 0, 1, 2 and 3", argument.trim()))
        }
        _ => None,
    })
}

/// evcxr's command that ends the process it runs in: ours.
pub const QUIT: &str = ":quit";

/// Around what `%timeit` measures where a `?` may end it: the error is said where it arises, and ends the measurement, too.
const FALLIBLE: (&str, &str) = (
    "match (|| -> ::std::result::Result<_, EvcxrUserCodeError> { Ok({ ",
    " }) })() { Ok(value) => value, Err(_) => ::std::panic::resume_unwind(::std::boxed::Box::new(\"an error\")) }",
);

/// A line of the cell as it was before a command changed it.
pub fn original(line: &str) -> &str {
    let inner = line.strip_prefix("lafter::notebook::timeit(|| ").and_then(|line| {
        let whole = |(open, close): (&str, &str)| line.strip_prefix(open)?.strip_suffix(&format!("{close});"));
        whole(FALLIBLE).or_else(|| whole(("{ ", " }")))
    });
    inner.unwrap_or(line)
}

/// The cell as it is shown in an error, and what is in front of a line that a command changed.
pub fn shown(code: &str) -> (String, Option<Insert>) {
    let changed = code.lines().enumerate().find(|(_, line)| original(line) != *line);
    let Some((index, line)) = changed else { return (code.to_string(), None) };
    let before = line.find(original(line)).unwrap_or(0);
    let insert = Insert { line: index + 1, column: 1, length: line[..before].chars().count() };
    (code.replacen(line, original(line), 1), Some(insert))
}

/// A line without the comment at its end, which would swallow what is put behind it.
fn without_note(line: &str) -> &str {
    let note = tokens(line).pop().filter(|last| last.kind == Kind::Comment && line[last.at.clone()].starts_with("//"));
    note.map_or(line, |note| line[..note.at.start].trim_end())
}

fn can_fail(code: &str) -> bool {
    tokens(code).iter().any(|token| token.kind == Kind::Mark('?'))
}

fn unquoted(text: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(text)
}

/// What a command of the first line does, by its name: "%%time".
pub fn description(name: &str) -> Option<String> {
    let name = match name {
        "%sh" | "%bash" | "%%bash" => "%%sh",
        "%who" | "%whos" => "%vars",
        "%lsmagic" => "%help",
        name => name,
    };
    let named = |(command, _): &&(&str, &str)| command.split(' ').next() == Some(name);
    COMMANDS.iter().find(named).map(|(command, does)| format!("{command}\n\n{does}"))
}

/// A name or a path: `f(x)?` is code.
fn is_path(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "_:.".contains(c))
}

/// The list as text and as HTML.
pub fn help() -> (String, String) {
    let width = COMMANDS.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let text = COMMANDS.iter().map(|(name, does)| format!("{name:width$}  {does}\n")).collect();
    let row = |(name, does): &(&str, &str)| {
        format!("<tr><td style=\"text-align:left\"><code>{name}</code></td><td style=\"text-align:left\">{does}</td></tr>")
    };
    (text, format!("<table>{}</table>", COMMANDS.iter().map(row).collect::<String>()))
}

/// Whether a line may stand above all code: a command, a comment.
pub fn is_above(line: &str) -> bool {
    let bare = line.trim();
    let command = bare.starts_with(':') && !bare.starts_with("::") || line.starts_with('!');
    bare.is_empty() || bare.starts_with("//") || command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: &str, timed: bool) -> Cell {
        Cell::Code { code: code.into(), timed }
    }

    #[test]
    fn lines_stay_where_they_are() {
        assert_eq!(parse("let a = 7 % 2;\na"), code("let a = 7 % 2;\na", false));
        assert_eq!(parse("\n%%time\nlet b = 1;"), code("\n\nlet b = 1;", true));
        assert_eq!(parse("%time f()"), code("f()\n", true));
        assert_eq!(parse("%%timeit\nf(1)"), code("lafter::notebook::timeit(|| { \nf(1)\n});", false));
        assert_eq!(parse("%timeit f(1)"), code("lafter::notebook::timeit(|| { f(1) });\n", false));
        assert_eq!(parse("%timeit f(\"//\") // note"), code("lafter::notebook::timeit(|| { f(\"//\") });\n", false));
        let Cell::Code { code, .. } = parse("%timeit f(1)?") else { panic!() };
        assert!(
            code.starts_with("lafter::notebook::timeit(|| match (|| ") && code.contains("{ f(1)? }") && code.ends_with(" });\n"),
            "{code}"
        );
        assert_eq!(original(code.trim_end()), "f(1)?");
        assert_eq!(original("f(1)?"), "f(1)?");
        let Cell::Code { code, .. } = parse("%%timeit\nlet a = f()?;\na") else { panic!() };
        assert_eq!(code.lines().nth(1), Some("let a = f()?;"));
        assert!(code.lines().last().unwrap().starts_with("}) })()"), "{code}");
    }

    #[test]
    fn commands_without_code() {
        let shell = |script: &str| Cell::Shell("sh", script.into(), "\n".into());
        assert_eq!(parse("%vars"), Cell::Vars("\n".into()));
        assert_eq!(parse("%%sh\necho a\necho b"), Cell::Shell("sh", "echo a\necho b".into(), String::new()));
        assert_eq!(parse("%%bash\n[[ a ]]"), Cell::Shell("bash", "[[ a ]]".into(), String::new()));
        assert_eq!(parse("%bash ls"), Cell::Shell("bash", "ls".into(), "\n".into()));
        assert_eq!(parse("%sh ls -l"), shell("ls -l"));
        assert_eq!(parse("!ls é"), shell("ls é"));
        for cell in ["?Tensor::zeros", "Tensor::zeros?", "??Tensor::zeros", "Tensor::zeros??"] {
            assert_eq!(parse(cell), Cell::Doc("Tensor::zeros".into()), "{cell}");
        }
        assert_eq!(parse("Clip?"), Cell::Doc("Clip".into()));
        assert_eq!(parse("f()?"), code("f()?", false));
        assert_eq!(parse("%help"), Cell::Help("\n".into()));
        assert_eq!(parse("%matplotlib inline"), Cell::Unknown("%matplotlib inline".into()));
        assert_eq!(parse(""), code("", false));
        assert_eq!(parse("!true && false"), shell("true && false"));
    }

    #[test]
    fn code_below_a_command_stays_and_keeps_its_lines() {
        assert_eq!(parse("!ls\nlet a = 1;"), Cell::Shell("sh", "ls".into(), "\nlet a = 1;".into()));
        assert_eq!(parse("%vars\na"), Cell::Vars("\na".into()));
        assert_eq!(parse("%who\na"), Cell::Vars("\na".into()));
        assert_eq!(parse("// c\n\n%help\na"), Cell::Help("\n\n\na".into()));
        assert_eq!(parse("%again\na"), Cell::Again("\na".into()));
        assert_eq!(parse("// c\n// d"), code("// c\n// d", false));
        assert_eq!(parse("\u{feff}%vars"), Cell::Vars("\n".into()));
        assert_eq!(parse("\u{feff}let a = 1;"), code("let a = 1;", false));
        assert_eq!(parse("#!/usr/bin/env rust\na"), code("\na", false));
        assert_eq!(parse("#![allow(a)]\na"), code("#![allow(a)]\na", false));
        assert_eq!(parse("\n%cd \"my data\"\n!ls"), Cell::Folder("my data".into(), "\n\n!ls".into()));
        let set = |value: &str| Cell::Variable("A".into(), Some(value.into()), "\n".into());
        assert_eq!(parse("%env A=b c"), set("b c"));
        assert_eq!(parse("%env A 1"), set("1"));
        assert_eq!(parse("%env A"), Cell::Variable("A".into(), None, "\n".into()));
        assert_eq!(parse("%keep a, b\nf()"), Cell::Keep(vec!["a".into(), "b".into()], "\nf()".into()));
        assert_eq!(parse("%env"), Cell::Variable(String::new(), None, "\n".into()));
    }

    #[test]
    fn what_evcxr_is_not_to_do_is_refused() {
        assert!(refused("// c\n:quit").unwrap().contains("shut it down there"));
        assert!(refused(":dep a = \"1\"\n :opt 7\na").unwrap().starts_with(":opt 7: no such level"));
        for code in [":opt 3", ":opt", ":opt s\na", "a\n:quit", ":vars"] {
            assert_eq!(refused(code), None, "{code}");
        }
    }

    #[test]
    fn an_error_shows_the_line_that_was_written() {
        let Cell::Code { code, .. } = parse("%timeit é + 1") else { panic!() };
        let (text, insert) = shown(&code);
        let insert = insert.unwrap();
        assert_eq!((text.as_str(), insert.line, code.chars().nth(insert.length)), ("é + 1\n", 1, Some('é')));
        assert_eq!(shown("a\nb"), ("a\nb".to_string(), None));
    }

    #[test]
    fn every_command_is_listed() {
        let (text, html) = help();
        for name in ["%%time", "%timeit", "%vars", "%%sh", "%help", ":dep", "%cd", "%env"] {
            assert!(text.contains(name) && html.contains(name), "{name}");
        }
    }

    #[test]
    fn a_command_is_described_by_its_name() {
        assert!(description("%%time").unwrap().contains("how long"));
        assert!(description("%cd").is_some() && description("%none").is_none());
        for (other, name) in
            [("%sh", "%%sh"), ("%bash", "%%sh"), ("%%bash", "%%sh"), ("%who", "%vars"), ("%whos", "%vars"), ("%lsmagic", "%help")]
        {
            assert!(description(other).unwrap().starts_with(name), "{other}");
        }
    }
}
