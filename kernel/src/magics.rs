//! The commands of a cell's first line: `%%time`, `%timeit`, `%vars`, `%%sh`, `%help`.

/// What a cell asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Rust, with evcxr's `:commands` among it. `timed` reports how long compiling and running took.
    Code {
        code: String,
        timed: bool,
    },
    Vars,
    Shell(String),
    /// Documentation in the front end's pager.
    Doc(String),
    Help,
    Unknown(String),
}

/// Each command and what it does, as `%help` lists them.
pub const COMMANDS: &[(&str, &str)] = &[
    ("%%time", "runs the cell and says how long it compiled and ran"),
    ("%time CODE", "the same for one line"),
    ("%timeit CODE", "runs a line many times: mean and spread of its time"),
    ("%%timeit", "the same for the whole cell"),
    ("%vars", "variables and their types (also :vars)"),
    ("%%sh", "runs the cell in the shell; %sh COMMAND or !COMMAND for one line"),
    ("%help", "this list"),
    (":dep NAME = \"1.2\"", "adds a crate (lafter, candle_core, candle_nn and image are there already)"),
    (":opt 0|1|2|3", "optimization of the cells (the library is always optimized)"),
    ("?ITEM", "documentation in a pane of its own (also Shift-Tab, or :doc ITEM)"),
    (":type NAME", "the type of a variable"),
    (":explain", "rustc's explanation of the last compile error"),
    (":clear", "forgets variables, functions and imports"),
    (":help", "all commands of evcxr"),
];

/// Reads the first line; the code keeps its line numbers.
pub fn parse(cell: &str) -> Cell {
    let trimmed = cell.trim_start();
    let above = cell[..cell.len() - trimmed.len()].matches('\n').count();
    let (first, rest) = trimmed.split_once('\n').unwrap_or((trimmed, ""));
    if let (Some(item), "") = (first.strip_prefix('?').or(first.trim_end().strip_suffix('?').filter(|item| is_path(item))), rest.trim()) {
        return Cell::Doc(item.trim().to_string());
    }
    let Some(command) = first.strip_prefix('%').or_else(|| first.strip_prefix('!').filter(|_| !rest.contains('!')).and(Some(first))) else {
        return Cell::Code { code: cell.to_string(), timed: false };
    };
    if let Some(command) = command.strip_prefix('!') {
        return Cell::Shell(command.trim().to_string());
    }
    let (whole, command) = command.strip_prefix('%').map_or((false, command), |command| (true, command));
    let (name, argument) = command.split_once(char::is_whitespace).map_or((command, ""), |(name, argument)| (name, argument.trim()));
    // the command's line becomes an empty one, or a line that opens a closure
    let below = |first: &str, last: &str| format!("{}{first}\n{rest}{last}", "\n".repeat(above));
    match (name, whole) {
        ("time", true) => Cell::Code { code: below(argument, ""), timed: true },
        ("time", false) => Cell::Code { code: below(argument, ""), timed: true },
        ("timeit", true) => Cell::Code { code: below(&format!("lafter::notebook::timeit(|| {{ {argument}"), "\n});"), timed: false },
        ("timeit", false) => Cell::Code { code: below(&format!("lafter::notebook::timeit(|| {{ {argument} }});"), ""), timed: false },
        ("vars" | "who" | "whos", _) => Cell::Vars,
        ("sh" | "bash", true) => Cell::Shell(format!("{argument}\n{rest}").trim().to_string()),
        ("sh" | "bash", false) => Cell::Shell(argument.to_string()),
        ("help" | "lsmagic", _) => Cell::Help,
        _ => Cell::Unknown(first.trim().to_string()),
    }
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
    }

    #[test]
    fn commands_without_code() {
        assert_eq!(parse("%vars"), Cell::Vars);
        assert_eq!(parse("%%sh\necho a\necho b"), Cell::Shell("echo a\necho b".into()));
        assert_eq!(parse("%sh ls -l"), Cell::Shell("ls -l".into()));
        assert_eq!(parse("!ls é"), Cell::Shell("ls é".into()));
        assert_eq!(parse("?Tensor::zeros"), Cell::Doc("Tensor::zeros".into()));
        assert_eq!(parse("Clip?"), Cell::Doc("Clip".into()));
        assert_eq!(parse("f()?"), code("f()?", false));
        assert_eq!(parse("%help"), Cell::Help);
        assert_eq!(parse("%matplotlib inline"), Cell::Unknown("%matplotlib inline".into()));
        assert_eq!(parse(""), code("", false));
        assert_eq!(parse("!true && false"), Cell::Shell("true && false".into()));
    }

    #[test]
    fn every_command_is_listed() {
        let (text, html) = help();
        for name in ["%%time", "%timeit", "%vars", "%%sh", "%help", ":dep"] {
            assert!(text.contains(name) && html.contains(name), "{name}");
        }
    }
}
