//! A variable that a cell's last expression moves: `plot::bars("…", "%", &classes, &[series], …)`.
//!
//! evcxr stores every variable after a cell and drops those that the compiler reports as moved (E0382). The same message also
//! points at the line that displays the last expression. evcxr then rewrites that line, too, and shows the value by `Debug`
//! instead of as a figure. So we cut the message to its first place.

use serde_json::Value;

/// What Cargo said, one JSON object per line, with those messages cut.
pub fn named_once(said: &[u8]) -> Vec<u8> {
    let lines = said.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| cut(line).unwrap_or_else(|| line.to_vec())).collect()
}

/// `None` for all other messages.
fn cut(line: &[u8]) -> Option<Vec<u8>> {
    let mut said: Value = serde_json::from_slice(line).ok()?;
    let message = said.get_mut("message")?;
    if message.pointer("/code/code")? != "E0382" {
        return None;
    }
    let spans = message.get_mut("spans")?.as_array_mut()?;
    spans.retain(|span| span["is_primary"] == true);
    let text = spans.first()?.pointer("/text/0/text")?.as_str()?;
    if !text.trim_start().starts_with("evcxr_variable_store.put_variable") {
        return None; // the reader's own line
    }
    message["children"] = Value::Array(Vec::new());
    let mut cut = said.to_string().into_bytes();
    cut.push(b'\n');
    Some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_put_away_is_named() {
        let place = |primary: bool, text: &str| json!({"is_primary": primary, "text": [{"text": text}]});
        let message = |code: &str, first: &str| {
            let spans = [place(false, "(f(&[row])).evcxr_display();"), place(true, first)];
            format!("{}\n", json!({"message": {"code": {"code": code}, "spans": spans, "children": [{"spans": [place(true, "row")]}]}}))
        };
        let put = "    evcxr_variable_store.put_variable::<i32>(stringify!(row), row);";
        let said = message("E0382", put) + "no JSON\n" + &message("E0382", "f(row);") + &message("E0425", put);
        let right = String::from_utf8(named_once(said.as_bytes())).unwrap();
        let (first, rest) = right.split_once('\n').unwrap();
        let first: Value = serde_json::from_str(first).unwrap();
        assert_eq!(first["message"]["spans"], json!([place(true, put)]));
        assert_eq!(first["message"]["children"], json!([]));
        assert_eq!(rest, said.split_once('\n').unwrap().1);
    }
}
