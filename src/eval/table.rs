//! A small table: aligned text in a terminal, HTML in a notebook and on a page.

use std::fmt;

use unicode_width::UnicodeWidthStr;

use crate::notebook::print_media;

/// Rows of text below a header. The first column is aligned left; the others, mostly numbers, right.
///
/// ```
/// let mut table = lafter::eval::Table::new(&["run", "top-1 %"]);
/// table.push(["zero-shot".into(), "61.2".into()]);
/// assert_eq!(table.to_string(), "run        top-1 %\n---------  -------\nzero-shot     61.2\n");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: AsRef<str>>(header: &[S]) -> Self {
        Self { header: header.iter().map(|cell| cell.as_ref().to_string()).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing stay empty, and cells beyond the header get columns without a name.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        // a class name may hold a line break or a tab
        let plain = |cell: String| cell.replace(|c: char| c.is_control(), " ");
        self.rows.push(row.into_iter().map(plain).collect());
        let width = self.rows.iter().map(Vec::len).max().unwrap_or(0).max(self.header.len());
        self.header.resize(width, String::new());
        self.rows.iter_mut().for_each(|row| row.resize(width, String::new()));
    }

    /// Rows below the header.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The same as an HTML table, all text escaped.
    pub fn to_html(&self) -> String {
        let line = |cells: &[String], tag: &str| {
            let cell = |(i, cell): (usize, &String)| {
                let align = if i == 0 { "left" } else { "right" };
                format!("<{tag} style=\"text-align:{align};padding:.2em .7em\">{}</{tag}>", escape(cell))
            };
            format!("<tr>{}</tr>", cells.iter().enumerate().map(cell).collect::<String>())
        };
        let rows: String = self.rows.iter().map(|row| line(row, "td")).collect();
        let header = line(&self.header, "th");
        format!(
            "<table style=\"border-collapse:collapse;font-variant-numeric:tabular-nums\"><thead>{header}</thead><tbody>{rows}</tbody></table>"
        )
    }

    /// The same in Markdown (GitHub's tables).
    pub fn to_markdown(&self) -> String {
        let safe = |cell: &String| cell.replace('|', "\\|").replace(['\n', '\r'], " ");
        let line = |cells: &[String]| format!("| {} |\n", cells.iter().map(safe).collect::<Vec<_>>().join(" | "));
        let rule: String = (0..self.header.len()).map(|i| if i == 0 { "|---|" } else { "---:|" }).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{rule}\n{rows}", line(&self.header))
    }

    /// The same as a LaTeX `tabular` with booktabs' rules. Latin and Greek letters print with every LaTeX, others need XeLaTeX or
    /// LuaLaTeX and a font that has them.
    pub fn to_latex(&self) -> String {
        let line = |cells: &[String]| format!("{} \\\\\n", cells.iter().map(|cell| latex(cell)).collect::<Vec<_>>().join(" & "));
        let columns: String = (0..self.header.len()).map(|i| if i == 0 { 'l' } else { 'r' }).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        let header = line(&self.header);
        format!(
            "% \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{header}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n"
        )
    }

    /// The same as comma-separated values, quoted where needed (RFC 4180).
    pub fn to_csv(&self) -> String {
        let quote = |cell: &String| match cell.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.clone(),
        };
        let line = |row: &Vec<String>| row.iter().map(quote).collect::<Vec<_>>().join(",") + "\n";
        [&self.header].into_iter().chain(&self.rows).map(line).collect()
    }

    /// Shows the table in a notebook (called by evcxr).
    pub fn evcxr_display(&self) {
        print_media(self);
    }
}

/// Text that is safe inside an HTML element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text that LaTeX prints as it is.
fn latex(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => safe.extend(['\\', c]),
            // at the start of a row they would be an option of the line break before
            '[' | '*' => safe.extend(['{', c, '}']),
            '\\' => safe.push_str("\\textbackslash{}"),
            '~' => safe.push_str("\\textasciitilde{}"),
            '^' => safe.push_str("\\textasciicircum{}"),
            // other signs in LaTeX's oldest, still usual, encoding of fonts
            '<' => safe.push_str("\\textless{}"),
            '>' => safe.push_str("\\textgreater{}"),
            '|' => safe.push_str("\\textbar{}"),
            '–' => safe.push_str("--"),
            '-' if safe.ends_with('-') => safe.push_str("{}-"), // two would become a dash
            c if c.is_whitespace() => safe.push(' '),
            c => match MATHS.split_whitespace().find_map(|sign| sign.strip_prefix(c)) {
                Some(name) => safe.extend(["$\\", name, "$"]),
                None => safe.push(c),
            },
        }
    }
    safe
}

/// Signs that LaTeX has in formulas only, each before its name there.
const MATHS: &str = "±pm ≤leq ≥geq ≠neq →to ∞infty αalpha βbeta γgamma δdelta εvarepsilon ζzeta ηeta θtheta ιiota κkappa λlambda \
    μmu νnu ξxi πpi ρrho σsigma τtau φphi χchi ψpsi ωomega ΓGamma ΔDelta ΘTheta ΛLambda ΞXi ΠPi ΣSigma ΦPhi ΨPsi ΩOmega";

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths: Vec<usize> = self.header.iter().map(|cell| cell.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        for row in [&self.header, &rule].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let room = " ".repeat(width.saturating_sub(cell.width()));
                line += &if i == 0 { format!("{cell}{room}") } else { format!("  {room}{cell}") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} rows: {})", self.rows.len(), self.header.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ragged_rows_and_markup_are_safe() {
        let mut table = Table::new(&["a<b", "c"]);
        table.push(["é & ü".to_string()]);
        table.push(["1".to_string(), "2".to_string(), "3".to_string()]);
        let html = table.to_html();
        assert!(html.contains("a&lt;b") && html.contains("é &amp; ü"));
        assert_eq!(html.matches("<td").count(), 6); // the third cell has a column without a name
        assert_eq!(table.to_string().lines().count(), 4);
    }

    #[test]
    fn letters_that_fill_two_columns_are_aligned() {
        let mut table = Table::new(&["class", "n"]);
        table.push(["金门大桥".to_string(), "1".to_string()]);
        table.push(["cat".to_string(), "22".to_string()]);
        assert_eq!(table.to_string(), "class      n\n--------  --\n金门大桥   1\ncat       22\n");
    }

    #[test]
    fn other_forms_escape_what_they_must() {
        let mut table = Table::new(&["set_ting", "top-1 %"]);
        table.push(["a|b, \"c\"".to_string(), "1.00 ± 0.10".to_string()]);
        assert_eq!(table.to_markdown(), "| set_ting | top-1 % |\n|---|---:|\n| a\\|b, \"c\" | 1.00 ± 0.10 |\n");
        assert_eq!(table.to_csv(), "set_ting,top-1 %\n\"a|b, \"\"c\"\"\",1.00 ± 0.10\n");
        table.push(["[0.2,1] σ\n<&>".to_string(), "*".to_string()]);
        assert!(table.to_markdown().ends_with("| [0.2,1] σ <&> | * |\n"));
        assert!(table.to_latex().contains("{[}0.2,1] $\\sigma$ \\textless{}\\&\\textgreater{} & {*} \\\\\n"), "{}", table.to_latex());
        assert!(table.to_latex().contains("set\\_ting & top-1 \\% \\\\\n") && table.to_latex().contains("$\\pm$"));
    }
}
