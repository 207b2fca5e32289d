//! Where commands come from: a script, or a terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::command::{Line, line, short};
use crate::status::Stop;

/// A line that has a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Of the line, from 1.
    pub number: usize,
    /// As it was written.
    pub text: String,
    /// What it means, or why it can't be read: that ends a script before it begins.
    pub line: Result<Line, String>,
}

impl Said {
    /// A line with this number; nothing where it is empty or a comment.
    fn read(number: usize, text: &str) -> Option<Self> {
        let line = line(text).transpose()?;
        Some(Self { number, text: text.trim().to_owned(), line })
    }

    /// Where it stands and what it says, for messages.
    pub fn words(&self) -> String {
        format!("line {}: {}", self.number, short(&self.text))
    }
}

/// Lines of commands.
pub enum Input {
    /// All at once.
    Script(std::vec::IntoIter<Said>),
    /// As they are typed.
    Terminal { lines: Receiver<String>, number: usize },
}

/// What an input has now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Line(Said),
    /// A line without a command was typed.
    Empty,
    /// Nobody has typed anything.
    Nothing,
    End,
}

impl Input {
    /// The script in `file`; without one, what is typed, or piped into us.
    ///
    /// # Errors
    /// The file can't be read, or a line of the script has no command of ours.
    pub fn open(file: Option<&Path>) -> Result<Self, Stop> {
        let stdin = std::io::stdin();
        if let Some(file) = file {
            let unread = |error| Stop::refused(format!("cannot read the script {}: {error}", file.display()));
            return Self::script(&std::fs::read_to_string(file).map_err(unread)?);
        }
        if !stdin.is_terminal() {
            return Self::script(&std::io::read_to_string(stdin)?);
        }
        let (sender, lines) = channel();
        // A thread of its own: while nobody types, the kernel is listened to.
        std::thread::spawn(move || stdin.lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self::Terminal { lines, number: 0 })
    }

    fn script(text: &str) -> Result<Self, Stop> {
        let lines = text.lines().enumerate().filter_map(|(place, line)| Said::read(place + 1, line));
        let lines: Vec<_> = lines.collect();
        for said in &lines {
            said.line.as_ref().map_err(|why| Stop::refused(format!("{}: {why}", said.words())))?;
        }
        Ok(Self::Script(lines.into_iter()))
    }

    /// The next line that has a command, if there is one yet.
    pub fn next(&mut self) -> Next {
        match self {
            Self::Script(lines) => lines.next().map_or(Next::End, Next::Line),
            Self::Terminal { lines, number } => match lines.try_recv() {
                Ok(line) => {
                    *number += 1;
                    Said::read(*number, &line).map_or(Next::Empty, Next::Line)
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
        let mut script = Input::script("plug 1G\n\n# the end\n ! quit ").unwrap();
        let lines = std::iter::from_fn(|| match script.next() {
            Next::Line(said) => Some((said.number, said.text)),
            Next::Empty | Next::Nothing | Next::End => None,
        });
        assert_eq!(lines.collect::<Vec<_>>(), [(1, "plug 1G".to_owned()), (4, "! quit".to_owned())]);
        assert_eq!(script.next(), Next::End);
    }

    #[test]
    fn a_script_with_a_line_that_can_not_be_read_is_refused() {
        let why = Input::script("plug 1G\n\n!\nplugg").err().unwrap().why;
        assert!(why.starts_with("line 3: !: write a command"), "{why}");
    }

    #[test]
    fn a_terminal_has_nothing_until_somebody_types() {
        let (typed, lines) = channel();
        let mut terminal = Input::Terminal { lines, number: 0 };
        assert_eq!(terminal.next(), Next::Nothing);
        typed.send(" ".to_owned()).unwrap();
        assert_eq!(terminal.next(), Next::Empty);
        typed.send("showw".to_owned()).unwrap();
        let Next::Line(said) = terminal.next() else { panic!("a line") };
        assert!(said.number == 2 && said.line.is_err(), "who types may go on after a mistake: {said:?}");
        drop(typed);
        assert_eq!(terminal.next(), Next::End);
    }

    #[test]
    fn a_script_that_is_not_there_is_refused() {
        let why = Input::open(Some(Path::new("/nowhere/a.live"))).err().unwrap().why;
        assert!(why.starts_with("cannot read the script /nowhere/a.live"), "{why}");
    }
}
