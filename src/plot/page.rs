//! A page of figures: one HTML file that needs no other file.

use super::canvas::escape;
use super::figure::Figure;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c1c1c; --ground: #f6f6f4; --rule: #d5d5d0; --soft: #555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --ground: #17181a; --rule: #3a3b3e; --soft: #a5a5a2; } }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 760px; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; }
table { margin: 1rem 0; font-size: .95rem; }
.wide { overflow-x: auto; }
th, td { border-bottom: 1px solid var(--rule); }
figure { margin: 2rem 0; overflow-x: auto; }
figcaption { color: var(--soft); margin-top: .5rem; }
";

/// A self-contained page: heading, introduction, the table of results, then the figures with their captions. It follows the
/// reader's light or dark setting.
///
/// `title` and captions are plain text; `intro` and `table` are HTML and must be escaped already
/// ([`crate::eval::Table::to_html`] is).
///
/// ```
/// let figure = lafter::plot::confusion(&[vec![1]], &["river".to_string()])?;
/// let html = lafter::plot::index_html("Demo", "<p>Three numbers.</p>", &[("Confusion".to_string(), figure)], "");
/// assert!(html.starts_with("<!doctype html>") && html.contains("<svg"));
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn index_html(title: &str, intro: &str, figures: &[(String, Figure)], table: &str) -> String {
    let title = escape(title);
    let figures: String = figures
        .iter()
        .map(|(caption, figure)| format!("<figure>\n{}<figcaption>{}</figcaption>\n</figure>\n", figure.svg(), escape(caption)))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n{intro}\n<div class=\"wide\">{table}</div>\n{figures}</body>\n</html>\n"
    )
}
