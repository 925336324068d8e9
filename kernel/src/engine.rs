//! The evaluator: evcxr with the seed's build folder, our own process for the cells, and errors as failures.

use std::collections::HashMap;
use std::process::Child;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use evcxr::{CommandContext, Error, EvalCallbacks, EvalContext};

use crate::cell::Cell;
use crate::child;
use crate::compile_errors;
use crate::failure::Failure;
use crate::layout::Layout;
use crate::link;
use crate::seed;
use crate::session::Session;

/// Asks the reader for a line: prompt, whether to hide it.
pub type AskLine<'a> = dyn Fn(&str, bool) -> String + 'a;

pub struct Engine {
    context: CommandContext,
    cell: Arc<Cell>,
}

/// Sets what evcxr and Cargo read from the environment.
///
/// # Safety
/// Only before any thread is started.
pub unsafe fn set_environment(layout: &Layout, session: &Session) {
    let settings = [
        ("EVCXR_TMPDIR", session.folder.as_path()),
        ("EVCXR_CONFIG_DIR", &layout.settings()), // a reader's own evcxr settings are not meant for this kernel
        (child::SOCKET_VARIABLE, &session.socket()),
    ];
    for (name, value) in settings {
        // SAFETY: as the caller promises.
        unsafe { std::env::set_var(name, value) }
    }
}

impl Engine {
    /// Starts the cell's process and runs the prelude.
    pub fn start(session: &Session, cell: Arc<Cell>) -> Result<Self> {
        link::listen(&session.socket(), cell.clone()).context("listening for the cell's output")?;
        let command = std::process::Command::new(std::env::current_exe()?);
        let (context, outputs) = EvalContext::with_subprocess_command(command).map_err(|e| anyhow!("{e}"))?;
        drop(outputs); // the cell's process writes to our sockets instead
        let mut context = CommandContext::with_eval_context(context);
        context.execute(seed::PRELUDE).map_err(|e| anyhow!("the prelude does not run: {e}"))?;
        cell.lock().mute = false;
        Ok(Self { context, cell })
    }

    /// The cell's process: the handle stays right when it is restarted.
    pub fn process(&self) -> Arc<Mutex<Child>> {
        self.context.process_handle()
    }

    /// Runs a cell; what a `:command` answers comes back as media.
    pub fn execute(&mut self, code: &str, ask: &AskLine) -> Result<HashMap<String, String>, Failure> {
        let result = self
            .context
            .execute_with_callbacks(code, &mut EvalCallbacks { input_reader: &|request| ask(&request.prompt, request.is_password) });
        match result {
            Ok(outputs) => {
                let end = self.cell.lock().end();
                let source = self.context.last_source().unwrap_or_default();
                end.failure(code, &source).map_or(Ok(outputs.content_by_mime_type), Err)
            }
            Err(Error::SubprocessTerminated(said)) => {
                let restarted = self.context.execute(seed::RESTART);
                let state = self.cell.lock();
                let why = match state.interrupted {
                    true => "the cell did not stop within 3 s of the interrupt, so its process was ended".to_string(),
                    false => format!("the cell's process ended ({})", status(&said)),
                };
                let after = if restarted.is_ok() { "a new one is running" } else { "no new one could be started: restart the kernel" };
                let name = if state.interrupted { "Interrupted" } else { "ProcessEnded" };
                Err(Failure::new(name, format!("{why}; {after}; variables are lost, imports and functions are kept")))
            }
            Err(_) if self.cell.lock().interrupted => {
                Err(Failure::new("Interrupted", "the cell was stopped before it ran; all variables are kept"))
            }
            Err(Error::CompilationErrors(errors)) => Err(compile_errors::failure(&errors, code)),
            Err(error) => Err(Failure::new("Error", error.to_string())),
        }
    }

    /// Name and type of each variable, by name.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut variables: Vec<_> = self.context.variables_and_types().map(|(name, kind)| (name.to_string(), kind.to_string())).collect();
        variables.sort();
        variables
    }

    pub fn context(&mut self) -> &mut CommandContext {
        &mut self.context
    }
}

/// "… Subprocess terminated with status: signal: 6 (SIGABRT) (core dumped)" → "signal: 6 (SIGABRT)".
fn status(said: &str) -> &str {
    let status = said.split_once("terminated with status: ").map_or(said, |(_, status)| status).trim();
    status.strip_suffix(" (core dumped)").unwrap_or(status)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_end_of_a_process_is_said_in_few_words() {
        assert_eq!(super::status("Subprocess terminated with status: signal: 6 (SIGABRT) (core dumped)"), "signal: 6 (SIGABRT)");
        assert_eq!(super::status("Subprocess terminated with status: exit status: 3"), "exit status: 3");
    }
}
