//! Where the master key comes from.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use passerby_core::secret::MasterKey;

use super::{At, Given, Place, Problem, Secret};

const EXPECTED: &str =
    "32 random bytes as base64url, 43 characters (for example: openssl rand 32 | basenc --base64url | tr -d =)";

/// The name of the file that development makes.
const DEVELOPMENT_FILE: &str = "passerby.key";

/// One of the places where a master key may be.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// In the environment.
    Environment(At<Secret>),
    /// In a file that must be there.
    File(At<PathBuf>),
    /// In development: in this file, made at the first start.
    Made(PathBuf),
    /// Nowhere: a mistake unless in development.
    Missing,
}

impl MasterKeySource {
    pub(super) fn new(given: Option<&Given<Secret>>, file: Option<At<PathBuf>>, database: &Secret, dev: bool) -> Self {
        if let Some(given) = given {
            return Self::Environment(At { value: given.value.clone(), place: Place::from_source(given.from, "") });
        }
        match file {
            Some(file) => Self::File(file),
            None if dev => Self::Made(beside(database.expose())),
            None => Self::Missing,
        }
    }

    /// Reads the key, in development makes it.
    ///
    /// # Errors
    /// What is missing or malformed; the key itself is never repeated.
    pub fn read(&self) -> Result<MasterKey, Problem> {
        match self {
            Self::Environment(text) => parse(text.expose(), &text.place),
            Self::File(path) => match fs::read_to_string(&path.value) {
                Ok(text) => parse(&text, &path.place),
                Err(e) => Err(path.problem(format!("{} cannot be read: {e}", path.display()))),
            },
            Self::Made(path) => {
                let place = Place::from_source(&path.display().to_string(), "");
                let text = match fs::read_to_string(path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => make(path),
                    other => other,
                };
                let text =
                    text.map_err(|e| place.problem(format!("the development master key cannot be read or made: {e}")))?;
                parse(&text, &place)
            }
            Self::Missing => Err(Place::from_source("PASSERBY_MASTER_KEY", "").problem(missing())),
        }
    }
}

pub(super) fn missing() -> String {
    format!("missing; with dev = false a master key is needed, here or as master_key_file: {EXPECTED}")
}

fn parse(text: &str, place: &Place) -> Result<MasterKey, Problem> {
    MasterKey::parse(text).ok_or_else(|| place.problem(format!("expected {EXPECTED}")))
}

/// Whether a text is no master key, or with `strict` one that was typed rather than drawn.
pub(super) fn fault(text: &str, place: &Place, strict: bool) -> Option<Problem> {
    if let Err(problem) = parse(text, place) {
        return Some(problem);
    }
    // 43 random characters of 64 have some 31 different ones
    let distinct = text.trim().bytes().collect::<std::collections::BTreeSet<_>>().len();
    (strict && distinct < 12).then(|| place.problem(format!("this is not random; expected {EXPECTED}")))
}

/// Beside a SQLite file, else in the working folder.
fn beside(database: &str) -> PathBuf {
    let Some(path) = database.strip_prefix("sqlite:") else { return DEVELOPMENT_FILE.into() };
    let path = path.strip_prefix("//").unwrap_or(path);
    Path::new(path).with_file_name(DEVELOPMENT_FILE)
}

/// Makes the file, readable by its owner only. Of two processes at once one wins and both read its key: the text is
/// complete before it gets its name, and a name is given once.
fn make(path: &Path) -> io::Result<String> {
    use base64::Engine as _;
    let mut bytes = zeroize::Zeroizing::new([0u8; 40]);
    aws_lc_rs::rand::fill(bytes.as_mut()).map_err(|_| io::Error::other("no random bytes to be had"))?;
    let (key, suffix) = bytes.split_at(32);
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
    let suffix = suffix.iter().fold(String::new(), |s, b| format!("{s}{b:02x}"));
    let draft = path.with_file_name(format!("{DEVELOPMENT_FILE}.{suffix}"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    });
    let _ = fs::remove_file(&draft);
    match written {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => fs::read_to_string(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_even_by_many_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passerby.key");
        let texts: Vec<String> = std::thread::scope(|scope| {
            let make_one = || {
                MasterKeySource::Made(path.clone()).read().unwrap();
                fs::read_to_string(&path).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make_one)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|t| *t == texts[0]), "{texts:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn lies_beside_the_file() {
        for (database, key) in [
            ("sqlite:passerby.db", "passerby.key"),
            ("sqlite:data/x.db", "data/passerby.key"),
            ("sqlite:///var/x.db", "/var/passerby.key"),
            ("postgres://u@h/db", "passerby.key"),
        ] {
            assert_eq!(beside(database), Path::new(key), "{database}");
        }
    }

    #[test]
    fn what_is_no_key() {
        let place = Place::from_source("PASSERBY_MASTER_KEY", "");
        for text in ["", "short", "c2VjcmV0IHRoYXQgaXMgdG9vIHNob3J0", &"abcdefghijklmnop".repeat(4)] {
            let problem = fault(text, &place, false).unwrap().to_string();
            assert!(problem.starts_with("PASSERBY_MASTER_KEY: expected 32 random bytes"), "{problem}");
            assert!(text.is_empty() || !problem.contains(text), "a key is not repeated: {problem}");
        }
        let typed = "A".repeat(43);
        assert!(fault(&typed, &place, true).is_some() && fault(&typed, &place, false).is_none());
        assert!(fault("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\n", &place, true).is_none());
    }
}
