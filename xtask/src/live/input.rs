//! Where commands come from: a script, or a terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use crate::status::Stop;

/// A line of commands and its number, from 1.
pub type Numbered = (usize, String);

/// Lines of commands.
pub enum Input {
    /// All at once.
    Script(std::vec::IntoIter<Numbered>),
    /// As they are typed.
    Terminal { lines: Receiver<String>, number: usize },
}

/// What an input has now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Line(Numbered),
    /// Nobody has typed anything.
    Nothing,
    End,
}

impl Input {
    /// The script in `file`; without one, what is typed, or piped into us.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open(file: Option<&Path>) -> Result<Self, Stop> {
        let stdin = std::io::stdin();
        if let Some(file) = file {
            let unread = |error| Stop::refused(format!("cannot read the script {}: {error}", file.display()));
            return Ok(Self::script(&std::fs::read_to_string(file).map_err(unread)?));
        }
        if !stdin.is_terminal() {
            return Ok(Self::script(&std::io::read_to_string(stdin)?));
        }
        let (sender, lines) = channel();
        // A thread of its own: while nobody types, the kernel is listened to.
        std::thread::spawn(move || stdin.lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self::Terminal { lines, number: 0 })
    }

    fn script(text: &str) -> Self {
        let lines: Vec<_> = text.lines().enumerate().map(|(place, line)| (place + 1, line.to_owned())).collect();
        Self::Script(lines.into_iter())
    }

    /// The next line, if there is one yet.
    pub fn next(&mut self) -> Next {
        match self {
            Self::Script(lines) => lines.next().map_or(Next::End, Next::Line),
            Self::Terminal { lines, number } => match lines.try_recv() {
                Ok(line) => {
                    *number += 1;
                    Next::Line((*number, line))
                }
                Err(TryRecvError::Empty) => Next::Nothing,
                Err(TryRecvError::Disconnected) => Next::End,
            },
        }
    }

    /// Whether somebody types, who sees what was typed, and may go on after a mistake.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Asks for a line.
    pub fn prompt(&self) {
        if self.is_terminal() {
            print!("live> ");
            let _ = std::io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_script_have_numbers() {
        let mut script = Input::script("plug 1G\n\nquit");
        let lines = std::iter::from_fn(|| match script.next() {
            Next::Line(line) => Some(line),
            Next::Nothing | Next::End => None,
        });
        assert_eq!(lines.collect::<Vec<_>>(), [(1, "plug 1G".to_owned()), (2, String::new()), (3, "quit".to_owned())]);
        assert_eq!(script.next(), Next::End);
    }

    #[test]
    fn a_terminal_has_nothing_until_somebody_types() {
        let (typed, lines) = channel();
        let mut terminal = Input::Terminal { lines, number: 0 };
        assert_eq!(terminal.next(), Next::Nothing);
        typed.send("show".to_owned()).unwrap();
        assert_eq!(terminal.next(), Next::Line((1, "show".to_owned())));
        drop(typed);
        assert_eq!(terminal.next(), Next::End);
    }

    #[test]
    fn a_script_that_is_not_there_is_refused() {
        let why = Input::open(Some(Path::new("/nowhere/a.live"))).err().unwrap().why;
        assert!(why.starts_with("cannot read the script /nowhere/a.live"), "{why}");
    }
}
