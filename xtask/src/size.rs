//! Sizes and addresses as people write them: `256M`, `4G`, `0x100000000`.

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Bytes of `256M`, `4G`, `1T`, `4096` or `0x100000000`.
///
/// # Errors
/// A line that says how to write a size.
pub fn parse(text: &str) -> Result<u64, String> {
    let shifted = UNITS.iter().find_map(|&(unit, shift)| {
        text.strip_suffix([unit, unit.to_ascii_lowercase()]).map(|number| (number, shift))
    });
    let (number, shift) = match shifted {
        Some(found) if !text.starts_with("0x") => found,
        _ => (text, 0),
    };
    digits(number)
        .and_then(|value| value.checked_mul(1 << shift))
        .ok_or_else(|| "write a size like 256M, 4G, 1T or 0x100000000, below 2^64".to_owned())
}

/// A 64-bit number, decimal or with `0x` hexadecimal, `_` allowed.
///
/// # Errors
/// A line that says how to write it.
pub fn number(text: &str) -> Result<u64, String> {
    digits(text).ok_or_else(|| "write a number like 4096 or 0x00e8000100010703".to_owned())
}

/// An address: hexadecimal, with or without `0x`.
///
/// # Errors
/// A line that says how to write it.
pub fn address(text: &str) -> Result<u64, String> {
    let plain = text.trim_start_matches("0x").replace('_', "");
    u64::from_str_radix(&plain, 16).map_err(|_| "write an address like 0xffffffdfc0300000".to_owned())
}

fn digits(text: &str) -> Option<u64> {
    let plain = text.replace('_', "");
    match plain.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => plain.parse().ok(),
    }
}

/// Bytes in the largest unit that divides them: `1 GiB`, `192 KiB`, `100 bytes`.
#[must_use]
pub fn human(bytes: u64) -> String {
    let fits = |shift: u32| bytes != 0 && bytes.trailing_zeros() >= shift;
    match UNITS.iter().rev().find(|&&(_, shift)| fits(shift)) {
        Some(&(unit, shift)) => format!("{} {unit}iB", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_a_unit_or_in_hexadecimal() {
        for (text, bytes) in [("256M", 256 << 20), ("4g", 4 << 30), ("1T", 1 << 40), ("8K", 8192), ("0x10", 16)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in ["", "G", "1P", "-1", "12x", "16777216T", "0x1G"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_hexadecimal_with_or_without_the_prefix() {
        assert_eq!(address("ffffffdfc0300000"), address("0xffffffdf_c0300000"));
        assert!(address("0xfg").is_err());
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_divides_them() {
        assert_eq!([human(1 << 30), human(192 << 10), human(100), human(0)], ["1 GiB", "192 KiB", "100 bytes", "0 bytes"]);
    }
}
