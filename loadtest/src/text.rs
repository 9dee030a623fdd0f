//! Numbers as people read them.

/// A time in microseconds, with the unit that suits it.
pub fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size, with the unit that suits it.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes.abs() < 10_000.0 => format!("{bytes:.0} bytes"),
        bytes if bytes.abs() < 1_048_576.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes if bytes.abs() < 1_073_741_824.0 => format!("{:.1} MiB", bytes / 1_048_576.0),
        bytes => format!("{:.2} GiB", bytes / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let table = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, expected) in table {
            assert_eq!(grouped(number), expected);
        }
        let table = [(12.3, "12 µs"), (1_234.0, "1.23 ms"), (61_500_000.0, "61.50 s")];
        for (us, expected) in table {
            assert_eq!(time(us), expected);
        }
        let table = [(12.0, "12 bytes"), (20_480.0, "20.0 KiB"), (5_242_880.0, "5.0 MiB"), (3.0e9, "2.79 GiB")];
        for (size, expected) in table {
            assert_eq!(bytes(size), expected);
        }
    }
}
