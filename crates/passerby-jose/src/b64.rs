//! base64url without padding (RFC 4648 section 5), in its only spelling.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// How long `n` bytes are when encoded.
pub(crate) const fn encoded_len(n: usize) -> usize {
    (n * 4).div_ceil(3)
}

/// As text.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Appends the text to `out`.
pub fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + encoded_len(bytes.len()), 0);
    write(bytes, &mut out[at..]);
}

/// Fills `out`, which must have exactly the encoded length.
pub(crate) fn write(bytes: &[u8], out: &mut [u8]) {
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, out);
    debug_assert!(written.is_ok(), "callers size `out` by `encoded_len`");
}

/// The bytes of a text; `None` for another alphabet, padding, white space, or trailing bits that are not zero.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The same for a value whose length is known; `None` for any other length.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != encoded_len(N) {
        return None;
    }
    (URL_SAFE_NO_PAD.decode_slice_unchecked(text, &mut out).ok()? == N).then_some(out)
}

/// Whether [`decode`] would read the text, without decoding it.
pub(crate) fn is_valid(text: &str) -> bool {
    let text = text.as_bytes();
    let Some(&last) = text.last() else { return true };
    if !text.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) {
        return false;
    }
    let value = match last {
        b'A'..=b'Z' => last - b'A',
        b'a'..=b'z' => last - b'a' + 26,
        b'0'..=b'9' => last - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    // what the last character has beyond whole bytes must be zero
    match text.len() % 4 {
        0 => true,
        2 => value.trailing_zeros() >= 4,
        3 => value.trailing_zeros() >= 2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_spelling_only() {
        // RFC 7515 appendix C
        assert_eq!(encode(&[3, 236, 255, 224, 193]), "A-z_4ME");
        assert_eq!(decode("A-z_4ME").unwrap(), [3, 236, 255, 224, 193]);
        for wrong in ["A-z_4ME=", "A-z_4MF", "A+z/4ME", "A-z_4 ME", "A-z_4ME\n", "A", "AAAAA", "A-z_4Mé", "AB"] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
            assert!(!is_valid(wrong), "{wrong:?}");
        }
        assert_eq!(decode(""), Some(vec![]));
        assert_eq!(decode_array::<5>("A-z_4ME"), Some([3, 236, 255, 224, 193]));
        assert_eq!(decode_array::<4>("A-z_4ME"), None);
        assert_eq!(decode_array::<5>("A-z_4MF"), None);
    }

    proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>, before: Vec<u8>) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), encoded_len(bytes.len()));
            prop_assert!(is_valid(&text));
            let mut out = before.clone();
            encode_into(&bytes, &mut out);
            prop_assert_eq!(&out[before.len()..], text.as_bytes());
            prop_assert_eq!(decode(&text), Some(bytes));
        }

        #[test]
        fn is_valid_says_what_decode_says(text in "[A-Za-z0-9_=+ -]{0,12}|\\PC{0,6}") {
            let bytes = decode(&text);
            prop_assert_eq!(is_valid(&text), bytes.is_some());
            if let Some(bytes) = bytes {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
