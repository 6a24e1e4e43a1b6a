//! Lists by pages: newest first, from an opaque cursor on.

use passerby_jose::b64;

use crate::{Code, Error};

/// Items of a page unless another number is asked for.
const ITEMS: usize = 25;

/// Items that a page has at most.
const MOST: usize = 100;

/// Which page, as sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct PageRequest<'a> {
    /// Where the page before ended.
    pub cursor: Option<&'a str>,
    /// 1 to 100; 25 unless given.
    pub limit: Option<&'a str>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next one begins; `None`: there is none.
    pub cursor: Option<String>,
}

impl PageRequest<'_> {
    /// The place below which the page begins, and how many items it has. `list` is the letter of the list: a cursor of one
    /// is none of another.
    ///
    /// # Errors
    /// [`Code::InvalidValue`].
    pub(crate) fn read<const N: usize>(&self, list: u8) -> Result<(Option<[u8; N]>, usize), Error> {
        let limit = match self.limit {
            None => ITEMS,
            Some(text) => {
                let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
                let n = digits.then(|| text.parse().ok()).flatten().filter(|n| (1..=MOST).contains(n));
                n.ok_or_else(|| Error::at(Code::InvalidValue, "limit", "Expected a number from 1 to 100."))?
            }
        };
        let before = match self.cursor {
            None => None,
            Some(text) => {
                let bytes = b64::decode(text).filter(|b| b.len() == N + 1 && b[0] == list);
                let id = bytes.and_then(|b| <[u8; N]>::try_from(&b[1..]).ok());
                let bad = || Error::at(Code::InvalidValue, "cursor", "Expected a cursor of this list.");
                Some(id.ok_or_else(bad)?)
            }
        };
        Ok((before, limit))
    }
}

impl<T> Page<T> {
    /// Of one item more than asked for, where there are as many.
    pub(crate) fn cut<const N: usize>(mut items: Vec<T>, limit: usize, list: u8, id: impl Fn(&T) -> [u8; N]) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let cursor = items.last().filter(|_| more).map(|last| b64::encode(&[&[list], &id(last)[..]].concat()));
        Self { items, cursor }
    }

    pub(crate) fn map<U>(self, make: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(make).collect(), cursor: self.cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let id = |n: &u8| [*n; 16];
        let first = Page::cut(vec![9, 8, 7], 2, b'u', id);
        assert_eq!(first.items, [9, 8]);
        let cursor = first.cursor.unwrap();
        let next = PageRequest { cursor: Some(&cursor), limit: Some("100") };
        assert_eq!(next.read(b'u').unwrap(), (Some([8; 16]), 100));
        assert_eq!(next.read::<16>(b'k').unwrap_err().field.as_deref(), Some("cursor"));
        assert_eq!(PageRequest::default().read::<24>(b'u').unwrap(), (None, 25));
        for items in [vec![7, 6], vec![7], vec![]] {
            assert!(Page::cut(items, 2, b'u', id).cursor.is_none());
        }
        for limit in ["0", "101", "-1", "+5", "", "1e1", "ten", " 5", "0000005"] {
            let page = PageRequest { cursor: None, limit: Some(limit) };
            assert_eq!(page.read::<16>(b'u').unwrap_err().field.as_deref(), Some("limit"), "{limit}");
        }
        for cursor in ["", "x", "dQ", &b64::encode(&[b'u'; 18]), "=="] {
            let page = PageRequest { cursor: Some(cursor), limit: None };
            assert_eq!(page.read::<16>(b'u').unwrap_err().field.as_deref(), Some("cursor"), "{cursor}");
        }
    }
}
