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
    if kind == "history_request"
        && let Some(fields) = content.as_object_mut()
    {
        for (name, default) in [
            ("pattern", json!("*")),
            ("unique", json!(false)),
            ("n", json!(0)),
            ("session", json!(0)),
            ("start", json!(0)),
            ("stop", json!(0)),
        ] {
            fields.entry(name).or_insert(default);
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_need_not_say_whether_it_is_unique() {
        let content = json!({"output": false, "raw": true, "hist_access_type": "search", "pattern": "a*"});
        assert!(JupyterMessageContent::from_type_and_content("history_request", completed("history_request", content)).is_ok());
    }
}
