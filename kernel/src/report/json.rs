//! JSON, as much of it as the reports need.

use alloc::string::String;
use core::fmt::{Display, Write};

/// A JSON object under construction.
#[derive(Debug, Default)]
pub struct Object {
    text: String,
}

impl Object {
    /// An object made by `fill`.
    pub fn with(fill: impl FnOnce(&mut Self)) -> Self {
        let mut object = Self::default();
        fill(&mut object);
        object
    }

    /// A member whose value is JSON already, or displays as JSON: a number, `true`, `null`, another object.
    pub fn value(&mut self, key: &str, value: impl Display) {
        let comma = if self.text.is_empty() { "" } else { "," };
        write!(self.text, "{comma}\"{key}\":{value}").expect("the heap has room for a report");
    }

    /// A member that may be null.
    pub fn optional(&mut self, key: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(key, value),
            None => self.value(key, "null"),
        }
    }

    /// A text member.
    pub fn text(&mut self, key: &str, text: &str) {
        self.value(key, format_args!("\"{}\"", Escaped(text)));
    }

    /// An address or a descriptor: a `"0x.."` string.
    pub fn hex(&mut self, key: &str, number: u64) {
        self.value(key, format_args!("\"{number:#x}\""));
    }

    /// An array member.
    pub fn array<T: Display>(&mut self, key: &str, items: impl Iterator<Item = T>) {
        let mut array = String::from("[");
        for (index, item) in items.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(array, "{comma}{item}").expect("the heap has room for a report");
        }
        self.value(key, format_args!("{array}]"));
    }
}

/// A text with what JSON does not allow inside a string escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '"' | '\\' => write!(f, "\\{char}"),
            '\0'..' ' => write!(f, "\\u{:04x}", u32::from(char)),
            _ => f.write_char(char),
        })
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{{{}}}", self.text)
    }
}
