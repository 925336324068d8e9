//! The evaluator: evcxr with the seed's build folder, our own process for the cells, and errors as failures.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use evcxr::{CommandContext, Error, EvalCallbacks, EvalContext};

use crate::assigned;
use crate::cell::Cell;
use crate::child;
use crate::compile_errors;
use crate::complete;
use crate::definitions;
use crate::environment;
use crate::failure::Failure;
use crate::impls;
use crate::keep::{Kept, Variable};
use crate::known::{Known, Name};
use crate::layout::Layout;
use crate::link;
use crate::locals;
use crate::magics;
use crate::notice;
use crate::private::{self, Of, Private};
use crate::relative;
use crate::rewrite::{self, Insert};
use crate::seed;
use crate::session::Session;
use crate::shapes::{self, Shapes};
use crate::shim;

/// Asks the reader for a line: prompt, whether to hide it.
pub type AskLine<'a> = dyn Fn(&str, bool) -> String + 'a;

pub struct Engine {
    context: CommandContext,
    cell: Arc<Cell>,
    known: Arc<Mutex<Known>>,
    /// Whether cells may await: tokio is there.
    awaits: bool,
    /// Names that are not offered, and the reader's own, which are.
    private: Private,
    own: HashSet<String>,
    kept: Kept,
    shapes: Shapes,
    /// The session's folder.
    session: PathBuf,
    /// How often the cells' process had to be started again.
    restarts: usize,
    /// The checkout, if it has changed since it was installed and that is not said yet.
    newer: Option<PathBuf>,
    /// Whether loops of the cells ask for an interrupt, and whether that they do not was said.
    loops: notice::Loops,
    /// The statics of which it was said that each cell has its own.
    statics: notice::Statics,
    /// Variables in the way of the cell: there is no type any more of the name of theirs.
    untyped: Vec<String>,
    /// Variables that a cell moved, and its number.
    taken: HashMap<String, usize>,
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
        (environment::FOLDER_VARIABLE, &std::env::current_dir().unwrap_or_default()),
    ];
    for (name, value) in settings {
        // SAFETY: as the caller promises.
        unsafe { std::env::set_var(name, value) }
    }
}

impl Engine {
    /// Starts the cell's process and runs the prelude.
    pub fn start(session: &Session, cell: Arc<Cell>, known: Arc<Mutex<Known>>, private: Private) -> Result<Self> {
        link::listen(&session.socket(), cell.clone()).context("listening for the cell's output")?;
        let command = std::process::Command::new(std::env::current_exe()?);
        // evcxr reads the settings of the current folder first, and those are not meant for this kernel either
        let folder = std::env::current_dir().context("asking for the current folder")?;
        let others = folder.join(seed::SETTINGS).exists();
        if others {
            std::env::set_current_dir(session.layout.settings())?;
        }
        let made = EvalContext::with_subprocess_command(command);
        if others {
            std::env::set_current_dir(folder)?;
        }
        let (context, outputs) = made.map_err(|e| anyhow!("{e}"))?;
        drop(outputs); // the cell's process writes to our sockets instead
        let mut context = CommandContext::with_eval_context(context);
        context.execute(seed::PRELUDE).map_err(|e| anyhow!("the prelude does not run: {e}"))?;
        cell.lock().listen_to(&session.folder);
        Ok(Self {
            context,
            cell,
            known,
            awaits: false,
            private,
            own: HashSet::new(),
            kept: Kept::new(&session.folder),
            shapes: Shapes::default(),
            session: session.folder.clone(),
            restarts: 0,
            newer: seed::newer_checkout(&session.layout),
            loops: Default::default(),
            statics: Default::default(),
            untyped: Vec::new(),
            taken: HashMap::new(),
        })
    }

    /// The cell's process: the handle stays right when it is restarted.
    pub fn process(&self) -> Arc<Mutex<Child>> {
        self.context.process_handle()
    }

    /// Where the cells are: what they call the current folder.
    pub fn folder(&self) -> Option<PathBuf> {
        folder(&self.process())
    }

    /// Runs a cell; what a `:command` answers comes back as media.
    pub fn execute(&mut self, code: &str, ask: &AskLine) -> Result<HashMap<String, String>, Failure> {
        if let Some(checkout) = self.newer.take() {
            self.say(&notice::newer(&checkout));
        }
        let Some((behind, first)) = restarts(code) else { return self.execute_all(code, ask) };
        let (commands, below) = code.split_at(behind);
        let mut said = self.execute_all(commands, ask)?;
        if first == seed::RESTART {
            // evcxr takes the variables for still there; it forgets them where a process ends by itself, which this run notices
            if let Ok(mut process) = self.process().lock() {
                let _ = process.kill();
            }
            let _ = self.context.execute(first);
        }
        let failed = |error| Failure::new("Error", format!("the new process does not begin: {error}; restart the kernel"));
        self.context.execute(first).map_err(failed)?;
        if first == seed::PRELUDE {
            self.kept.clear();
        }
        said.extend(self.execute_all(&("\n".repeat(commands.matches('\n').count()) + below), ask)?);
        Ok(said)
    }

    fn execute_all(&mut self, code: &str, ask: &AskLine) -> Result<HashMap<String, String>, Failure> {
        if !self.awaits && notice::awaits(code) {
            self.awaits = true;
            self.say(notice::AWAITS);
        }
        if let Some(note) = self.loops.before(code) {
            self.say(&note);
        }
        self.say(notice::asks(code));
        self.own.extend(private::own(code));
        let before = self.variables();
        let change = self.shapes.before(code, &before);
        self.say(&notice::change(&change, &before));
        let restarts = self.restarts;
        let (file, mut hidden) = (self.session.join(shim::HIDDEN), change.hidden());
        let hide = |hidden: &[String]| match hidden {
            [] => Ok(()),
            names => std::fs::write(&file, names.join("\n")).map_err(|error| Failure::new("Error", format!("{}: {error}", file.display()))),
        };
        hide(&hidden)?;
        self.untyped.clear();
        let mut result = self.run(code, &before, ask);
        if !self.untyped.is_empty() {
            hidden.append(&mut self.untyped);
            hide(&hidden)?;
            result = self.run(code, &before, ask);
        }
        let stays = |(name, _): &Variable| hidden.contains(name) && !change.made.contains(name);
        if result.is_ok() && self.variables().iter().any(stays) {
            result = self.run("();", &before, ask); // definitions alone run nothing that drops a value
        }
        if !hidden.is_empty() {
            let _ = std::fs::remove_file(file);
        }
        let after = self.variables();
        let mut lost = [self.cell.lock().lost.clone(), hidden].concat();
        lost.retain(|name| !after.iter().any(|(there, _)| there == name));
        if !lost.is_empty() && restarts == self.restarts {
            let cells = self.kept.drop(&lost, &change.names, &after);
            let unsaid: Vec<String> = lost.iter().filter(|name| !change.gone.contains(name)).cloned().collect();
            self.say(&notice::dropped(&unsaid, cells));
        }
        if result.is_ok() {
            let statics = self.statics.after(code);
            self.say(&statics);
        }
        self.taken.retain(|name, _| !after.iter().any(|(there, _)| there == name));
        if restarts == self.restarts {
            let number = self.cell.lock().publisher.count;
            let is_taken = |name: &&String| !lost.contains(name) && !after.iter().any(|(there, _)| there == *name);
            // also what the cell itself made, and moved
            let made = if result.is_ok() && !self.cell.lock().returned { change.made.clone() } else { vec![] };
            let names: Vec<String> = before.iter().map(|(name, _)| name.clone()).chain(made).filter(|name| is_taken(&name)).collect();
            self.taken.extend(names.into_iter().map(|name| (name, number)));
        }
        match result.is_ok() {
            true => self.kept.ran(code, &before, &after),
            false if !self.cell.lock().ran().is_zero() => self.kept.failed(code, &before),
            false => {}
        }
        result
    }

    /// Tells the reader, in the cell's output.
    fn say(&self, note: &str) {
        let mut state = self.cell.lock();
        state.publisher.err(note);
        state.publisher.tick();
    }

    /// The same for code that is not the reader's own.
    fn run(&mut self, code: &str, before: &[Variable], ask: &AskLine) -> Result<HashMap<String, String>, Failure> {
        self.cell.lock().code = code.to_string();
        let folder = self.folder().or_else(environment::here).unwrap_or_default();
        let puts = [impls::names(code), relative::folders(code, &folder), locals::modules(code), rewrite::exports(code)].concat();
        let (named, mut inserts) = rewrite::insert(code, puts.clone());
        let mut callbacks = EvalCallbacks { input_reader: &|request| ask(&request.prompt, request.is_password) };
        let [assigned, moved] = [shim::ASSIGNED, shim::MOVED].map(|name| self.session.join(name));
        let _ = std::fs::remove_file(&moved);
        let _ = std::fs::write(&assigned, assigned::names(code, before).join("\n")); // without it such variables are lost, and said to be
        let mut result = self.context.execute_with_callbacks(&named, &mut callbacks);
        let _ = std::fs::remove_file(assigned);
        if let Ok(names) = std::fs::read_to_string(&moved)
            && !self.cell.lock().interrupted
        {
            let lets = assigned::lets(code, &names, before);
            let (named, all) = rewrite::insert(&assigned::without_commands(code), [lets, puts].concat());
            result = self.context.execute_with_callbacks(&named, &mut callbacks);
            inserts = all;
        }
        let result = self.conclude(code, &inserts, before, result);
        let items = self.context.defined_item_names().filter(|name| !impls::is_hidden(name)).map(String::from).collect();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).learn(self.variables(), items);
        result
    }

    fn conclude(
        &mut self,
        code: &str,
        inserts: &[Insert],
        before: &[Variable],
        result: Result<evcxr::EvalOutputs, Error>,
    ) -> Result<HashMap<String, String>, Failure> {
        match result {
            Ok(outputs) => {
                self.shapes.ran(code, shapes::files(&self.session));
                let source = self.context.last_source().unwrap_or_default();
                let end = self.cell.lock().end(&source);
                let after = self.variables();
                let gone = before.iter().map(|(name, _)| name).filter(|name| !after.iter().any(|(there, _)| there == *name)).cloned();
                let gone: Vec<String> = gone.collect();
                if let Some(failure) = end.failure(code, &source, &gone) {
                    return Err(failure);
                }
                let returned = self.cell.lock().returned;
                if returned {
                    self.say(&notice::returned(&gone, &definitions::made(code)));
                }
                Ok(outputs.content_by_mime_type)
            }
            Err(Error::SubprocessTerminated(said)) => {
                // what follows is not what was to stop
                let interrupted = std::mem::take(&mut self.cell.lock().interrupted);
                let restarted = self.context.execute(seed::RESTART);
                self.restarts += 1;
                let (name, why) = match interrupted {
                    true => {
                        let why = "the cell did not stop within 3 s of the interrupt (loops stop, other code does where it calls lafter), \
                                   so its process was ended";
                        ("Interrupted", why.to_string())
                    }
                    false => {
                        let panic = self.cell.lock().last_panic().map_or(String::new(), |panic| format!(" after a panic: {panic}"));
                        ("ProcessEnded", format!("the cell's process ended ({}){panic}", status(&said)))
                    }
                };
                let after = if restarted.is_ok() { "a new one is running" } else { "no new one could be started: restart the kernel" };
                let (reading, mut back) = self.kept.reading(before);
                if !back.is_empty() {
                    let _ = self.context.execute(&reading); // a `?` that fails is no error here: what is there says it
                }
                let there = self.variables();
                back.retain(|name| there.iter().any(|(known, _)| known == name));
                let gone: Vec<String> = before.iter().map(|(name, _)| name.clone()).filter(|name| !back.contains(name)).collect();
                self.kept.lose(&gone, &there);
                let lost = notice::lost(&gone, &back, &self.kept.earlier(&gone), self.kept.again.len(), &self.kept.unsure(&gone));
                Err(Failure::new(name, format!("{why}; {after}; {lost}; imports, functions and types are kept")))
            }
            Err(_) if self.cell.lock().interrupted => {
                self.forget_unfinished();
                Err(Failure::new("Interrupted", "the cell was stopped before it ran; all variables are kept"))
            }
            Err(Error::CompilationErrors(errors)) => {
                self.untyped = compile_errors::untyped(&errors);
                self.untyped.retain(|name| before.iter().any(|(there, _)| there == name));
                Err(compile_errors::failure(&errors, code, inserts, &self.context.last_source().unwrap_or_default(), &self.taken))
            }
            Err(error) => Err(Failure::new("Error", refusal(&error.to_string()))),
        }
    }

    /// Removes what a compiler that was stopped may have written in part: the next one would take it for whole.
    fn forget_unfinished(&self) {
        let target = self.session.join("target");
        let folders = std::fs::read_dir(&target).into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in std::iter::once(target.clone()).chain(folders) {
            let _ = std::fs::remove_dir_all(folder.join("debug/incremental"));
        }
    }

    /// Keeps the named variables, or all that can be written, for the case that the cells' process is lost.
    pub fn keep(&mut self, names: &[String]) -> Result<String, Failure> {
        let all = self.variables();
        let own = self.context.defined_item_names().map(String::from).collect();
        let (code, values) = self.kept.writing(names, &all, &own)?;
        self.run(&code, &all, &|_, _| String::new())?;
        let (variables, bytes) = self.kept.written(values);
        Ok(notice::kept(&variables, bytes, &all))
    }

    /// The cells that made or named the variables that were lost: for `%again`, until it is done.
    pub fn again(&self) -> &[String] {
        &self.kept.again
    }

    /// Before `%again`: kept variables that are there, and that its cells name, are kept as they are now.
    pub fn before_again(&mut self) -> Vec<Variable> {
        let mut all = self.variables();
        let names = self.kept.in_the_way(&all);
        let own = self.context.defined_item_names().map(String::from).collect();
        if let Ok((code, values)) = self.kept.writing(&names, &all, &own)
            && !names.is_empty()
            && self.run(&code, &all, &|_, _| String::new()).is_ok()
        {
            self.kept.written(values);
        }
        self.kept.repeats(true);
        all.retain(|(name, _)| names.contains(name));
        all
    }

    /// After it, whether its cells ran to the end or not: these have their values of before.
    pub fn after_again(&mut self, kept: &[Variable], ended: bool) {
        let (reading, names) = self.kept.reading(kept);
        if !names.is_empty() {
            let _ = self.context.execute(&reading); // what cannot be read stays as the cells made it
        }
        self.kept.repeats(false);
        if ended {
            self.kept.forget();
        }
    }

    /// Name and type of each variable, by name.
    pub fn variables(&self) -> Vec<Variable> {
        let mut variables: Vec<_> = self.context.variables_and_types().map(|(name, kind)| (name.to_string(), kind.to_string())).collect();
        variables.sort();
        variables
    }

    /// What the analyzer finds in scope.
    pub fn in_scope(&mut self, names: Vec<Name>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).in_scope(names);
    }

    /// What stands before a completed name; `before` is the code up to it.
    pub fn owner(&mut self, before: &str) -> Of {
        let word = |text: &str| text.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or("").to_string();
        let Some(value) = before.strip_suffix('.') else { return Of::Path(before.strip_suffix("::").map(word)) };
        let name = word(value);
        if name.is_empty() || value[..value.len() - name.len()].ends_with('.') {
            return Of::Value(None);
        }
        let known = self.context.variables_and_types().find(|(variable, _)| *variable == name).map(|(_, kind)| kind.to_string());
        // a variable of this cell: the analyzer says `let v: Vec<i32>`
        let asked = || complete::hover(self, value).and_then(|(text, _)| Some(text.split_once(&format!("{name}: "))?.1.to_string()));
        Of::Value(known.or_else(asked).map(|kind| private::type_name(&kind).to_string()))
    }

    /// Whether a completion is of a name that cells cannot use.
    pub fn hides(&self, name: &str, kind: &str, of: &Of) -> bool {
        let bare = name.split(['(', '!', '<', ':', ' ']).next().unwrap_or(name);
        impls::is_hidden(bare) || !self.own.contains(bare) && self.private.hides(bare, kind, of)
    }

    pub fn context(&mut self) -> &mut CommandContext {
        &mut self.context
    }
}

/// Behind evcxr's commands that start a new process, and what that one has to run first: commands stand above all code.
fn restarts(code: &str) -> Option<(usize, &'static str)> {
    let (mut found, mut behind) = (None, 0);
    for line in code.split_inclusive('\n') {
        behind += line.len();
        match line.trim().split(' ').next().unwrap_or_default() {
            ":clear" => found = Some((behind, seed::PRELUDE)),
            ":restart" => found = Some((behind, found.map_or(seed::RESTART, |(_, first)| first))),
            _ if magics::is_above(line) => {}
            _ => break,
        }
    }
    found
}

/// The current folder of a process.
pub fn folder(process: &Mutex<Child>) -> Option<PathBuf> {
    let number = process.try_lock().ok()?.id();
    std::fs::read_link(format!("/proc/{number}/cwd")).ok()
}

/// "… Subprocess terminated with status: signal: 6 (SIGABRT) (core dumped)" → "signal: 6 (SIGABRT)".
fn status(said: &str) -> &str {
    let status = said.split_once("terminated with status: ").map_or(said, |(_, status)| status).trim();
    status.strip_suffix(" (core dumped)").unwrap_or(status)
}

/// What our stand-in for Cargo refused, without what evcxr says around it.
fn refusal(said: &str) -> &str {
    let ours = said.strip_prefix("Compilation failed, but no parsable errors were found. STDERR:\nerror: ");
    ours.and_then(|rest| rest.split_once("\nSTDOUT:")).map_or(said, |(why, _)| why.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_start_a_new_process_are_found_above_the_code() {
        assert_eq!(restarts(":restart\nlet a = 1;"), Some((9, seed::RESTART)));
        assert_eq!(restarts("// anew\n:opt 2\n :clear"), Some((22, seed::PRELUDE)));
        assert_eq!(restarts(":clear\n:restart\na"), Some((16, seed::PRELUDE)));
        assert_eq!(restarts("let a = \"\n:clear\n\";"), None);
        assert_eq!(restarts(":clear_cache\na"), None);
    }

    #[test]
    fn what_is_refused_is_said_in_one_line() {
        let said = "Compilation failed, but no parsable errors were found. STDERR:\nerror: restart the kernel\n\nSTDOUT:\n";
        assert_eq!(super::refusal(said), "restart the kernel");
        assert_eq!(super::refusal("The variable `f` is a closure"), "The variable `f` is a closure");
    }

    #[test]
    fn the_end_of_a_process_is_said_in_few_words() {
        assert_eq!(super::status("Subprocess terminated with status: signal: 6 (SIGABRT) (core dumped)"), "signal: 6 (SIGABRT)");
        assert_eq!(super::status("Subprocess terminated with status: exit status: 3"), "exit status: 3");
    }
}
