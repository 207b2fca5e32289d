//! Reading a trace back, line by line.

use super::{Event, Header, Word};
use crate::granule::GranuleSize;

/// Why a line is no event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    /// The first word names no event.
    #[error("there is no event {0:?}")]
    Event(Word),
    /// A key that the event needs is not there.
    #[error("{event:?} needs {key}")]
    Missing {
        /// The event.
        event: Word,
        /// The key, or what stands in its place.
        key: &'static str,
    },
    /// A value is no number, or too large.
    #[error("{value:?} is no number that {key} may have")]
    Number {
        /// Its key.
        key: &'static str,
        /// The value.
        value: Word,
    },
    /// Another version than 1.
    #[error("version {0} of the format; this reads version 1")]
    Version(u64),
    /// A granule that does not exist.
    #[error("there is no granule {0:?}; there are 4k, 16k and 64k")]
    Granule(Word),
}

impl Event {
    /// Reads a line; `None` for one that is empty or a comment.
    ///
    /// # Errors
    ///
    /// [`ParseError`] if it is neither that nor an event. Unknown keys are ignored.
    pub fn parse(line: &str) -> Result<Option<Self>, ParseError> {
        let mut words = words(line);
        let Some(name) = words.next() else { return Ok(None) };
        Line { name, rest: line }.event().map(Some)
    }
}

/// The words of a line up to a comment; blanks and `#` between double quotes belong to their word.
fn words(line: &str) -> impl Iterator<Item = &str> + Clone {
    let mut rest = line;
    core::iter::from_fn(move || {
        rest = rest.trim_start();
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            !quoted && c.is_whitespace()
        });
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        rest = if word.starts_with('#') { "" } else { tail };
        (!word.is_empty() && !word.starts_with('#')).then_some(word)
    })
}

struct Line<'a> {
    name: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn event(&self) -> Result<Event, ParseError> {
        let cpu = self.small("cpu", Some(0))?;
        Ok(match self.name {
            "trace" => Event::Trace(self.header()?),
            "regs" => Event::Regs {
                cpu,
                ttbr1: self.number("ttbr1")?,
                tcr: self.number("tcr")?,
                mair: self.number("mair")?,
                sctlr: self.number("sctlr")?,
            },
            "table" => Event::Table { pa: self.number("pa")?, level: self.level()?, va: self.number("va")? },
            "slot" => Event::Slot { pa: self.number("pa")?, value: self.number("value")? },
            "begin" => {
                Event::Begin { cpu, op: self.word("op")?, start: self.or_zero("start")?, end: self.or_zero("end")? }
            }
            "end" => Event::End { cpu, op: self.word("op")?, result: self.or_zero("result")?.cast_signed() },
            "alloc" => Event::Alloc { pa: self.number("pa")?, len: self.number("len")?, from: self.word("from")? },
            "free" => Event::Free { pa: self.number("pa")?, len: self.number("len")?, to: self.word("to")? },
            "zero" => Event::Zero { cpu, pa: self.number("pa")?, len: self.number("len")? },
            "write" => {
                Event::Write { cpu, slot: self.number("slot")?, old: self.number("old")?, new: self.number("new")? }
            }
            "dsb" => Event::Dsb { cpu, option: self.bare("its option")? },
            "dmb" => Event::Dmb { cpu, option: self.bare("its option")? },
            "isb" => Event::Isb { cpu },
            "tlbi" => self.tlbi(cpu)?,
            "touch" => Event::Touch { cpu, va: self.number("va")?, write: self.number("write")? != 0 },
            other => return Err(ParseError::Event(Word::new(other))),
        })
    }

    fn header(&self) -> Result<Header, ParseError> {
        let version = self.number("version")?;
        if version != 1 {
            return Err(ParseError::Version(version));
        }
        let name = self.text("granule")?;
        let granule = GranuleSize::ALL.into_iter().find(|granule| granule.name() == name);
        Ok(Header {
            granule: granule.ok_or(ParseError::Granule(Word::new(name)))?,
            va_bits: u32::from(self.small("va_bits", None)?),
            pa_bits: u32::from(self.small("pa_bits", None)?),
            cpus: u32::from(self.small("cpus", None)?),
        })
    }

    fn tlbi(&self, cpu: u8) -> Result<Event, ParseError> {
        let mut bare = self.bare_words();
        let op = Word::new(bare.next().ok_or_else(|| self.missing("its operation"))?);
        let operand = bare.next().map(|text| number("its operand", text)).transpose()?;
        Ok(Event::Tlbi { cpu, op, operand })
    }

    /// Words without a key, behind the name.
    fn bare_words(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        words(self.rest).skip(1).filter(|word| !word.contains('='))
    }

    fn bare(&self, what: &'static str) -> Result<Word, ParseError> {
        self.bare_words().next().map(Word::new).ok_or_else(|| self.missing(what))
    }

    fn missing(&self, key: &'static str) -> ParseError {
        ParseError::Missing { event: Word::new(self.name), key }
    }

    fn find(&self, key: &str) -> Option<&'a str> {
        words(self.rest).find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn text(&self, key: &'static str) -> Result<&'a str, ParseError> {
        self.find(key).ok_or_else(|| self.missing(key))
    }

    fn word(&self, key: &'static str) -> Result<Word, ParseError> {
        self.text(key).map(Word::new)
    }

    fn number(&self, key: &'static str) -> Result<u64, ParseError> {
        number(key, self.text(key)?)
    }

    fn or_zero(&self, key: &'static str) -> Result<u64, ParseError> {
        self.find(key).map_or(Ok(0), |text| number(key, text))
    }

    fn small(&self, key: &'static str, otherwise: Option<u8>) -> Result<u8, ParseError> {
        match (self.find(key), otherwise) {
            (None, Some(value)) => Ok(value),
            (None, None) => Err(self.missing(key)),
            (Some(text), _) => {
                u8::try_from(number(key, text)?).map_err(|_| ParseError::Number { key, value: Word::new(text) })
            }
        }
    }

    fn level(&self) -> Result<i8, ParseError> {
        let text = self.text("level")?;
        let level = text.parse().ok().filter(|level| (-1..=3).contains(level));
        level.ok_or(ParseError::Number { key: "level", value: Word::new(text) })
    }
}

/// Hexadecimal with `0x`, else decimal; a negative one modulo 2^64.
fn number(key: &'static str, text: &str) -> Result<u64, ParseError> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok().or_else(|| text.parse::<i64>().ok().map(i64::cast_unsigned)),
    };
    value.ok_or(ParseError::Number { key, value: Word::new(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_prints_as_the_line_that_it_is_read_from() {
        let lines = [
            "trace version=1 granule=64k va_bits=48 pa_bits=52 cpus=4",
            "regs cpu=1 ttbr1=0x40610000 tcr=0x1b5f5507510 mair=0x40044ffff sctlr=0x20000003474591d",
            "table pa=0x40610000 level=-1 va=0xffff000000000000",
            "slot pa=0x40610100 value=0x1000000040b00003",
            "begin cpu=0 op=add start=0x9000000000 end=0x9040000000",
            "end cpu=0 op=remove result=-12",
            "alloc pa=0x609c0000 len=0x10000 from=ram",
            "zero cpu=0 pa=0x609c0000 len=0x10000",
            "write cpu=3 slot=0x4086f998 old=0x0 new=0xe80000bfff0703",
            "dsb cpu=0 ishst",
            "dmb cpu=0 ish",
            "isb cpu=0",
            "tlbi cpu=0 vaale1is 0xffffffff330",
            "tlbi cpu=0 vmalle1is",
            "free pa=0x609c0000 len=0x10000 to=altmap",
            "touch cpu=2 va=0xffffffdfc0b00840 write=1",
        ];
        for line in lines {
            assert_eq!(Event::parse(line).unwrap().unwrap().to_string(), line);
        }
    }

    #[test]
    fn comments_blanks_and_unknown_keys_are_passed_over() {
        assert_eq!(Event::parse("  # nothing"), Ok(None));
        assert_eq!(Event::parse(""), Ok(None));
        let line = r#"trace version=1 granule=4k va_bits=48 pa_bits=48 cpus=1 source="a # b cpus=9" # end"#;
        assert!(matches!(Event::parse(line), Ok(Some(Event::Trace(Header { cpus: 1, .. })))));
        let irq = Event::parse("dsb cpu=0 sy ctx=irq").unwrap().unwrap();
        assert_eq!(irq, Event::Dsb { cpu: 0, option: Word::new("sy") });
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        let why = |line| Event::parse(line).unwrap_err().to_string();
        assert_eq!(why("jump cpu=0"), "there is no event jump");
        assert_eq!(why("write cpu=0 slot=0x10 old=0x0"), "write needs new");
        assert_eq!(why("zero cpu=0 pa=0xg len=1"), "0xg is no number that pa may have");
        assert_eq!(why("isb cpu=300"), "300 is no number that cpu may have");
        assert_eq!(why("trace version=2 granule=4k"), "version 2 of the format; this reads version 1");
        assert_eq!(why("table pa=0x0 level=4 va=0x0"), "4 is no number that level may have");
        assert_eq!(why("tlbi cpu=0"), "tlbi needs its operation");
    }
}
