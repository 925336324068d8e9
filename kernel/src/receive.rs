//! Requests as they come from the shell socket.
//!
//! `jupyter-protocol` takes some fields for given that the protocol calls optional; a request without them must not be lost.

use jupyter_protocol::{JupyterMessage, JupyterMessageContent};
use jupyter_zmq_client::{RawMessage, RouterRecvConnection, RuntimeError};
use serde_json::{Value, json};
use zeromq::SocketRecv;

/// The next request; an error that is not of the socket concerns one message only.
pub async fn request(shell: &mut RouterRecvConnection) -> Result<JupyterMessage, RuntimeError> {
    let raw = RawMessage::from_multipart(shell.socket.recv().await?, &shell.mac)?;
    let header: jupyter_protocol::Header = serde_json::from_slice(&raw.jparts[0])?;
    let content = completed(&header.msg_type, serde_json::from_slice(&raw.jparts[3])?);
    let content = JupyterMessageContent::from_type_and_content(&header.msg_type, content)
        .map_err(|source| RuntimeError::ParseError { msg_type: header.msg_type.clone(), source })?;
    Ok(JupyterMessage {
        zmq_identities: raw.zmq_identities,
        header,
        parent_header: serde_json::from_slice(&raw.jparts[1]).ok(),
        metadata: serde_json::from_slice(&raw.jparts[2])?,
        content,
        buffers: raw.jparts[4..].to_vec(),
        channel: None,
    })
}

/// Optional fields that are missing, at their defaults.
fn completed(kind: &str, mut content: Value) -> Value {
    let Some(fields) = content.as_object_mut() else { return content };
    let end = json!(fields.get("code").and_then(Value::as_str).unwrap_or_default().chars().count());
    let defaults = match kind {
        "execute_request" => vec![
            ("code", json!("")),
            ("silent", json!(false)),
            ("store_history", json!(true)),
            ("user_expressions", json!({})),
            ("allow_stdin", json!(true)),
            ("stop_on_error", json!(true)),
        ],
        "complete_request" | "inspect_request" => vec![("code", json!("")), ("cursor_pos", end), ("detail_level", json!(0))],
        "is_complete_request" => vec![("code", json!(""))],
        "history_request" => vec![
            ("output", json!(false)),
            ("raw", json!(true)),
            ("hist_access_type", json!("tail")),
            ("pattern", json!("*")),
            ("unique", json!(false)),
            ("n", json!(0)),
            ("session", json!(0)),
            ("start", json!(0)),
            ("stop", json!(0)),
        ],
        "shutdown_request" => vec![("restart", json!(false))],
        _ => vec![],
    };
    for (name, default) in defaults {
        let field = fields.entry(name).or_insert(Value::Null);
        if field.is_null() {
            *field = default;
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_with_a_default_may_be_missing_or_null() {
        let read = |kind: &str, content: Value| JupyterMessageContent::from_type_and_content(kind, completed(kind, content)).unwrap();
        for content in [json!({"code": "é"}), json!({"code": "é", "silent": null, "user_expressions": null, "stop_on_error": null})] {
            let JupyterMessageContent::ExecuteRequest(request) = read("execute_request", content) else { panic!() };
            assert!(!request.silent && request.store_history && request.allow_stdin && request.stop_on_error);
        }
        let JupyterMessageContent::CompleteRequest(request) = read("complete_request", json!({"code": "éa"})) else { panic!() };
        assert_eq!(request.cursor_pos, 2);
        for content in [json!({}), json!({"hist_access_type": "range", "session": null, "start": 1, "stop": null})] {
            assert!(matches!(read("history_request", content), JupyterMessageContent::HistoryRequest(_)));
        }
        read("inspect_request", json!({"code": "a"}));
    }

    #[test]
    fn a_search_need_not_say_whether_it_is_unique() {
        let content = json!({"output": false, "raw": true, "hist_access_type": "search", "pattern": "a*"});
        assert!(JupyterMessageContent::from_type_and_content("history_request", completed("history_request", content)).is_ok());
    }
}
