//! Numbers in sentences for people: `1 device`, `2 devices`.

/// The number with its noun, in the plural unless it is one. The nouns of this house all end in `s` then.
pub fn counted(n: impl Into<u64>, noun: &str) -> String {
    match n.into() {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// The form of a verb that `n` of something take: `1 device starts`, `2 devices start`.
pub fn verb(n: impl Into<u64>, one: &'static str, more: &'static str) -> &'static str {
    if n.into() == 1 { one } else { more }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let said: Vec<String> = [0_u32, 1, 2].map(|n| counted(n, "device")).into();
        assert_eq!(said, ["0 devices", "1 device", "2 devices"]);
        assert_eq!(
            [verb(1_u32, "starts", "start"), verb(0_u32, "starts", "start")],
            ["starts", "start"]
        );
    }
}
