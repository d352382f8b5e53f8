//! Percent-encoding (RFC 3986, 2.1).

/// Undoes percent-encoding, once. `None` where what comes out is no UTF-8, or a `%` stands alone.
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_once_and_has_to_be_utf_8() {
        for (text, expected) in [
            ("plain", Some("plain")),
            ("a%20b%2fc", Some("a b/c")),
            ("Euro%20%E2%82%AC", Some("Euro €")),
            ("100%2525", Some("100%25")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }
}
