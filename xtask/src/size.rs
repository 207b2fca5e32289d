//! Sizes, addresses and descriptors as people write them.

use vmemmap::granule::SUBSECTION_BYTES;

use crate::status::Stop;

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Bytes of `256M`, `4G`, `1T`, `4096` or `0x100000000`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with([*unit, unit.to_ascii_lowercase()]));
    let (number, shift) = unit.map_or((text, 0), |&(_, shift)| (&text[..text.len() - 1], shift));
    let value = match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    };
    let bytes = value.and_then(|value: u64| value.checked_mul(1 << shift));
    bytes.ok_or_else(|| "write a size like 256M, 4G, 1T or 0x100000000, below 2^64".to_owned())
}

/// An address or a descriptor: hexadecimal, with or without `0x`.
pub fn hex(text: &str) -> Result<u64, String> {
    let digits = text.trim_start_matches("0x").replace('_', "");
    u64::from_str_radix(&digits, 16).map_err(|_| "write 64 bits in hexadecimal, like 0xffffffdfc0300000".to_owned())
}

/// Bytes in the largest unit that divides them: `1 GiB`, `192 KiB`, `100 bytes`.
pub fn human(bytes: u64) -> String {
    match UNITS.iter().rev().find(|&&(_, shift)| bytes != 0 && bytes.trailing_zeros() >= shift) {
        Some(&(unit, shift)) => format!("{} {unit}iB", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

/// Refuses a size or an address in which hot-plug does not work, or one below `least` sub-sections.
pub fn whole_subsections(name: &str, value: u64, least: u64) -> Result<(), Stop> {
    let least = least * SUBSECTION_BYTES;
    if value >= least && value.is_multiple_of(SUBSECTION_BYTES) {
        return Ok(());
    }
    let below = (value - value % SUBSECTION_BYTES).max(least);
    let above = value.checked_next_multiple_of(SUBSECTION_BYTES).unwrap_or(below);
    let nearest = if value.abs_diff(below) < above.abs_diff(value) { below } else { above.max(least) };
    let rule = "hot-plug works in multiples of 2 MiB";
    Err(Stop::refused(format!("{name} {value:#x}: {rule}; {nearest:#x} would do")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_a_unit_or_in_hexadecimal() {
        for (text, wanted) in [("256M", 256 << 20), ("4g", 4 << 30), ("1T", 1 << 40), ("8192", 8192), ("0x10", 16)] {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for text in ["", "G", "1P", "-1", "12x", "16777216T", "lots"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bits_are_hexadecimal_with_or_without_the_prefix() {
        assert_eq!(hex("ffffffdfc0300000"), hex("0xffffffdf_c0300000"));
        assert!(hex("0xfg").is_err());
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_divides_them() {
        assert_eq!([1 << 30, 192 << 10, 100, 0].map(human), ["1 GiB", "192 KiB", "100 bytes", "0 bytes"]);
    }
}
