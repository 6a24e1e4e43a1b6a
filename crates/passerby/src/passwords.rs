//! The file of breached passwords that an operator may name. Two forms are taken:
//!
//! - Any text file up to 64 MiB: a line is the SHA-1 of a password (40 hexadecimal digits, with `:count` behind it or
//!   not) or a password itself. It is held in memory, twenty bytes a line.
//! - A larger file of SHA-1 lines alone, sorted, as the corpus of Have I Been Pwned is given out: some 40 GB. It is searched
//!   where it lies, with a few dozen reads for each new password, and may be replaced (by renaming) while the server runs.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use passerby_core::password::{BreachedList, Password};

/// Files up to this size are held in memory.
const IN_MEMORY: u64 = 64 * 1024 * 1024;

/// One read of a search: a whole line is in it wherever it begins.
const READ: usize = 256;

/// What is left of the search is read at once.
const REST: u64 = 4096;

/// So many places of a sorted file are looked at before it is trusted.
const SAMPLES: u64 = 512;

type Hash = [u8; 20];

/// A list of breached passwords.
#[derive(Debug, Clone)]
pub struct BreachedFile(Kept);

#[derive(Clone)]
enum Kept {
    /// Sorted.
    Memory(Vec<Hash>),
    /// A sorted file.
    Disk(PathBuf),
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(list) => write!(f, "{} hashes in memory", list.len()),
            Self::Disk(path) => write!(f, "{}", path.display()),
        }
    }
}

impl BreachedFile {
    /// Reads the file, or makes sure that it can be searched.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(path: &Path) -> Result<Self, String> {
        Self::open_at_most(path, IN_MEMORY)
    }

    fn open_at_most(path: &Path, in_memory: u64) -> Result<Self, String> {
        let cannot = |e: io::Error| format!("{} cannot be read: {e}", path.display());
        let length = std::fs::metadata(path).map_err(cannot)?.len();
        if length > in_memory {
            let mut sorted = Sorted::open(path).map_err(|e| e.to_string())?;
            sorted.examine().map_err(|e| {
                format!(
                    "{}: {e}; a file of more than {} MiB has sorted lines of SHA-1 hashes",
                    path.display(),
                    IN_MEMORY >> 20
                )
            })?;
            return Ok(Self(Kept::Disk(path.to_owned())));
        }
        let text = std::fs::read(path).map_err(cannot)?;
        let mut list: Vec<Hash> = text.split(|b| *b == b'\n').filter_map(read).collect();
        if list.is_empty() {
            return Err(format!("{} names no password", path.display()));
        }
        list.sort_unstable();
        list.dedup();
        Ok(Self(Kept::Memory(list)))
    }
}

impl BreachedList for BreachedFile {
    fn contains(&self, sha1: &Hash) -> Result<bool, String> {
        match &self.0 {
            Kept::Memory(list) => Ok(list.binary_search(sha1).is_ok()),
            // opened anew each time: so threads do not wait for each other, and a new file counts at once
            Kept::Disk(path) => Sorted::open(path).and_then(|mut file| file.contains(sha1)).map_err(|e| e.to_string()),
        }
    }
}

/// A line of a small file: a hash, or a password. Nothing where it is empty or could not be a password here.
fn read(line: &[u8]) -> Option<Hash> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    hash(line).or_else(|| Some(Password::new(std::str::from_utf8(line).ok()?).ok()?.sha1()))
}

/// 40 hexadecimal digits, then nothing or a colon and a count.
fn hash(line: &[u8]) -> Option<Hash> {
    let (digits, rest) = line.split_at_checked(40)?;
    let counts = match rest.strip_prefix(b":") {
        Some(count) => !count.is_empty() && count.iter().all(u8::is_ascii_digit),
        None => rest.is_empty(),
    };
    let digit = |b: u8| char::from(b).to_digit(16);
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    counts.then_some(hash)
}

/// A sorted file while it is searched.
struct Sorted {
    file: File,
    length: u64,
}

impl Sorted {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// As much of `into` as the file has from there.
    fn read_at<'a>(&mut self, at: u64, into: &'a mut [u8]) -> io::Result<&'a [u8]> {
        self.file.seek(SeekFrom::Start(at))?;
        let mut filled = 0;
        while filled < into.len() {
            match self.file.read(&mut into[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(&into[..filled])
    }

    /// The first line that begins behind `at`, and where; `None`: there is none.
    fn line_behind(&mut self, at: u64) -> io::Result<Option<(u64, Hash)>> {
        let mut buffer = [0; READ];
        let bytes = self.read_at(at, &mut buffer)?;
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
            return if at + bytes.len() as u64 >= self.length { Ok(None) } else { Err(odd()) };
        };
        let (start, line) = (at + end as u64 + 1, &bytes[end + 1..]);
        if start >= self.length {
            return Ok(None);
        }
        first(line).map(|hash| Some((start, hash)))
    }

    fn contains(&mut self, wanted: &Hash) -> io::Result<bool> {
        // a line begins at `low` and is not behind the wanted one; the wanted one begins before `high`
        let (mut low, mut high) = (0, self.length);
        while high - low > REST {
            let middle = low.midpoint(high);
            match self.line_behind(middle)? {
                Some((start, hash)) if start < high => match hash.cmp(wanted) {
                    std::cmp::Ordering::Equal => return Ok(true),
                    std::cmp::Ordering::Less => low = start,
                    std::cmp::Ordering::Greater => high = start,
                },
                // no line begins between
                _ => high = middle + 1,
            }
        }
        let mut buffer = [0; REST as usize + READ];
        let rest = self.read_at(low, &mut buffer)?;
        let mut start = 0;
        while start < rest.len() && low + (start as u64) < high {
            if first(&rest[start..])? == *wanted {
                return Ok(true);
            }
            let Some(end) = rest[start..].iter().position(|b| *b == b'\n') else { break };
            start += end + 1;
        }
        Ok(false)
    }

    /// Looks at places all over the file: each must be a hash, each behind the one before.
    fn examine(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ];
        let mut last = first(self.read_at(0, &mut buffer)?)?;
        for sample in 0..SAMPLES {
            let at = self.length / SAMPLES * sample;
            let Some((_, hash)) = self.line_behind(at)? else { break };
            if hash < last {
                return Err(io::Error::other("its lines are not sorted"));
            }
            last = hash;
        }
        // the end is where a cut copy shows
        let tail = self.read_at(self.length.saturating_sub(READ as u64), &mut buffer)?;
        let tail = tail.strip_suffix(b"\n").unwrap_or(tail);
        let line = tail.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        if first(line)? < last { Err(io::Error::other("its lines are not sorted")) } else { Ok(()) }
    }
}

/// The line that these bytes begin with.
fn first(bytes: &[u8]) -> io::Result<Hash> {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let line = &bytes[..end];
    hash(line.strip_suffix(b"\r").unwrap_or(line)).ok_or_else(odd)
}

fn odd() -> io::Error {
    io::Error::other("it has a line that is no SHA-1 hash")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use passerby_core::password::PasswordPolicy;
    use proptest::prelude::*;

    use super::*;

    fn hex(hash: &Hash) -> String {
        hash.iter().fold(String::new(), |mut text, b| {
            let _ = write!(text, "{b:02X}");
            text
        })
    }

    fn hash_of(n: u32) -> Hash {
        passerby_jose::sha1(&n.to_be_bytes())
    }

    fn file(text: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn small_files_hold_hashes_and_passwords_in_any_order() {
        let f = file(format!(
            "correct horse battery\r\n\n{}:17\ncaf\u{e9} au lait\n{}",
            hex(&hash_of(1)),
            hex(&hash_of(2)).to_lowercase()
        ));
        let list = BreachedFile::open(f.path()).unwrap();
        assert!(list.contains(&hash_of(1)).unwrap() && list.contains(&hash_of(2)).unwrap());
        assert!(!list.contains(&hash_of(3)).unwrap());
        let check =
            |text: &str| PasswordPolicy::default().check(&Password::new(text).unwrap(), &[], Some(&list)).is_ok();
        assert!(!check("correct horse battery") && !check("cafe\u{301}\u{a0}au lait"));
        assert!(check("correct horse battery staple"));
    }

    #[test]
    fn a_sorted_file_is_searched_where_it_lies() {
        for (count, end, last) in
            [(3u32, "\n", "\n"), (2000, "\r\n", "\r\n"), (2000, "\n", ""), (2000, ":12345678\r\n", "")]
        {
            let mut hashes: Vec<Hash> = (0..count).map(hash_of).collect();
            hashes.sort_unstable();
            let lines: Vec<String> = hashes.iter().map(hex).collect();
            let f = file(lines.join(end) + last);
            let list = BreachedFile::open_at_most(f.path(), 10).unwrap();
            assert!(matches!(list.0, Kept::Disk(_)));
            for n in 0..count {
                assert!(list.contains(&hash_of(n)).unwrap(), "{n} of {count} with {end:?}");
                assert!(!list.contains(&hash_of(n + 1_000_000)).unwrap());
            }
            assert!(!list.contains(&[0; 20]).unwrap() && !list.contains(&[255; 20]).unwrap());
        }
    }

    #[test]
    fn a_new_file_counts_at_once_and_a_missing_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, hex(&hash_of(1))).unwrap();
        let list = BreachedFile::open_at_most(&path, 10).unwrap();
        std::fs::write(&path, hex(&hash_of(2))).unwrap();
        assert!(list.contains(&hash_of(2)).unwrap() && !list.contains(&hash_of(1)).unwrap());
        std::fs::write(&path, "<html>").unwrap();
        assert!(list.contains(&hash_of(2)).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(list.contains(&hash_of(2)).is_err());
    }

    #[test]
    fn what_cannot_be_searched_is_refused_at_the_start() {
        let mut hashes: Vec<String> = (0..5000).map(|n| hex(&hash_of(n))).collect();
        let open = |text: String| BreachedFile::open_at_most(file(text).path(), 10).map(|_| ()).unwrap_err();
        assert!(open(hashes.join("\n")).contains("not sorted"));
        hashes.sort_unstable();
        for broken in [
            format!("password\n{}", hashes.join("\n")),
            format!("{}\npassword", hashes.join("\n")),
            format!("{}\n\n", hashes.join("\n")),
            "x".repeat(100_000),
            hashes.concat(),
        ] {
            assert!(open(broken).contains("no SHA-1 hash; a file of more than 64 MiB has sorted lines"));
        }
        assert!(BreachedFile::open(file("\n\r\n").path()).unwrap_err().ends_with("names no password"));
        assert!(BreachedFile::open(Path::new("no/such/list")).unwrap_err().contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn any_file_is_answered(bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..9000),
            "([0-9A-F]{40}(:[0-9]{1,5})?\r?\n|[a-z]{0,300}\n?){0,200}".prop_map(String::into_bytes),
        ]) {
            let f = file(&bytes);
            if let Ok(mut sorted) = Sorted::open(f.path()) {
                let _ = sorted.examine();
                let _ = sorted.contains(&hash_of(1));
            }
            let _ = BreachedFile::open(f.path());
        }
    }
}
