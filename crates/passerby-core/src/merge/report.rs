//! Where in the data a walk stands, and the bounded list of what it met.

use crate::profile::{LONGEST_FIELD, append_step};

/// So many conflicts are listed at most.
pub const MAX_LISTED: usize = 1_000;

/// The JSON pointer (RFC 6901) to where a walk stands.
#[derive(Default)]
pub(super) struct Path(String);

impl Path {
    /// One step down; the answer leads back by [`Path::leave`].
    pub(super) fn enter(&mut self, step: &str) -> usize {
        let length = self.0.len();
        append_step(&mut self.0, step);
        length
    }

    pub(super) fn leave(&mut self, length: usize) {
        self.0.truncate(length);
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The pointer for an error: cut after a whole step, as every error's is.
    pub(super) fn field(&self) -> &str {
        let ends = self.0.match_indices('/').map(|(at, _)| at).chain([self.0.len()]);
        &self.0[..ends.take_while(|end| *end <= LONGEST_FIELD).last().unwrap_or(0)]
    }
}

/// A list that ends after [`MAX_LISTED`] items or when the texts in it outgrow what they were made of, so that an answer
/// stays in proportion to the data whatever somebody stored.
pub(super) struct Report<T> {
    items: Vec<T>,
    room: usize,
    more: bool,
}

impl<T> Report<T> {
    /// For data of so many bytes. The text of one item always fits: values are part of the data, and a pointer is at
    /// most twice as long as the names that it is made of.
    pub(super) fn new(data: usize) -> Self {
        Self { items: Vec::new(), room: data.saturating_mul(4), more: false }
    }

    /// Adds an item of so many bytes, while there is room; after the first that is left out all are.
    pub(super) fn add(&mut self, bytes: usize, item: impl FnOnce() -> T) {
        if self.more || self.items.len() >= MAX_LISTED || bytes > self.room {
            self.more = true;
            return;
        }
        self.room -= bytes;
        self.items.push(item());
    }

    /// The items, and whether some were left out.
    pub(super) fn finish(self) -> (Vec<T>, bool) {
        (self.items, self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_down_and_up() {
        let mut path = Path::default();
        assert_eq!(path.text(), "");
        let root = path.enter("a/b");
        let one = path.enter("~é");
        assert_eq!(path.text(), "/a~1b/~0é");
        path.leave(one);
        assert_eq!(path.text(), "/a~1b");
        path.leave(root);
        assert_eq!((path.text(), path.field()), ("", ""));
    }

    #[test]
    fn an_errors_path_is_cut_after_a_whole_step() {
        let mut path = Path::default();
        path.enter(&"é".repeat(250));
        assert_eq!(path.field(), path.text());
        path.enter(&"x".repeat(10));
        assert_eq!(path.field(), path.text());
        path.enter("y");
        assert_eq!(path.field().len(), 1 + 500 + 1 + 10);
        let mut long = Path::default();
        long.enter(&"z".repeat(1000));
        assert_eq!(long.field(), "");
    }

    #[test]
    fn a_report_is_bounded() {
        let mut report = Report::new(1_000_000);
        (0..MAX_LISTED).for_each(|i| report.add(1, || i));
        assert!(!report.more);
        report.add(1, || 0);
        assert_eq!(report.finish(), ((0..MAX_LISTED).collect(), true));
        let mut report = Report::new(2);
        for (bytes, i) in [(5, 0), (3, 1), (1, 2), (0, 3)] {
            report.add(bytes, || i);
        }
        assert_eq!(report.finish(), (vec![0, 1], true));
    }
}
