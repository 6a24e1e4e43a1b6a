//! `[tenants.sign_in]` and `[passwords]`: how people sign in, and what hashing their passwords may cost.

use std::path::PathBuf;

use passerby_core::{
    identifier::Region,
    password::{HashSettings, PasswordPolicy, PoolSettings},
    settings::{SignIn, SignInMethod},
};

use super::{
    At,
    client::path,
    kind,
    read::{Fault, Section},
};

const KIB: usize = 1024;

/// `[tenants.sign_in]`.
#[derive(Debug, Clone, Default)]
pub struct SignInSettings {
    /// What was set, with the list of breached passwords once it was read.
    pub rules: SignIn,
    /// Where that list is.
    pub breached_passwords_file: Option<At<PathBuf>>,
}

/// `[passwords]`: for all tenants, since cores and memory are the process's.
#[derive(Debug, Clone, Copy)]
pub struct PasswordSettings {
    /// What a new hash costs.
    pub hash: HashSettings,
    /// Threads that hash; `None`: half of the cores.
    pub threads: Option<usize>,
    /// So many may wait for them.
    pub queue: usize,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self { hash: HashSettings::default(), threads: None, queue: 32 }
    }
}

impl PasswordSettings {
    /// The threads, on a machine with so many cores.
    ///
    /// # Errors
    /// A sentence that says which bound was passed; none when it was read from a file.
    pub fn pool(&self, cores: usize) -> Result<PoolSettings, &'static str> {
        // the pool takes half of the cores that it is told of
        PoolSettings::new(self.threads.map_or(cores, |threads| threads * 2), self.queue)
    }
}

pub(super) fn read(s: &mut Section<'_, '_>) -> SignInSettings {
    let mut rules = SignIn::default();
    let words = SignInMethod::ALL.map(|method| format!("{:?}", method.as_str())).join(", ");
    let method = |text: &str| SignInMethod::parse(text).ok_or(Fault::Other);
    if let Some(methods) = s.list("methods", &format!("one of {words}"), method) {
        rules.methods = methods.into_iter().map(|method| method.value).collect();
    }
    if let Some(minimum) = s.number("password_min_length", 8..65)
        && let Ok(policy) = PasswordPolicy::new(minimum.value as usize)
    {
        rules.password = policy;
    }
    let breached_passwords_file = s.parsed("breached_passwords_file", kind::FILE, path);
    let expected = "a country's two letters such as \"DE\" (ISO 3166-1)";
    rules.region = s.parsed("region", expected, |text| Region::parse(text).ok_or(Fault::Other)).map(|x| x.value);
    if let Some(most) = s.number("max_identifiers", 1..101) {
        rules.max_identifiers = most.value as usize;
    }
    SignInSettings { rules, breached_passwords_file }
}

pub(super) fn passwords(s: &mut Section<'_, '_>) -> PasswordSettings {
    let mut settings = PasswordSettings::default();
    let memory = s.parsed("memory", kind::SIZE, |text| kind::size(text, 7 * KIB * KIB, 128 * KIB * KIB));
    let passes = s.number("passes", 1..11);
    let place = memory.as_ref().map(|x| &x.place).or(passes.as_ref().map(|x| &x.place));
    if let Some(place) = place {
        let usual = settings.hash.memory();
        let memory = memory.as_ref().map_or(usual, |x| x.value) / KIB;
        let passes = passes.as_ref().map_or(2, |x| x.value);
        // both are bounded above
        match HashSettings::new(memory as u32, passes as u32, 1) {
            Ok(hash) => settings.hash = hash,
            Err(why) => s.report(place.problem(format!("{why}; found {} KiB", memory as u64 * passes))),
        }
    }
    settings.threads = s.number("threads", 1..257).map(|x| x.value as usize);
    if let Some(queue) = s.number("queue", 1..10_001) {
        settings.queue = queue.value as usize;
    }
    settings
}
