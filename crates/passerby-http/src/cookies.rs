//! The session cookie. It belongs to the tenant's host; on https its name begins with `__Host-`, so that no
//! subdomain can plant one (security checklist 45).

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

const PLAIN: &str = "passerby_session";
const HOST: &str = "__Host-passerby_session";

/// The value of the session cookie. On https (`secure` is asked only when there are cookies) only the `__Host-` name
/// counts; on http either, the first wins.
pub fn read(headers: &HeaderMap, secure: impl FnOnce() -> bool) -> Option<&str> {
    headers.get(COOKIE)?;
    let secure = secure();
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == HOST || (!secure && *name == PLAIN))
        .map(|(_, value)| value)
}

/// Adds the cookie to an answer: out of reach of scripts, for the whole host, sent along by other sites only when the
/// visitor follows a link. `max_age` in seconds. A value that cannot stand in a header is not set.
pub fn set(headers: &mut HeaderMap, value: &str, max_age: u64, secure: bool) {
    let text = if secure {
        format!("{HOST}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax; Secure")
    } else {
        format!("{PLAIN}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax")
    };
    if let Ok(text) = HeaderValue::try_from(text) {
        headers.append(SET_COOKIE, text);
    }
}

/// Takes the cookie away.
pub fn clear(headers: &mut HeaderMap, secure: bool) {
    set(headers, "", 0, secure);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(lines: &[&'static str], secure: bool) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        read(&headers, || secure).map(str::to_owned)
    }

    #[test]
    fn names() {
        assert_eq!(sent(&[], false), None);
        assert_eq!(sent(&["a=1; passerby_session=x; b=2"], false).as_deref(), Some("x"));
        assert_eq!(sent(&["passerby_session=x; passerby_session=y"], false).as_deref(), Some("x"));
        assert_eq!(sent(&["a=1", "__Host-passerby_session=x"], false).as_deref(), Some("x"));
        assert_eq!(sent(&["passerby_session=planted; __Host-passerby_session=x"], true).as_deref(), Some("x"));
        assert_eq!(sent(&["passerby_session=planted"], true), None);
        assert_eq!(sent(&["xpasserby_session=a; Passerby_Session=b"], false), None);
        assert_eq!(sent(&["passerby_session="], false).as_deref(), Some(""));
    }

    #[test]
    fn attributes() {
        let mut headers = HeaderMap::new();
        set(&mut headers, "v", 60, false);
        assert_eq!(headers[SET_COOKIE], "passerby_session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax");
        headers.clear();
        set(&mut headers, "v", 60, true);
        assert_eq!(
            headers[SET_COOKIE],
            "__Host-passerby_session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        headers.clear();
        clear(&mut headers, false);
        assert_eq!(headers[SET_COOKIE], "passerby_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
        headers.clear();
        set(&mut headers, "bad\nvalue", 60, false);
        assert!(headers.is_empty());
    }
}
